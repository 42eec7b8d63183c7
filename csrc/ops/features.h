// What the files of the feature-matching ops share: their arguments and the checks of them.
#pragma once

#include "launch/features.h"
#include "ops/common.h"

namespace pygan::ops {

using Doubles = c10::ArrayRef<double>;

// The k-th maps belong together; weights holds a number for each.
struct FeatureArgs {
  at::TensorList fake, real;
  Doubles weights;
  int64_t distance;
  bool relative;

  Distance kind() const { return static_cast<Distance>(distance); }
};

// Throw what design calls bad input; read no element.
void check_features(const FeatureArgs&);
// What the backward ops get: a gradient of one number, and a multiplier for each of the maps.
void check_gradient(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList maps);
void check_signs(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList signs,
                 at::IntArrayRef dtypes);

// fp64 where a map is, else fp32.
at::ScalarType loss_type(at::TensorList maps);

// (loss, values, multipliers, signs) through the dispatcher.
using Matched = std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>>;
Matched call_features(const FeatureArgs&, bool signs);
// The same with gradients in place of signs.
Matched call_features_and_grad(const FeatureArgs&);

}  // namespace pygan::ops
