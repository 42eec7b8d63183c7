// The instance_noise ops on tensors without data: shapes, dtypes and strides, for torch.compile and
// fake tensors. The same checks as on real ones.
#include "ops/noise.h"

namespace pygan::ops {
namespace {

at::Tensor instance_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                             const OptionalTensor& scale, const at::Tensor& state,
                             c10::SymInt offset, double scale_value, double bias,
                             OptionalType dtype) {
  const NoiseArguments a{x,           sigma, sigma_value, scale, state, offset,
                         scale_value, bias,  dtype,       false, false};
  check_noise(a);
  return allocate_noisy(x, a.per_sample(), noise_dtype(x, dtype));
}

void instance_noise_out(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                        const OptionalTensor& scale, at::Tensor& state, c10::SymIntArrayRef offset,
                        Doubles scale_value, Doubles bias, bool cat, bool same,
                        at::TensorList out) {
  const NoiseArguments a{x,           sigma, sigma_value,  scale, state, offset,
                         scale_value, bias,  std::nullopt, cat,   same};
  check_noise_out(a, out);
  check_noise(a);
  check_state_apart(a, out);
}

at::Tensor noise_advance(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                         const OptionalTensor& scale, at::Tensor& state, c10::SymIntArrayRef offset,
                         Doubles scale_value, Doubles bias, OptionalType dtype, bool cat,
                         bool same) {
  const NoiseArguments a{x,           sigma, sigma_value, scale, state, offset,
                         scale_value, bias,  dtype,       cat,   same};
  check_noise(a);
  check_state_apart(a, {});
  return at::empty({static_cast<int64_t>(x.size()), 2}, state.options());
}

at::Tensor noise_draw(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                      const OptionalTensor& scale, Doubles scale_value, Doubles bias,
                      OptionalType dtype, bool cat, bool same, at::TensorList out,
                      std::optional<at::Generator>) {
  TORCH_CHECK_VALUE(!x.empty(),
                    "pygan::noise_draw: x must hold at least one tensor, got an empty list");
  const at::Tensor state = at::empty({2}, x[0].options().dtype(at::kLong));
  const c10::SymDimVector offset(x.size(), 0);
  const NoiseArguments a{x,           sigma, sigma_value, scale, state, offset,
                         scale_value, bias,  dtype,       cat,   same};
  if (!out.empty()) {
    check_not_recorded(a, out);
    check_noise_out(a, out);
  }
  check_noise(a);
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
