# The operators and the Python module, on top of torch. find_package(Torch) is not used: that of a CUDA torch insists
# on a complete CUDA toolkit even where no CUDA code is compiled.
add_library(pygan_torch INTERFACE)
target_link_libraries(pygan_torch INTERFACE pygan_common)
target_include_directories(pygan_torch SYSTEM INTERFACE ${PYGAN_TORCH_INCLUDE_DIRS} ${PYGAN_CUDA_INCLUDE_DIRS}
                                                        "${PYGAN_PYTHON_INCLUDE_DIR}")
# OpenMP at compile time only. Linking with -fopenmp would load the system's libgomp beside the one in torch's
# wheel, and two thread pools spin against each other; unlinked, GOMP_parallel is found in torch's.
target_compile_options(pygan_torch INTERFACE -fopenmp)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  file(GLOB gnu_openmp "${PYGAN_TORCH_LIB_DIR}/libgomp*")
  if(gnu_openmp)
    message(FATAL_ERROR "clang needs LLVM's OpenMP runtime, and this torch brings GNU's: set CXX to g++ 11 or newer.")
  endif()
endif()

# torch's headers take ten seconds to read, most of these files two or three to compile, so files of a kind are one
# translation unit (CMake writes it): a third of the time that each by itself takes.
set(pygan_checks features_checks loss_checks noise_checks noise_meta schemas)
set(pygan_kernels cuda_bridge features_kernels loss_kernels noise_kernels)
set(pygan_autograd features_autograd loss_autograd noise_autograd)
foreach(kind IN ITEMS autograd kernels checks)
  list(TRANSFORM pygan_${kind} REPLACE "(.+)" "csrc/ops/\\1.cpp" OUTPUT_VARIABLE sources)
  set_source_files_properties(${sources} PROPERTIES UNITY_GROUP ${kind})
  target_sources(_C PRIVATE ${sources})
endforeach()
target_sources(_C PRIVATE csrc/bindings.cpp)
set_target_properties(_C PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
target_compile_definitions(_C PRIVATE TORCH_EXTENSION_NAME=_C TORCH_API_INCLUDE_EXTENSION_H)
target_link_libraries(_C PRIVATE pygan_torch)

set(libraries torch_python torch_cpu c10)
if(PYGAN_CUDA)
  list(APPEND libraries torch_cuda c10_cuda)
endif()
foreach(library IN LISTS libraries)
  target_link_libraries(_C PRIVATE "${PYGAN_TORCH_LIB_DIR}/lib${library}.so")
endforeach()

# The wheel must not carry the build machine's paths. torch is imported first, so these are already loaded; the
# entry serves tools that look at the module alone.
set_target_properties(_C PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN/../torch/lib")
