// What the files of the feature-matching ops share: their arguments and the checks of them.
#pragma once

#include "launch/features.h"
#include "ops/common.h"

namespace pygan::ops {

inline constexpr const char* kFeatureOp = "pygan.fused_losses.feature_matching";

// The k-th maps belong together; weights holds a number for each.
struct FeatureArgs {
  at::TensorList fake, real;
  Doubles weights;
  int64_t distance;
  bool relative;

  Distance kind() const { return static_cast<Distance>(distance); }
};

// Validate arguments without reading tensor data.
void check_features(const FeatureArgs&);
// What the backward ops get: a gradient of one number, and a multiplier for each of the maps.
void check_gradient(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList maps);
void check_signs(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList signs,
                 at::IntArrayRef dtypes);
void check_l2(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList fake,
              at::TensorList real);

// New tensors for the loss, and for the value and the multiplier of each map: fp64 if a map is, else
// fp32.
std::tuple<at::Tensor, at::Tensor, at::Tensor> allocate_results(at::TensorList maps);

// (loss, values, multipliers, signs) through the dispatcher.
using Matched = std::tuple<at::Tensor, at::Tensor, at::Tensor, std::vector<at::Tensor>>;
Matched call_features(const FeatureArgs&, bool signs);
// The same with gradients in place of signs.
Matched call_features_and_grad(const FeatureArgs&);

}  // namespace pygan::ops
