// Element types of the tensors, and their conversion to and from the type that the math is done in.
//
// The 16-bit types are our own: C++ has neither before C++23, kernels do not include torch's
// headers (see hd.h), and an exact conversion has only one right answer.
#pragma once

#include <type_traits>

#include "math/hd.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace pygan {

struct half_t {
  uint16_t bits;
};
struct bfloat16_t {
  uint16_t bits;
};

enum class Dtype : int { float32, float64, float16, bfloat16, uint8 };

// Calls f with a value of the floating type that `dtype` names.
template <class F>
void with_floating_type(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::float64:
      return f(double{});
    case Dtype::float16:
      return f(half_t{});
    case Dtype::bfloat16:
      return f(bfloat16_t{});
    default:
      return f(float{});
  }
}
// The same, uint8 included (an input image).
template <class F>
void with_any_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::uint8) return f(uint8_t{});
  with_floating_type(dtype, f);
}

// The type of the math: fp64 where a tensor is fp64, else fp32.
template <class... T>
using math_t = std::conditional_t<(std::is_same_v<T, double> || ...), double, float>;

PYGAN_HD float to_float(float x) { return x; }
PYGAN_HD double to_float(double x) { return x; }
PYGAN_HD float to_float(uint8_t x) { return static_cast<float>(x); }
PYGAN_HD float to_float(bfloat16_t x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
PYGAN_HD float to_float(half_t x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  // The exponent's bias grows by 112. Multiplying by 2^112 does that exactly, for subnormals too.
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity or NaN
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  return float_of(bits_of(float_of(magnitude) * 0x1p112f) | special | sign);
#endif
}

// Rounds to nearest even, once.
template <class T>
PYGAN_HD T from_float(math_t<T> x) {
  if constexpr (std::is_same_v<T, bfloat16_t>) {
#if defined(__CUDA_ARCH__)
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    const uint32_t b = bits_of(x);
    const uint32_t rounded = (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
    return {static_cast<uint16_t>(x != x ? 0x7fffu : rounded)};
#endif
  } else if constexpr (std::is_same_v<T, half_t>) {
#if defined(__CUDA_ARCH__)
    return {__half_as_ushort(__float2half_rn(x))};
#else
    const uint32_t b = bits_of(x) & 0x7fffffffu;
    const uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
    // Normal numbers: round away 13 bits and subtract 112 from the exponent. What is too large
    // becomes infinity.
    const uint32_t even = b + 0xfffu + ((b >> 13) & 1u);
    uint32_t h = (even - 0x38000000u) >> 13;
    // Below 2^-14: adding 1/2 puts units of 2^-24 into the last place, so the adder rounds.
    h = b < 0x38800000u ? bits_of(float_of(b) + 0.5f) - 0x3f000000u : h;
    h = b >= 0x477ff000u ? 0x7c00u : h;
    // A NaN becomes the GPU's one NaN.
    return {static_cast<uint16_t>(b > 0x7f800000u ? 0x7fffu : h | sign)};
#endif
  } else {
    return x;
  }
}
// From the math's type to the element's. fp64 to 16 bits goes through an fp32 rounded to odd (its
// last bit records whether anything was cut off), so that it is rounded only once.
template <class T>
PYGAN_HD T from_math(math_t<T> x) {
  return from_float<T>(x);
}
template <class T>
  requires std::is_same_v<math_t<T>, float>
PYGAN_HD T from_math(double x) {
  const float nearest = static_cast<float>(x);
  if constexpr (std::is_same_v<T, float>) return nearest;
  const double back = nearest;
  uint32_t odd = bits_of(nearest);
  odd -= (x < 0 ? back < x : back > x) ? 1u : 0u;
  odd |= back != x ? 1u : 0u;
  return from_float<T>(x != x ? nearest : float_of(odd));
}

}  // namespace pygan
