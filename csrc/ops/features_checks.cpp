// Checks of the feature-matching ops' arguments.
#include "ops/features.h"

namespace pygan::ops {
namespace {

// "fake_features", or "map 2 of fake_features" where there are several, counted through the lists.
std::string name_of_map(const char* argument, size_t i, size_t all) {
  return all == 1 ? argument : c10::str("map ", i, " of ", argument);
}

}  // namespace

void check_features(const FeatureArgs& args) {
  const size_t maps = args.fake.size();
  TORCH_CHECK_VALUE(
      maps > 0 && args.real.size() == maps && args.weights.size() == maps, kFeatureOp,
      ": fake_features, real_features and weights must have the same length, at least 1, "
      "got ",
      maps, " fake and ", args.real.size(), " real maps and ", args.weights.size(), " weights");
  TORCH_CHECK_VALUE(args.distance == 0 || args.distance == 1, kFeatureOp,
                    ": distance must be 0 (l1) or 1 (l2), got ", args.distance);
  for (size_t i = 0; i < maps; ++i) {
    const at::Tensor &f = args.fake[i], &r = args.real[i];
    const std::string fake = name_of_map("fake_features", i, maps);
    const std::string real = name_of_map("real_features", i, maps);
    TORCH_CHECK_TYPE(is_float(f.scalar_type()), kFeatureOp, ": ", fake,
                     " must be float32, float64, float16 or bfloat16, got ",
                     name_of(f.scalar_type()));
    TORCH_CHECK_TYPE(r.scalar_type() == f.scalar_type(), kFeatureOp, ": ", real,
                     " must have the dtype of ", fake, ", ", name_of(f.scalar_type()), ", got ",
                     name_of(r.scalar_type()));
    const auto device = args.fake[0].device();
    TORCH_CHECK_VALUE(f.device() == device && r.device() == device, kFeatureOp, ": ",
                      f.device() == device ? real : fake, " must be on the device of ",
                      name_of_map("fake_features", 0, maps), ", ", device, ", got ",
                      f.device() == device ? r.device() : f.device());
    TORCH_CHECK_VALUE(f.layout() == at::kStrided && r.layout() == at::kStrided, kFeatureOp, ": ",
                      fake, " and ", real, " must be strided tensors, got ", f.layout(), " and ",
                      r.layout());
    TORCH_CHECK_VALUE(r.sym_sizes() == f.sym_sizes(), kFeatureOp, ": ", real,
                      " must have the shape of ", fake, ", ", f.sym_sizes(), ", got ",
                      r.sym_sizes());
    TORCH_CHECK_VALUE(f.sym_numel() != 0, kFeatureOp, ": ", fake, " must not be empty, got shape ",
                      f.sym_sizes());
  }
}

void check_gradient(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList maps) {
  const auto floating = [](const at::Tensor& x) {
    return x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble;
  };
  TORCH_CHECK(
      !maps.empty() && multipliers.dim() == 1 && floating(multipliers) &&
          multipliers.sym_size(0) == static_cast<int64_t>(maps.size()) &&
          multipliers.is_contiguous(),
      "pygan::feature_matching: multipliers must hold one float32 or float64 number for each "
      "of the ",
      maps.size(), " map(s), got shape ", multipliers.sym_sizes(), " of ",
      name_of(multipliers.scalar_type()));
  TORCH_CHECK(
      grad.sym_numel() == 1 && floating(grad),
      "pygan::feature_matching: grad must be a single float32 or float64 number, got shape ",
      grad.sym_sizes(), " of ", name_of(grad.scalar_type()));
  for (const at::Tensor& x : {grad, multipliers}) {
    TORCH_CHECK(x.device() == maps[0].device(),
                "pygan::feature_matching: grad and multipliers must be on the maps' device, ",
                maps[0].device(), ", got ", x.device());
  }
}

void check_signs(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList signs,
                 at::IntArrayRef dtypes) {
  check_gradient(grad, multipliers, signs);
  TORCH_CHECK(signs.size() == dtypes.size(),
              "pygan::feature_matching_l1_backward: dtypes must be one for each of the ",
              signs.size(), " map(s), got ", dtypes.size());
  for (size_t i = 0; i < signs.size(); ++i) {
    const at::Tensor& x = signs[i];
    TORCH_CHECK(x.scalar_type() == at::kChar && x.layout() == at::kStrided &&
                    x.is_non_overlapping_and_dense() && x.device() == signs[0].device(),
                "pygan::feature_matching_l1_backward: signs must be dense tensors of int8 on one "
                "device, got ",
                name_of(x.scalar_type()), " on ", x.device());
    const bool known =
        dtypes[i] >= 0 && dtypes[i] < static_cast<int64_t>(at::ScalarType::NumOptions);
    TORCH_CHECK(known && is_float(static_cast<at::ScalarType>(dtypes[i])),
                "pygan::feature_matching_l1_backward: dtypes must be those of float32, float64, "
                "float16 or bfloat16, got ",
                dtypes[i]);
  }
}

void check_l2(const at::Tensor& grad, const at::Tensor& multipliers, at::TensorList fake,
              at::TensorList real) {
  const std::vector<double> weights(fake.size(), 1.0);
  check_features({fake, real, weights, static_cast<int64_t>(Distance::l2), false});
  check_gradient(grad, multipliers, fake);
}

}  // namespace pygan::ops
