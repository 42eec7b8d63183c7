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

target_sources(
  _C
  PRIVATE csrc/bindings.cpp
          csrc/ops/schemas.cpp
          csrc/ops/gan_loss.cpp
          csrc/ops/gan_loss_plan.cpp
          csrc/ops/gan_loss_autograd.cpp
          csrc/ops/features_checks.cpp
          csrc/ops/features_kernels.cpp
          csrc/ops/features_autograd.cpp
          csrc/ops/instance_noise.cpp
          csrc/ops/instance_noise_meta.cpp
          csrc/ops/noise_checks.cpp
          csrc/ops/instance_noise_autograd.cpp
          csrc/ops/cuda_bridge.cpp)
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
