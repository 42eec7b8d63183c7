# The CPU kernels: the same files compiled once per instruction set, chosen at run time (csrc/cpu/capability.cpp).
include(CheckCXXCompilerFlag)

function(pygan_cpu_kernels isa)
  add_library(pygan_cpu_${isa} OBJECT csrc/cpu/loss.cpp csrc/cpu/noise.cpp csrc/cpu/features.cpp)
  target_link_libraries(pygan_cpu_${isa} PRIVATE pygan_common)
  target_compile_definitions(pygan_cpu_${isa} PRIVATE PYGAN_CPU_ISA=${isa})
  # No errno and no trapping math, so that loops over sqrt, fma and selects vectorize. Neither changes a value.
  target_compile_options(pygan_cpu_${isa} PRIVATE -O3 -fno-math-errno -fno-trapping-math -fopenmp-simd ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC leaves instructions in source order on x86, the copies of an unrolled loop one behind the other. Scheduled,
    # they overlap (measured: sums of a loss with AVX-512 0.64 -> 0.58, with AVX2 1.20 -> 1.12 ns a logit).
    target_compile_options(pygan_cpu_${isa} PRIVATE -fschedule-insns -fsched-pressure)
  endif()
  target_link_libraries(_C PRIVATE pygan_cpu_${isa})
endfunction()

pygan_cpu_kernels(baseline)

set(avx2_flags -mavx2 -mfma -mf16c)
set(avx512_flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512 -Wno-uninitialized -Wno-maybe-uninitialized)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(JOIN avx512_flags " " flags)
  check_cxx_compiler_flag("-mavx2 -mfma -mf16c ${flags}" PYGAN_COMPILER_HAS_AVX512)
  if(PYGAN_COMPILER_HAS_AVX512)
    target_compile_definitions(pygan_common INTERFACE PYGAN_CPU_X86=1)
    pygan_cpu_kernels(avx2 ${avx2_flags})
    pygan_cpu_kernels(avx512 ${avx512_flags})
  endif()
endif()

target_sources(_C PRIVATE csrc/cpu/capability.cpp)
