// Derivatives of the instance_noise ops. z is never stored: the gradient of sigma draws it again.
//
//   out = x scale + bias + sigma z:   d x = scale grad,   d sigma = sum of grad z  (noise_dot)
//
// noise_dot is linear in grad, and its derivative is noise again, so every order exists.
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "ops/autograd_node.h"
#include "ops/instance_noise.h"

namespace pygan::ops {

using at::AutoDispatchBelowADInplaceOrView;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

using Doubles = c10::ArrayRef<double>;

std::vector<at::Tensor> call_noise(const NoiseArguments& a, at::Tensor& state) {
  static const auto handle =
      op<std::vector<at::Tensor>(at::TensorList, const OptionalTensor&, double, at::Tensor&,
                                 c10::SymIntArrayRef, Doubles, Doubles, OptionalType, bool)>(
          "pygan::instance_noise");
  return handle.call(a.x, a.sigma, a.sigma_value, state, a.offset, a.scale, a.bias, a.dtype, a.cat);
}

void call_noise_out(const NoiseArguments& a, at::Tensor& state, at::TensorList out) {
  static const auto handle =
      op<void(at::TensorList, const OptionalTensor&, double, at::Tensor&, c10::SymIntArrayRef,
              Doubles, Doubles, bool, at::TensorList)>("pygan::instance_noise", "out");
  handle.call(a.x, a.sigma, a.sigma_value, state, a.offset, a.scale, a.bias, a.cat, out);
}

namespace {

at::Tensor call_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                         const at::Tensor& state, const c10::SymInt& offset, double scale,
                         double bias, OptionalType dtype) {
  static const auto handle =
      op<at::Tensor(const at::Tensor&, const OptionalTensor&, double, const at::Tensor&,
                    c10::SymInt, double, double, OptionalType)>("pygan::instance_noise_at");
  return handle.call(x, sigma, sigma_value, state, offset, scale, bias, dtype);
}

at::Tensor call_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                    const c10::SymInt& offset, const c10::SymInt& samples) {
  static const auto handle =
      op<at::Tensor(const at::Tensor&, c10::SymIntArrayRef, const at::Tensor&, c10::SymInt,
                    c10::SymInt)>("pygan::noise_dot");
  return handle.call(grad, stride, state, offset, samples);
}

at::Tensor grad_of_x(const at::Tensor& grad, double scale, at::ScalarType dtype) {
  return (scale == 1.0 ? grad : grad * scale).to(dtype);
}

// The gradients of the tensors that require some.
struct NoiseNode : torch::autograd::Node {
  struct Source {
    double scale;
    at::ScalarType dtype;
    c10::SymInt first, samples;  // of the batch, where that is what was made
  };
  std::vector<Source> sources;
  bool cat;

  variable_list apply(variable_list&& incoming) override {
    variable_list out(sources.size());
    for (size_t k = 0; k < sources.size(); ++k) {
      const Source& source = sources[k];
      at::Tensor grad = incoming[cat ? 0 : k];
      if (!grad.defined() || !task_should_compute_output(k)) continue;
      if (cat) grad = grad.narrow_symint(0, source.first, source.samples);
      out[k] = grad_of_x(grad, source.scale, source.dtype);
    }
    return out;
  }

  std::string name() const override { return "InstanceNoiseBackward"; }
};

struct InstanceNoiseAt : Function<InstanceNoiseAt> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const OptionalTensor& sigma,
                            double sigma_value, const at::Tensor& state, const c10::SymInt& offset,
                            double scale, double bias, OptionalType dtype) {
    const AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({state});
    // Of sigma only this, so that it may be written to: learnt, for one.
    if (sigma.has_value()) {
      ctx->saved_data["samples"] = sigma->dim() == 0 ? c10::SymInt(-1) : sigma->sym_size(0);
      ctx->saved_data["sigma_dtype"] = sigma->scalar_type();
      ctx->saved_data["sigma_device"] = sigma->device();
    }
    ctx->saved_data["offset"] = offset;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["dtype"] = x.scalar_type();
    const at::Tensor out = call_noise_at(x, sigma, sigma_value, state, offset, scale, bias, dtype);
    ctx->saved_data["stride"] = out.sym_strides();
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    variable_list out(8);
    if (ctx->needs_input_grad(0)) {
      out[0] = grad_of_x(grads[0], ctx->saved_data["scale"].toDouble(),
                         ctx->saved_data["dtype"].toScalarType());
    }
    if (ctx->saved_data.count("samples") != 0 && ctx->needs_input_grad(1)) {
      out[1] = call_dot(grads[0], ctx->saved_data["stride"].toSymIntVector(), saved[0],
                        ctx->saved_data["offset"].toSymInt(), ctx->saved_data["samples"].toSymInt())
                   .to(ctx->saved_data["sigma_dtype"].toScalarType())
                   .to(ctx->saved_data["sigma_device"].toDevice());
    }
    return out;
  }
};

struct NoiseDot : Function<NoiseDot> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& grad,
                            c10::SymIntArrayRef stride, const at::Tensor& state,
                            const c10::SymInt& offset, const c10::SymInt& samples) {
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
    return {call_noise_at(zero, vectors[0], 0.0, saved[1], ctx->saved_data["offset"].toSymInt(),
                          1.0, 0.0, std::nullopt),
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

void check_no_transforms(at::TensorList x, const OptionalTensor& sigma) {
  ops::check_no_transforms("pygan.instance_noise", x);
  check_no_transform("pygan.instance_noise", sigma);
}

// Allocates, and leaves the rest to instance_noise.out: the compiler's functionalization takes ops
// that write to a list, but none that write and return one.
std::vector<at::Tensor> instance_noise(at::TensorList x, const OptionalTensor& sigma,
                                       double sigma_value, at::Tensor& state,
                                       c10::SymIntArrayRef offset, Doubles scale, Doubles bias,
                                       OptionalType dtype, bool cat) {
  TORCH_CHECK_NOT_IMPLEMENTED(!records(sigma),
                              "pygan::instance_noise: sigma must not require grad, because the "
                              "stream moves on; use noise_advance and instance_noise_at");
  check_no_transforms(x, sigma);
  const NoiseArguments arguments{x, sigma, sigma_value, state, offset, scale, bias, dtype, cat};
  check_noise(arguments);
  const auto node = make_node<NoiseNode>();
  node->cat = cat;
  variable_list out, recorded, results;
  at::Tensor batch;
  {
    const AutoDispatchBelowADInplaceOrView below;
    if (cat) {
      c10::SymDimVector sizes(x[0].sym_sizes());
      sizes[0] = samples_of(x);
      // From x[0], so that a subclass makes one of its kind.
      batch = x[0].new_empty_symint(sizes, x[0].options().dtype(noise_dtype(x, dtype)));
      const at::MemoryFormat format = x[0].suggest_memory_format();
      if (!batch.is_contiguous(format)) batch = at::empty_like(batch, batch.options(), format);
    }
    c10::SymInt first = 0;
    for (size_t k = 0; k < x.size(); ++k) {
      const c10::SymInt samples = cat ? x[k].sym_size(0) : c10::SymInt(0);
      out.push_back(cat ? batch.narrow_symint(0, first, samples)
                        : allocate_noisy(x[k], sigma, noise_dtype(x[k], dtype)));
      if (records(x[k])) {
        node->sources.push_back({scale[k], x[k].scalar_type(), first, samples});
        recorded.push_back(x[k]);
        if (!cat || results.empty()) results.push_back(cat ? batch : out[k]);
      }
      first += samples;
    }
    call_noise_out(arguments, state, out);
  }
  mark_written(state);
  if (!recorded.empty()) {
    node->set_next_edges(torch::autograd::collect_next_edges(at::TensorList(recorded)));
    torch::autograd::set_history(results, node);
  }
  if (cat) return {batch};
  return out;
}

void instance_noise_out(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                        at::Tensor& state, c10::SymIntArrayRef offset, Doubles scale, Doubles bias,
                        bool cat, at::TensorList out) {
  check_no_transforms(x, sigma);
  for (const at::Tensor& one : out) check_no_transform("pygan.instance_noise", one);
  check_not_recorded(x, sigma, out);
  const at::AutoDispatchBelowAutograd below;
  call_noise_out({x, sigma, sigma_value, state, offset, scale, bias, std::nullopt, cat}, state,
                 out);
}

// Not with autograd: inference mode leaves that out, and what it writes to may be saved elsewhere.
void instance_noise_out_written(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                                at::Tensor& state, c10::SymIntArrayRef offset, Doubles scale,
                                Doubles bias, bool cat, at::TensorList out) {
  {
    const AutoDispatchBelowADInplaceOrView below;
    call_noise_out({x, sigma, sigma_value, state, offset, scale, bias, std::nullopt, cat}, state,
                   out);
  }
  mark_written(state);
  for (const at::Tensor& one : out) mark_written(one);
}

at::Tensor instance_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                             const at::Tensor& state, c10::SymInt offset, double scale, double bias,
                             OptionalType dtype) {
  check_no_transforms(x, sigma);
  if (!records(x) && !records(sigma)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_noise_at(x, sigma, sigma_value, state, offset, scale, bias, dtype);
  }
  return InstanceNoiseAt::apply(x, sigma, sigma_value, state, offset, scale, bias, dtype);
}

at::Tensor noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     c10::SymInt offset, c10::SymInt samples) {
  check_no_transform("pygan.instance_noise", grad);
  if (!records(grad)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_dot(grad, stride, state, offset, samples);
  }
  return NoiseDot::apply(grad, stride, state, offset, samples);
}

at::Tensor noise_advance(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                         at::Tensor& state, c10::SymIntArrayRef offset, Doubles scale, Doubles bias,
                         OptionalType dtype, bool cat) {
  static const auto handle =
      op<at::Tensor(at::TensorList, const OptionalTensor&, double, at::Tensor&, c10::SymIntArrayRef,
                    Doubles, Doubles, OptionalType, bool)>("pygan::noise_advance");
  check_no_transforms(x, sigma);
  at::Tensor before;
  {
    const AutoDispatchBelowADInplaceOrView below;
    before = handle.call(x, sigma, sigma_value, state, offset, scale, bias, dtype, cat);
  }
  mark_written(state);
  return before;
}

at::Tensor noise_draw(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                      Doubles scale, Doubles bias, OptionalType dtype, bool cat, at::TensorList out,
                      std::optional<at::Generator> generator) {
  static const auto handle =
      op<at::Tensor(at::TensorList, const OptionalTensor&, double, Doubles, Doubles, OptionalType,
                    bool, at::TensorList, std::optional<at::Generator>)>("pygan::noise_draw");
  check_no_transforms(x, sigma);
  for (const at::Tensor& one : out) {
    check_no_transform("pygan.instance_noise", one);
    TORCH_CHECK_VALUE(!one.is_neg(), "pygan.instance_noise: out must not be a view that negates");
  }
  const AutoDispatchBelowADInplaceOrView below;
  return handle.call(x, sigma, sigma_value, scale, bias, dtype, cat, out, std::move(generator));
}

TORCH_LIBRARY_IMPL(pygan, ADInplaceOrView, m) {
  m.impl("instance_noise.out", instance_noise_out_written);
}
TORCH_LIBRARY_IMPL(pygan, CompositeImplicitAutograd, m) {
  m.impl("instance_noise", instance_noise);
}
TORCH_LIBRARY_IMPL(pygan, Autograd, m) {
  m.impl("instance_noise.out", instance_noise_out);
  m.impl("instance_noise_at", instance_noise_at);
  m.impl("noise_advance", noise_advance);
  m.impl("noise_draw", noise_draw);
  m.impl("noise_dot", noise_dot);
}

}  // namespace
}  // namespace pygan::ops
