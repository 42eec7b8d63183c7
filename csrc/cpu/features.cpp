// Feature matching on the CPU: the sums of distances between two maps, and the gradient. Compiled
// once per instruction set. The loops are bound by memory; what counts is how many bytes they move.
#include "launch/features.h"

#include <algorithm>

#include "cpu/blocks.h"
#include "cpu/isa.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// The gradient of what is not relative, whose multiplier is known before the sums are.
template <class T, Distance distance>
void gradient_of_block(const FeatureMap& map, const math_t<T>* f, const math_t<T>* r, T* out,
                       int64_t count) {
  using M = math_t<T>;
  constexpr double slope = distance == Distance::l1 ? 1 : kSlopeOfSquare;
  const M by = static_cast<M>(
      slope * static_cast<double>(static_cast<M>(map.weight / static_cast<double>(map.n))));
  const M zero = by * M(0);
#pragma GCC ivdep
  for (int64_t k = 0; k < count; ++k) {
    const M d = f[k] - r[k];
    if constexpr (distance == Distance::l1) {  // by sign(d)
      out[k] = from_math<T>(d > M(0) ? by : d < M(0) ? -by : zero);
    } else {
      out[k] = from_math<T>(by * d);
    }
  }
}

template <class T, Distance distance, bool relative>
void sums_of_range(const FeatureMap& map, int64_t begin, int64_t end, double* sums) {
  using M = math_t<T>;
  const auto *fake = static_cast<const T*>(map.fake), *real = static_cast<const T*>(map.real);
  alignas(64) double lanes[kStrip] = {}, magnitudes[kStrip] = {};
  alignas(64) M fakes[kBlock], reals[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    const M *f = converted(fake + i, count, fakes), *r = converted(real + i, count, reals);
    // The values of a block are added in the math type before they join the fp64 ones: a fraction
    // of the conversions, which took longer than the memory.
    alignas(64) M distances[kStrip] = {}, sizes[kStrip] = {};
    for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
      for (int k = 0; k < kStrip; ++k) {
        distances[k] += distance_of(distance, f[strip + k] - r[strip + k]);
        if constexpr (relative) sizes[k] += std::abs(r[strip + k]);
      }
    }
    for (int k = 0; k < kStrip; ++k) {
      lanes[k] += static_cast<double>(distances[k]);
      if constexpr (relative) magnitudes[k] += static_cast<double>(sizes[k]);
    }
    if (map.out != nullptr) {
      gradient_of_block<T, distance>(map, f, r, static_cast<T*>(map.out) + i, count);
    }
    if (map.signs == nullptr) continue;
    alignas(64) int8_t rest[kStrip];
    for (int64_t strip = 0; strip < count; strip += kStrip) {
      const int64_t left = std::min<int64_t>(kStrip, count - strip);
      int8_t* const to = map.signs + i + strip;
      int8_t* const signs = left == kStrip ? to : rest;
#pragma GCC ivdep
      for (int k = 0; k < kStrip; ++k) {
        signs[k] = static_cast<int8_t>(sign_of(f[strip + k] - r[strip + k]));
      }
      if (signs == rest) std::copy(rest, rest + left, to);
    }
  }
  sums[kSumDistance] = sum_of_lanes(lanes);
  sums[kSumMagnitude] = relative ? sum_of_lanes(magnitudes) : 0.0;
}

template <class T>
void gradient_of_range(const FeatureMap& map, double factor, int64_t begin, int64_t end) {
  using M = math_t<T>;
  auto* out = static_cast<T*>(map.out);
  const M by = static_cast<M>(factor);
  if (map.signs != nullptr) {
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i) out[i] = from_math<T>(by * static_cast<M>(map.signs[i]));
    return;
  }
  const auto *fake = static_cast<const T*>(map.fake), *real = static_cast<const T*>(map.real);
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    out[i] = from_math<T>(by * (M(to_float(fake[i])) - M(to_float(real[i]))));
  }
}

void feature_sums(const FeatureMap& map, const FeatureOptions& o, int64_t begin, int64_t end,
                  double* sums) {
  with_floating_type(o.dtype, [&](auto type) {
    using T = decltype(type);
    const bool l1 = o.distance == Distance::l1;
    const auto f = l1 ? (o.relative ? sums_of_range<T, Distance::l1, true>
                                    : sums_of_range<T, Distance::l1, false>)
                      : (o.relative ? sums_of_range<T, Distance::l2, true>
                                    : sums_of_range<T, Distance::l2, false>);
    f(map, begin, end, sums);
  });
}

void feature_gradient(const FeatureMap& map, const FeatureOptions& o, double factor, int64_t begin,
                      int64_t end) {
  with_floating_type(
      o.dtype, [&](auto type) { gradient_of_range<decltype(type)>(map, factor, begin, end); });
}

}  // namespace

void add_feature_kernels(Kernels& kernels) {
  kernels.feature_sums = feature_sums;
  kernels.feature_gradient = feature_gradient;
}

}  // namespace pygan::cpu::PYGAN_CPU_ISA
