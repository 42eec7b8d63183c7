// PYGAN_HD, which marks every formula in csrc/math: inlined on the host and on the device.
//
// These headers are included by plain C++ (compiled once per instruction set), by nvcc, and by the
// host emulator of the tests. They use no torch, no CUDA header, and no math library function but
// fma and sqrt, which IEEE 754 defines exactly: so a result is the same bits wherever it is
// computed (the build passes -ffp-contract=off / -fmad=false, and every fused multiply-add is
// written out).
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define PYGAN_HD __host__ __device__ __forceinline__
#define PYGAN_UNROLL _Pragma("unroll")
#else
// Always inlined: an out-of-line copy compiled for AVX-512 could otherwise be the one the linker
// keeps for every caller (one definition rule) and crash a machine without it.
#define PYGAN_HD inline __attribute__((always_inline))
#define PYGAN_UNROLL _Pragma("GCC unroll 16")
#endif

namespace pygan {

PYGAN_HD uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
PYGAN_HD uint64_t bits_of(double x) { return __builtin_bit_cast(uint64_t, x); }
PYGAN_HD float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }
PYGAN_HD double double_of(uint64_t bits) { return __builtin_bit_cast(double, bits); }

PYGAN_HD float largest_finite(float) { return 0x1.fffffep+127f; }
PYGAN_HD double largest_finite(double) { return 0x1.fffffffffffffp+1023; }

PYGAN_HD float fma_(float a, float b, float c) { return fmaf(a, b, c); }
PYGAN_HD double fma_(double a, double b, double c) { return fma(a, b, c); }

// a / b for b in [1, 4]. On a GPU, general division calls a subroutine for the ends of the exponent
// range and spills registers around the call. This range has no such ends, so an approximate
// reciprocal, Newton steps and a correction by the remainder do. On an H100 they gave the bits of
// the exact quotient for every float u / (1 + u), and for 2e9 doubles.
PYGAN_HD float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
  const float q = a * r;
  return fma_(fma_(-b, q, a), r, q);
#else
  return a / b;
#endif
}
PYGAN_HD double divide(double a, double b) {
#if defined(__CUDA_ARCH__)
  double r;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(b));
  r = fma_(fma_(-b, r, 1.0), r, r);
  r = fma_(fma_(-b, r, 1.0), r, r);
  const double q = a * r;
  return fma_(fma_(-b, q, a), r, q);
#else
  return a / b;
#endif
}

// sqrt(x) for x = +-0 and for x in [2^-100, 2^100]: correctly rounded, so the same bits everywhere.
// On a GPU, sqrtf calls a subroutine for the ends of the exponent range, and the branch around the
// call keeps ptxas from overlapping one square root with the next. This range has no such ends, so
// an approximate reciprocal root and one of Markstein's steps do, as in sqrtf itself (compared with
// it for every float of the range on an H100). The addition keeps the reciprocal root of 0 finite.
PYGAN_HD float square_root(float x) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x + 0x1p-126f));
  const float root = x * r;
  return fma_(fma_(-root, root, x), 0.5f * r, root);
#else
  return sqrtf(x);
#endif
}

// c0 + c1 x + c2 x^2 + ... by Horner's rule, one fma a coefficient. Recursive rather than a loop
// over an array: GCC 12 vectorizes the caller's loop only if it contains no loop.
template <class T>
PYGAN_HD T polynomial(T, T c0) {
  return c0;
}
template <class T, class... C>
PYGAN_HD T polynomial(T x, T c0, C... higher) {
  return fma_(polynomial(x, higher...), x, c0);
}

}  // namespace pygan
