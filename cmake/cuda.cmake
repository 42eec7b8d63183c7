# The CUDA kernels. nvcc is called by a custom command, not through enable_language(CUDA): CMake's test of the
# compiler links a program, which fails with a toolkit made of PyPI wheels (no libcudart.so). The .cu files include
# no torch header and hold everything that the linker needs, so one command a file is all there is to it.
if(NOT PYGAN_CUDA)
  return()
endif()

target_compile_definitions(pygan_common INTERFACE PYGAN_WITH_CUDA=1)

set(pygan_cuda_system "")
foreach(dir IN LISTS PYGAN_CUDA_KERNEL_INCLUDE_DIRS)
  list(APPEND pygan_cuda_system -isystem "${dir}")
endforeach()

# Listed, not taken from nvcc's depfile: CMake would put its own path into the command to convert that file, and as
# pip's build isolation brings another CMake each time, each build would start from nothing.
file(GLOB pygan_cuda_headers CONFIGURE_DEPENDS csrc/cuda/*.h csrc/cuda/*.cuh csrc/launch/*.h
     csrc/math/*.h)

foreach(name IN ITEMS loss_sums loss_pointwise features noise)
  set(source "${CMAKE_SOURCE_DIR}/csrc/cuda/${name}.cu")
  set(object "${CMAKE_BINARY_DIR}/cuda/${name}.o")
  add_custom_command(
    OUTPUT "${object}"
    COMMAND
      "${PYGAN_NVCC}" -c "${source}" -o "${object}" -ccbin "${CMAKE_CXX_COMPILER}" -std=c++20
      -O3 -fmad=false --expt-relaxed-constexpr --threads 2 ${PYGAN_CUDA_GENCODE} -DPYGAN_WITH_CUDA=1
      -I "${CMAKE_SOURCE_DIR}/csrc" ${pygan_cuda_system} -Xptxas=--warn-on-spills,--warn-on-local-memory-usage
      -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off
    DEPENDS "${source}" ${pygan_cuda_headers} "${PYGAN_NVCC}"
    COMMENT "Building CUDA object cuda/${name}.o (${PYGAN_CUDA_ARCHS})"
    COMMAND_EXPAND_LISTS VERBATIM)
  list(APPEND pygan_cuda_objects "${object}")
endforeach()
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/cuda")

# Only the link waits for them: were they sources of _C, its C++ files would all be compiled after them.
add_custom_target(pygan_cuda DEPENDS ${pygan_cuda_objects})
set_target_properties(_C PROPERTIES LINK_DEPENDS "${pygan_cuda_objects}")
target_link_libraries(_C PRIVATE ${pygan_cuda_objects})

# By full path: the wheels have libcudart.so.13 but no libcudart.so, which -lcudart would look for.
target_link_libraries(_C PRIVATE "${PYGAN_CUDART}")
if(PYGAN_CUDART MATCHES "\\.a$")
  target_link_libraries(_C PRIVATE dl pthread rt)
endif()
