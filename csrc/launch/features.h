// The arguments of the kernels of feature matching: pairs of maps, options, places for the results.
#pragma once

#include "math/dtype.h"
#include "math/features.h"

namespace pygan {

// One map: of generated samples, and of real ones.
struct FeatureMap {
  const void* fake;  // [n]
  const void* real;  // [n]
  int8_t* signs;     // [n] of d, or null: what the gradient of l1 needs to know of it
  void* out;  // [n]: the gradient, or null. On the CPU the sums write it too, unless relative
  int64_t n;
  double weight;
  int64_t index;  // among all maps of the loss
};

struct FeatureOptions {
  Dtype dtype;  // of the maps: float32, float64, float16, bfloat16
  Distance distance;
  bool relative;
};

// Elements that are summed into one fp64 partial, at most.
inline constexpr int64_t kFeatureChunk = 1 << 13;

// Where the results of a loss go. It may take several launches: the last one adds up what all of
// them wrote to `weighted`.
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

}  // namespace pygan
