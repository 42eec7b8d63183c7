// The feature-matching ops on tensors without data: shapes, dtypes and strides, for torch.compile
// and fake tensors. They check their arguments as the others do.
#include "ops/features.h"

namespace pygan::ops {
namespace {

std::vector<at::Tensor> like_maps(at::TensorList maps) {
  return empty_like_each(maps, [&](size_t i) { return maps[i].scalar_type(); });
}

Matched feature_matching(at::TensorList fake, at::TensorList real, Doubles weights,
                         int64_t distance, bool relative, bool signs) {
  const FeatureArgs args{fake, real, weights, distance, relative};
  check_features(args);
  auto [loss, values, multipliers] = allocate_results(fake);
  std::vector<at::Tensor> kept;
  if (signs && args.kind() == Distance::l1) {
    kept = empty_like_each(fake, [](size_t) { return at::kChar; });
  }
  return {loss, values, multipliers, std::move(kept)};
}

Matched feature_matching_and_grad(at::TensorList fake, at::TensorList real, Doubles weights,
                                  int64_t distance, bool relative) {
  check_features({fake, real, weights, distance, relative});
  auto [loss, values, multipliers] = allocate_results(fake);
  return {loss, values, multipliers, like_maps(fake)};
}

std::vector<at::Tensor> feature_matching_l1_backward(const at::Tensor& grad,
                                                     const at::Tensor& multipliers,
                                                     at::TensorList signs, at::IntArrayRef dtypes) {
  check_signs(grad, multipliers, signs, dtypes);
  return empty_like_each(signs, [&](size_t i) { return static_cast<at::ScalarType>(dtypes[i]); });
}

std::vector<at::Tensor> feature_matching_l2_backward(const at::Tensor& grad,
                                                     const at::Tensor& multipliers,
                                                     at::TensorList fake, at::TensorList real) {
  check_l2(grad, multipliers, fake, real);
  return like_maps(fake);
}

TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("feature_matching", feature_matching);
  m.impl("feature_matching_and_grad", feature_matching_and_grad);
  m.impl("feature_matching_l1_backward", feature_matching_l1_backward);
  m.impl("feature_matching_l2_backward", feature_matching_l2_backward);
}

}  // namespace
}  // namespace pygan::ops
