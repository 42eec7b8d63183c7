// Feature matching: the distance between the feature maps that a discriminator makes of real and of
// generated samples, and how the loss and its gradient follow from sums over them.
//
// With d = fake - real of one map of n elements, its value is the mean of |d| (l1) or of d^2 (l2),
// divided by the mean of |real| where it is `relative`. The gradient by an element is that of the
// distance times a number that all elements of the map share, its multiplier:
//
//   value = sum of distance / count,  multiplier = weight / count,  gradient = multiplier slope(d)
//
// with count = n, or, relative, the sum of |real|: mean |d| / mean |real| = sum |d| / sum |real|.
#pragma once

#include "math/hd.h"

namespace pygan {

enum class Distance : int { l1, l2 };

// Sums over one map.
enum FeatureSum { kSumDistance, kSumMagnitude, kFeatureSums };

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

// What follows from the sums over a map of n elements.
struct FeatureValue {
  double value, multiplier;
};
PYGAN_HD FeatureValue feature_value(const double* sums, int64_t n, double weight, bool relative) {
  const double count = relative ? sums[kSumMagnitude] : static_cast<double>(n);
  return {sums[kSumDistance] / count, weight / count};
}

}  // namespace pygan
