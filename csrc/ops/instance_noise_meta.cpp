// The instance_noise ops on tensors without data: shapes, dtypes and strides, for torch.compile and
// fake tensors. The same checks as on real ones.
#include "ops/instance_noise.h"

namespace pygan::ops {
namespace {

at::Tensor instance_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                             const at::Tensor& state, c10::SymInt offset, double scale, double bias,
                             OptionalType dtype) {
  check_noise({x, sigma, sigma_value, state, offset, scale, bias, dtype, false});
  return allocate_noisy(x, sigma, noise_dtype(x, dtype));
}

void instance_noise_out(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                        at::Tensor& state, c10::SymIntArrayRef offset, c10::ArrayRef<double> scale,
                        c10::ArrayRef<double> bias, bool cat, at::TensorList out) {
  check_noise_out(x, sigma, out);
  check_noise({x, sigma, sigma_value, state, offset, scale, bias, std::nullopt, cat});
  check_state_apart(state, x, sigma, out);
}

at::Tensor noise_advance(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                         at::Tensor& state, c10::SymIntArrayRef offset, c10::ArrayRef<double> scale,
                         c10::ArrayRef<double> bias, OptionalType dtype, bool cat) {
  check_noise({x, sigma, sigma_value, state, offset, scale, bias, dtype, cat});
  check_state_apart(state, x, sigma, {});
  return at::empty({static_cast<int64_t>(x.size()), 2}, state.options());
}

at::Tensor noise_draw(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                      c10::ArrayRef<double> scale, c10::ArrayRef<double> bias, OptionalType dtype,
                      bool cat, at::TensorList out, std::optional<at::Generator>) {
  if (!out.empty()) {
    check_not_recorded(x, sigma, out);
    check_noise_out(x, sigma, out);
  }
  TORCH_CHECK_VALUE(!x.empty(),
                    "pygan::noise_draw: x must hold at least one tensor, got an empty list");
  const at::Tensor state = at::empty({2}, x[0].options().dtype(at::kLong));
  const c10::SymDimVector offset(x.size(), 0);
  check_noise({x, sigma, sigma_value, state, offset, scale, bias, dtype, cat});
  return state;
}

at::Tensor noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     c10::SymInt offset, c10::SymInt samples) {
  check_noise_dot(grad, stride, state, offset, samples);
  const auto options = grad.options().dtype(math_type(grad.scalar_type()));
  if (samples < 0) return at::empty({}, options);
  return at::empty_symint({samples}, options);
}

TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("instance_noise.out", instance_noise_out);
  m.impl("instance_noise_at", instance_noise_at);
  m.impl("noise_advance", noise_advance);
  m.impl("noise_draw", noise_draw);
  m.impl("noise_dot", noise_dot);
}

}  // namespace
}  // namespace pygan::ops
