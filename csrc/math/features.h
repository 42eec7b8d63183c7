// Feature matching: what a kernel needs to know to compare the feature maps that a discriminator
// makes of real and of generated samples, and how the loss and its gradient follow from the sums.
//
// With d = fake - real of one map of n elements, its value is the mean of |d| (l1) or of d^2 (l2),
// divided by the mean of |real| where it is `relative`. The gradient by an element is that of the
// distance times a number that all elements of the map share, its multiplier:
//
//   value = sum of distance / count,  multiplier = weight / count,  gradient = multiplier slope(d)
//
// with count = n, or, relative, the sum of |real|: mean |d| / mean |real| = sum |d| / sum |real|.
#pragma once

#include "math/dtype.h"

namespace pygan {

enum class Distance : int { l1, l2 };

// One map: of generated samples, and of real ones.
struct FeatureMap {
  const void* fake;  // [n]
  const void* real;  // [n]
  int8_t* signs;     // [n] of d, or null: what the gradient of l1 needs to know of it
  void* out;  // [n]: the gradient, for what makes one; the sums on the CPU, of what is not relative
  int64_t n;
  double weight;
  int64_t index;  // among all maps of the loss
};

struct FeatureOptions {
  Dtype dtype;  // of the maps: float32, float64, float16, bfloat16
  Distance distance;
  bool relative;
};

// Sums over one map.
enum FeatureSum { kSumDistance, kSumMagnitude, kFeatureSums };

// Elements that are summed into one fp64 partial, at most.
inline constexpr int64_t kFeatureChunk = 1 << 13;

template <class M>
PYGAN_HD M distance_of(Distance distance, M d) {
  return distance == Distance::l1 ? (d < M(0) ? -d : d) : d * d;
}
// 0 where d is 0 or NaN, as torch.sign has it.
template <class M>
PYGAN_HD int sign_of(M d) {
  return (d > M(0) ? 1 : 0) - (d < M(0) ? 1 : 0);
}
// The slope of l2's distance is twice this; the factor goes into the multiplier's.
inline constexpr double kSlopeOfSquare = 2;

// Where the results of one loss go. Several launches may follow each other: the last one adds up
// what all of them left in `weighted`.
struct FeatureOutputs {
  void* loss;         // [1] of the loss's type: fp64 if `wide`, else fp32
  void* values;       // [all] of that type
  void* multipliers;  // [all] of that type
  double* weighted;   // [all]: weight * value
  bool wide;
  int64_t all;   // maps of the loss
  int64_t left;  // of these, those that no launch has taken yet; 0 in the last launch
};

// What the slopes of the distance are multiplied by: grad, the map's multiplier, and `slope`.
struct FeatureGradient {
  const void* grad;         // [1] of the loss's type
  const void* multipliers;  // [all] of that type
  double slope;
  bool wide;
};
PYGAN_HD double factor_of(const FeatureGradient& by, int64_t index) {
  if (by.wide) {
    return by.slope * *static_cast<const double*>(by.grad) *
           static_cast<const double*>(by.multipliers)[index];
  }
  return by.slope * *static_cast<const float*>(by.grad) *
         static_cast<const float*>(by.multipliers)[index];
}

// What a map's sums say.
struct FeatureValue {
  double value, multiplier;
};
PYGAN_HD FeatureValue value_of(const FeatureMap& map, const FeatureOptions& o, const double* sums) {
  const double count = o.relative ? sums[kSumMagnitude] : static_cast<double>(map.n);
  return {sums[kSumDistance] / count, map.weight / count};
}

}  // namespace pygan
