// exp, softplus and sigmoid for the losses: stable for every finite argument, IEEE for the others.
//
// Polynomials: minimax in relative error (tools/minimax.py): 3e-9 / 5e-20 for exp, 5e-9 / 1.5e-18
// for log1p (fp32 / fp64). Measured against fp64 / long double on 2e7 random arguments: exp within
// 1 ulp, softplus and sigmoid within 2.5.
#pragma once

#include "math/hd.h"

namespace pygan {

// The larger of x and low; NaN stays NaN.
PYGAN_HD float at_least(float x, float low) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  // ptxas does not choose this instruction by itself.
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(x) : "f"(x), "f"(low));
  return x;
#else
  return x < low ? low : x;
#endif
}
PYGAN_HD double at_least(double x, double low) { return x < low ? low : x; }

// exp(x) for x <= 0. Below -104 (-746 in fp64) the result rounds to 0; NaN stays NaN.
PYGAN_HD float exp_nonpositive(float x) {
  constexpr float lowest = -104.0f;
  // On a GPU the lower bound takes one instruction; on a CPU a selection at the end is cheaper,
  // with AVX-512 a mask on the last product (summing a loss takes 0.94 of the time, with AVX2
  // 0.96).
#if defined(__CUDA_ARCH__)
  const float above = at_least(x, lowest);
#else
  const float above = x;
#endif
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits; the 191 makes it the
  // exponent of 2^(n + 64).
  constexpr float shift = 0x1.8p+23f + 191.0f;
  const float shifted = fma_(above, 0x1.715476p+0f, shift);
  const float n = shifted - shift;
  const float r = fma_(n, -0x1.7f7d1cp-20f, fma_(n, -0x1.62e4p-1f, above));  // n ln 2 in two parts
  const float tail = polynomial(r, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239d4p-7f,
                                0x1.6a244ep-10f);
  const float e = fma_(r, fma_(r, tail, 1.0f), 1.0f);
  // 2^n in two factors, 2^(n + 64) and 2^-64: n reaches -150, and a subnormal result is rounded
  // once.
  const float result = e * float_of(bits_of(shifted) << 23) * 0x1p-64f;
#if defined(__CUDA_ARCH__)
  return result;
#else
  return x < lowest ? 0.0f : result;
#endif
}
PYGAN_HD double exp_nonpositive(double x) {
  const double clamped = at_least(x, -746.0);
  const double shifted = fma_(clamped, 0x1.71547652b82fep+0, 0x1.8p+52);
  const double n = shifted - 0x1.8p+52;
  const double r = fma_(n, -0x1.ef35793c7673p-45, fma_(n, -0x1.62e42fefa38p-1, clamped));
  const double tail = polynomial(
      r, 0x1p-1, 0x1.555555555555bp-3, 0x1.5555555555503p-5, 0x1.111111110ec65p-7,
      0x1.6c16c16c3043dp-10, 0x1.a01a01b37b3a9p-13, 0x1.a01a01369e56bp-16, 0x1.71ddf0286b205p-19,
      0x1.27e5b43622405p-22, 0x1.af6bda625d954p-26, 0x1.1e3d31f73d0e6p-29);
  const double e = fma_(r, fma_(r, tail, 1.0), 1.0);
  const uint64_t scale = (bits_of(shifted) << 52) + ((1023ull + 64ull) << 52);
  return e * double_of(scale) * 0x1p-64;
}

// base + log(1 + u) for 0 <= u <= 1.
PYGAN_HD float add_log1p(float base, float u) {
  return fma_(
      polynomial(u, 0x1p+0f, -0x1.ffffbep-2f, 0x1.554c8p-2f, -0x1.ff0f88p-3f, 0x1.92f698p-3f,
                 -0x1.397564p-3f, 0x1.b25362p-4f, -0x1.d29ccep-5f, 0x1.453f1p-6f, -0x1.a93368p-9f),
      u, base);
}
PYGAN_HD double add_log1p(double base, double u) {
  return fma_(
      polynomial(u, 0x1p+0, -0x1.fffffffffffe6p-2, 0x1.555555555445ep-2, -0x1.ffffffff75495p-3,
                 0x1.99999986c1beap-3, -0x1.555553c22c2bep-3, 0x1.2492328375d5ap-3,
                 -0x1.fffe3131de245p-4, 0x1.c70ebe1e8f852p-4, -0x1.994a4e0e461d7p-4,
                 0x1.72f6b7b173982p-4, -0x1.504e1a2dcd8d4p-4, 0x1.2c84921d19826p-4,
                 -0x1.022bad9217d5cp-4, 0x1.9be6dbe27c471p-5, -0x1.24eec6942ac90p-5,
                 0x1.63ab4b4b34c48p-6, -0x1.601010ff7a6f9p-7, 0x1.0d5927e342390p-8,
                 -0x1.28360e8cbc605p-10, 0x1.9e34b8a49090cp-13, -0x1.13750cd7be95ep-16),
      u, base);
}

// log(1 + a) + log(1 + b) + ... is computed from one number, e = (1 + a)(1 + b) ... - 1, which
// costs one fma a factor instead of a polynomial and, having no cancellation, keeps the small
// terms.
template <class T>
PYGAN_HD T times_one_plus(T e, T u) {  // (1 + e)(1 + u) - 1
  return fma_(e, T(1) + u, u);
}

// base + log(1 + e) for e >= 0, the product of up to 100 factors in [1, 2] minus 1:
// 1 + e = 2^n (1 + f), f = e 2^-n + (2^-n - 1) without another rounding where e is small and n is
// 0.
PYGAN_HD float add_log1p_of_product(float base, float e) {
  const uint32_t exponent = bits_of(1.0f + e) >> 23;
  const float down = float_of((254u - exponent) << 23);  // 2^-n
  const float n = float_of(exponent | 0x4b000000u) - (0x1p+23f + 127.0f);
  return add_log1p(fma_(n, 0x1.62e43p-1f, base), fma_(e, down, down - 1.0f));
}
PYGAN_HD double add_log1p_of_product(double base, double e) {
  const uint64_t exponent = bits_of(1.0 + e) >> 52;
  const double down = double_of((2046ull - exponent) << 52);
  const double n = double_of(exponent | 0x4330000000000000u) - (0x1p+52 + 1023.0);
  return add_log1p(fma_(n, 0x1.62e42fefa39efp-1, base), fma_(e, down, down - 1.0));
}

PYGAN_HD float minus_absolute(float x) {
#if defined(__CUDA_ARCH__)
  return -fabsf(x);  // a modifier of the operand; changing the bits takes an instruction
#else
  return float_of(bits_of(x) | 0x80000000u);
#endif
}
PYGAN_HD double minus_absolute(double x) { return double_of(bits_of(x) | 0x8000000000000000u); }
PYGAN_HD float absolute(float x) { return float_of(bits_of(x) & 0x7fffffffu); }
PYGAN_HD double absolute(double x) { return double_of(bits_of(x) & 0x7fffffffffffffffu); }
template <class T>
PYGAN_HD bool is_finite(T x) {
  return absolute(x) <= largest_finite(T{});
}
template <class T>
PYGAN_HD T positive_part(T x) {
  return at_least(x, T(0));
}

// The two quantities from which the logistic functions of x are computed, without overflow:
// u = exp(-|x|) and q = u / (1 + u) = sigmoid(-|x|).
template <class T>
PYGAN_HD T exp_minus_abs(T x) {
  return exp_nonpositive(minus_absolute(x));
}
template <class T>
PYGAN_HD T sigmoid_minus_abs(T u) {
  return divide(u, T(1) + u);
}

// 1 / (1 + exp(-x))
template <class T>
PYGAN_HD T sigmoid(T x, T q) {
  return x < T(0) ? q : T(1) - q;
}

}  // namespace pygan
