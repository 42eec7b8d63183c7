// Derivatives of the instance_noise ops. z is never stored: the gradient of sigma draws it again.
//
//   out = x scale + bias + sigma z:   d x = scale grad,   d sigma = sum of grad z  (noise_dot)
//
// noise_dot is linear in grad, and its derivative is noise again, so every order exists.
#include <torch/csrc/autograd/custom_function.h>

#include "ops/instance_noise.h"

namespace pygan::ops {
namespace {

using at::AutoDispatchBelowADInplaceOrView;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

using OptionalTensor = std::optional<at::Tensor>;
using OptionalType = std::optional<at::ScalarType>;

at::Tensor call_noise(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                      at::Tensor& state, int64_t offset, double scale, double bias,
                      OptionalType dtype) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("pygan::instance_noise", "")
          .typed<at::Tensor(const at::Tensor&, const OptionalTensor&, double, at::Tensor&, int64_t,
                            double, double, OptionalType)>();
  return op.call(x, sigma, sigma_value, state, offset, scale, bias, dtype);
}

void call_noise_out(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                    at::Tensor& state, int64_t offset, double scale, double bias, at::Tensor& out) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("pygan::instance_noise", "out")
                             .typed<void(const at::Tensor&, const OptionalTensor&, double,
                                         at::Tensor&, int64_t, double, double, at::Tensor&)>();
  op.call(x, sigma, sigma_value, state, offset, scale, bias, out);
}

at::Tensor call_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                         const at::Tensor& state, int64_t offset, double scale, double bias,
                         OptionalType dtype) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("pygan::instance_noise_at", "")
          .typed<at::Tensor(const at::Tensor&, const OptionalTensor&, double, const at::Tensor&,
                            int64_t, double, double, OptionalType)>();
  return op.call(x, sigma, sigma_value, state, offset, scale, bias, dtype);
}

at::Tensor call_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                    int64_t offset, const c10::SymInt& samples) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("pygan::noise_dot", "")
                             .typed<at::Tensor(const at::Tensor&, c10::SymIntArrayRef,
                                               const at::Tensor&, int64_t, c10::SymInt)>();
  return op.call(grad, stride, state, offset, samples);
}

at::Tensor grad_of_x(const at::Tensor& grad, double scale, at::ScalarType dtype) {
  return (scale == 1.0 ? grad : grad * scale).to(dtype);
}

struct InstanceNoise : Function<InstanceNoise> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const OptionalTensor& sigma,
                            double sigma_value, at::Tensor& state, int64_t offset, double scale,
                            double bias, OptionalType dtype) {
    const AutoDispatchBelowADInplaceOrView below;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["dtype"] = x.scalar_type();
    return call_noise(x, sigma, sigma_value, state, offset, scale, bias, dtype);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list out(8);
    out[0] = grad_of_x(grads[0], ctx->saved_data["scale"].toDouble(),
                       ctx->saved_data["dtype"].toScalarType());
    return out;
  }
};

struct InstanceNoiseAt : Function<InstanceNoiseAt> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const OptionalTensor& sigma,
                            double sigma_value, const at::Tensor& state, int64_t offset,
                            double scale, double bias, OptionalType dtype) {
    const AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({state, sigma.value_or(at::Tensor())});
    ctx->saved_data["offset"] = offset;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["dtype"] = x.scalar_type();
    const at::Tensor out = call_noise_at(x, sigma, sigma_value, state, offset, scale, bias, dtype);
    ctx->saved_data["stride"] = out.sym_strides();
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &state = saved[0], &sigma = saved[1];
    variable_list out(8);
    if (ctx->needs_input_grad(0)) {
      out[0] = grad_of_x(grads[0], ctx->saved_data["scale"].toDouble(),
                         ctx->saved_data["dtype"].toScalarType());
    }
    if (sigma.defined() && ctx->needs_input_grad(1)) {
      const c10::SymInt samples = sigma.dim() == 0 ? c10::SymInt(-1) : sigma.sym_size(0);
      out[1] = call_dot(grads[0], ctx->saved_data["stride"].toSymIntVector(), state,
                        ctx->saved_data["offset"].toInt(), samples)
                   .to(sigma.scalar_type())
                   .to(sigma.device());
    }
    return out;
  }
};

struct NoiseDot : Function<NoiseDot> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& grad,
                            c10::SymIntArrayRef stride, const at::Tensor& state, int64_t offset,
                            const c10::SymInt& samples) {
    const AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({grad, state});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["offset"] = offset;
    return call_dot(grad, stride, state, offset, samples);
  }

  // The adjoint: v z, noise of scale v over nothing.
  static variable_list backward(AutogradContext* ctx, const variable_list& vectors) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor zero =
        at::empty_strided_symint(saved[0].sym_sizes(), ctx->saved_data["stride"].toSymIntVector(),
                                 saved[0].options())
            .zero_();
    return {call_noise_at(zero, vectors[0], 0.0, saved[1], ctx->saved_data["offset"].toInt(), 1.0,
                          0.0, std::nullopt),
            {},
            {},
            {},
            {}};
  }
};

// What every in-place op of PyTorch does, so that autograd notices a saved tensor that was written
// to.
void mark_written(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

bool records(const at::Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }
bool records(const OptionalTensor& x) { return x.has_value() && records(*x); }

at::Tensor instance_noise(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                          at::Tensor& state, int64_t offset, double scale, double bias,
                          OptionalType dtype) {
  TORCH_CHECK_NOT_IMPLEMENTED(!records(sigma),
                              "pygan::instance_noise: sigma must not require grad, because the "
                              "stream moves on; use noise_advance and instance_noise_at");
  check_no_transform("pygan.instance_noise", x);
  check_no_transform("pygan.instance_noise", sigma);
  at::Tensor out;
  if (records(x)) {
    out = InstanceNoise::apply(x, sigma, sigma_value, state, offset, scale, bias, dtype);
  } else {
    const AutoDispatchBelowADInplaceOrView below;
    out = call_noise(x, sigma, sigma_value, state, offset, scale, bias, dtype);
  }
  mark_written(state);
  return out;
}

void instance_noise_out(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                        at::Tensor& state, int64_t offset, double scale, double bias,
                        at::Tensor& out) {
  check_no_transform("pygan.instance_noise", x);
  check_no_transform("pygan.instance_noise", sigma);
  {
    const AutoDispatchBelowADInplaceOrView below;
    call_noise_out(x, sigma, sigma_value, state, offset, scale, bias, out);
  }
  mark_written(state);
  mark_written(out);
}

at::Tensor instance_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                             const at::Tensor& state, int64_t offset, double scale, double bias,
                             OptionalType dtype) {
  check_no_transform("pygan.instance_noise", x);
  check_no_transform("pygan.instance_noise", sigma);
  if (!records(x) && !records(sigma)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_noise_at(x, sigma, sigma_value, state, offset, scale, bias, dtype);
  }
  return InstanceNoiseAt::apply(x, sigma, sigma_value, state, offset, scale, bias, dtype);
}

at::Tensor noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     int64_t offset, c10::SymInt samples) {
  check_no_transform("pygan.instance_noise", grad);
  if (!records(grad)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_dot(grad, stride, state, offset, samples);
  }
  return NoiseDot::apply(grad, stride, state, offset, samples);
}

at::Tensor noise_advance(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                         at::Tensor& state, int64_t offset, double scale, double bias,
                         OptionalType dtype) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("pygan::noise_advance", "")
          .typed<at::Tensor(const at::Tensor&, const OptionalTensor&, double, at::Tensor&, int64_t,
                            double, double, OptionalType)>();
  check_no_transform("pygan.instance_noise", x);
  check_no_transform("pygan.instance_noise", sigma);
  at::Tensor before;
  {
    const AutoDispatchBelowADInplaceOrView below;
    before = op.call(x, sigma, sigma_value, state, offset, scale, bias, dtype);
  }
  mark_written(state);
  return before;
}

TORCH_LIBRARY_IMPL(pygan, Autograd, m) {
  m.impl("instance_noise", instance_noise);
  m.impl("instance_noise.out", instance_noise_out);
  m.impl("instance_noise_at", instance_noise_at);
  m.impl("noise_advance", noise_advance);
  m.impl("noise_dot", noise_dot);
}

}  // namespace
}  // namespace pygan::ops
