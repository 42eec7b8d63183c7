// Derivatives of the instance_noise ops. z is never stored: the gradient of sigma regenerates it.
//
//   out = x scale + bias + sigma z:   d x = scale grad,   d sigma = sum of grad z  (noise_dot),
//                                     d scale = sum of grad x
//
// noise_dot is linear in grad, and its derivative is noise again, so every order exists.
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <mutex>
#include <numeric>

#include "ops/autograd_node.h"
#include "ops/loss.h"
#include "ops/noise.h"

namespace pygan::ops {

using at::AutoDispatchBelowADInplaceOrView;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

std::vector<at::Tensor> call_noise(const NoiseArgs& a, at::Tensor& state) {
  static const auto handle = op<std::vector<at::Tensor>(
      at::TensorList, const OptionalTensor&, double, const OptionalTensor&, at::Tensor&,
      c10::SymIntArrayRef, Doubles, Doubles, OptionalType, bool, bool)>("pygan::instance_noise");
  return handle.call(a.x, a.sigma, a.sigma_value, a.scale, state, a.offset, a.scale_value, a.bias,
                     a.dtype, a.cat, a.same);
}

void call_noise_out(const NoiseArgs& a, at::Tensor& state, at::TensorList out) {
  static const auto handle =
      op<void(at::TensorList, const OptionalTensor&, double, const OptionalTensor&, at::Tensor&,
              c10::SymIntArrayRef, Doubles, Doubles, bool, bool, at::TensorList)>(
          "pygan::instance_noise", "out");
  handle.call(a.x, a.sigma, a.sigma_value, a.scale, state, a.offset, a.scale_value, a.bias, a.cat,
              a.same, out);
}

namespace {

at::Tensor call_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                         const OptionalTensor& scale, const at::Tensor& state,
                         const c10::SymInt& offset, double scale_value, double bias,
                         OptionalType dtype) {
  static const auto handle =
      op<at::Tensor(const at::Tensor&, const OptionalTensor&, double, const OptionalTensor&,
                    const at::Tensor&, c10::SymInt, double, double, OptionalType)>(
          "pygan::instance_noise_at");
  return handle.call(x, sigma, sigma_value, scale, state, offset, scale_value, bias, dtype);
}

at::Tensor call_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                    const c10::SymInt& offset, const c10::SymInt& samples) {
  static const auto handle =
      op<at::Tensor(const at::Tensor&, c10::SymIntArrayRef, const at::Tensor&, c10::SymInt,
                    c10::SymInt)>("pygan::noise_dot");
  return handle.call(grad, stride, state, offset, samples);
}

// What the forward pass computes in, for x and a gradient of these types.
at::ScalarType noise_math_type(at::ScalarType x, const at::Tensor& grad) {
  return math_type(x == at::kDouble ? x : grad.scalar_type());
}

at::Tensor grad_of_x(const at::Tensor& grad, const at::Tensor& scale, double scale_value,
                     at::ScalarType dtype) {
  if (!scale.defined()) return (scale_value == 1.0 ? grad : grad * scale_value).to(dtype);
  if (scale.device() != grad.device()) return (grad * scale).to(dtype);  // a number of the host's
  // With as many dimensions as grad it counts for the product's type: 0-d ones are rounded to it.
  c10::SymDimVector shape(grad.dim(), 1);
  if (grad.dim() > 0) shape[0] = scale.sym_numel();
  const at::Tensor factor = scale.to(noise_math_type(dtype, grad)).reshape_symint(shape);
  return (grad * factor).to(dtype);
}

// The sum of grad x over everything, or over each sample where scale has a dimension.
at::Tensor grad_of_scale(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& scale) {
  const at::ScalarType math = noise_math_type(x.scalar_type(), grad);
  const at::Tensor product = grad.to(math) * x.to(math);
  // at::sum gives whole samples to its threads, but parts of a single one, whose bits would depend
  // on their number.
  if (scale.sym_numel() == 1) return reduced(product, kSum).reshape_symint(scale.sym_sizes());
  std::vector<int64_t> dims(x.dim() - 1);
  std::iota(dims.begin(), dims.end(), 1);
  return dims.empty() ? product : product.sum(dims);  // (over no dimensions means over all)
}

// The gradients of the tensors that require some.
struct NoiseNode : torch::autograd::Node {
  struct Source {
    double scale;
    at::ScalarType dtype;
    c10::SymInt first, samples;  // of the batch, where that is what was made
  };
  std::vector<Source> sources;
  torch::autograd::SavedVariable scale;  // a tensor, instead of the sources'
  bool cat;

  variable_list apply(variable_list&& incoming) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const at::Tensor scales = scale.unpack();
    variable_list out(sources.size());
    for (size_t k = 0; k < sources.size(); ++k) {
      const Source& source = sources[k];
      at::Tensor grad = incoming[cat ? 0 : k], own = scales;
      if (!grad.defined() || !task_should_compute_output(k)) continue;
      if (cat) grad = grad.narrow_symint(0, source.first, source.samples);
      if (cat && own.defined() && own.dim() == 1) {
        own = own.narrow_symint(0, source.first, source.samples);
      }
      out[k] = grad_of_x(grad, own, source.scale, source.dtype);
    }
    return out;
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    scale.reset_data();
  }

  std::string name() const override { return "InstanceNoiseBackward"; }
};

struct InstanceNoiseAt : Function<InstanceNoiseAt> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const OptionalTensor& sigma,
                            double sigma_value, const OptionalTensor& scale,
                            const at::Tensor& state, const c10::SymInt& offset, double scale_value,
                            double bias, OptionalType dtype) {
    const AutoDispatchBelowADInplaceOrView below;
    // x for the gradient of scale alone.
    const bool learned = scale.has_value() && scale->requires_grad();
    ctx->save_for_backward({state, scale.value_or(at::Tensor()), learned ? x : at::Tensor()});
    // Of sigma only this, so that it may be written to, as by an optimizer.
    if (sigma.has_value()) {
      ctx->saved_data["samples"] = sigma->dim() == 0 ? c10::SymInt(-1) : sigma->sym_size(0);
      ctx->saved_data["sigma_dtype"] = sigma->scalar_type();
      ctx->saved_data["sigma_device"] = sigma->device();
    }
    ctx->saved_data["offset"] = offset;
    ctx->saved_data["scale"] = scale_value;
    ctx->saved_data["dtype"] = x.scalar_type();
    const at::Tensor out =
        call_noise_at(x, sigma, sigma_value, scale, state, offset, scale_value, bias, dtype);
    ctx->saved_data["stride"] = out.sym_strides();
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &state = saved[0], &scale = saved[1], &x = saved[2];
    variable_list out(9);
    if (ctx->needs_input_grad(0)) {
      out[0] = grad_of_x(grads[0], scale, ctx->saved_data["scale"].toDouble(),
                         ctx->saved_data["dtype"].toScalarType());
    }
    // Edges are numbered through the tensors that were given.
    const bool has_sigma = ctx->saved_data.count("samples") != 0;
    if (has_sigma && ctx->needs_input_grad(1)) {
      out[1] = call_dot(grads[0], ctx->saved_data["stride"].toSymIntVector(), state,
                        ctx->saved_data["offset"].toSymInt(), ctx->saved_data["samples"].toSymInt())
                   .to(ctx->saved_data["sigma_dtype"].toScalarType())
                   .to(ctx->saved_data["sigma_device"].toDevice());
    }
    if (x.defined() && ctx->needs_input_grad(has_sigma ? 2 : 1)) {
      out[3] = grad_of_scale(grads[0], x, scale).to(scale.scalar_type()).to(scale.device());
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
    return {call_noise_at(zero, vectors[0], 0.0, std::nullopt, saved[1],
                          ctx->saved_data["offset"].toSymInt(), 1.0, 0.0, std::nullopt),
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

void check_noise_transforms(at::TensorList x, const OptionalTensor& sigma,
                            const OptionalTensor& scale) {
  check_no_transforms("pygan.instance_noise", x);
  check_no_transform("pygan.instance_noise", sigma);
  check_no_transform("pygan.instance_noise", scale);
}

// Allocates, and leaves the rest to instance_noise.out: the compiler's functionalization takes ops
// that write to a list, but none that write and return one.
std::vector<at::Tensor> instance_noise(at::TensorList x, const OptionalTensor& sigma,
                                       double sigma_value, const OptionalTensor& scale,
                                       at::Tensor& state, c10::SymIntArrayRef offset,
                                       Doubles scale_value, Doubles bias, OptionalType dtype,
                                       bool cat, bool same) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      !records(sigma) && !records(scale),
      "pygan::instance_noise: sigma and scale must not require grad, "
      "because the stream moves on, got one that does; use noise_advance and "
      "instance_noise_at");
  check_noise_transforms(x, sigma, scale);
  const NoiseArgs arguments{x,           sigma, sigma_value, scale, state, offset,
                            scale_value, bias,  dtype,       cat,   same};
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
                        : allocate_noisy(x[k], arguments.per_sample(), noise_dtype(x[k], dtype)));
      if (records(x[k])) {
        node->sources.push_back({scale_value[k], x[k].scalar_type(), first, samples});
        recorded.push_back(x[k]);
        if (!cat || results.empty()) results.push_back(cat ? batch : out[k]);
      }
      first += samples;
    }
    call_noise_out(arguments, state, out);
  }
  mark_written(state);
  if (!recorded.empty()) {
    if (scale.has_value()) node->scale = torch::autograd::SavedVariable(*scale, false);
    node->set_next_edges(torch::autograd::collect_next_edges(at::TensorList(recorded)));
    torch::autograd::set_history(results, node);
  }
  if (cat) return {batch};
  return out;
}

void instance_noise_out(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                        const OptionalTensor& scale, at::Tensor& state, c10::SymIntArrayRef offset,
                        Doubles scale_value, Doubles bias, bool cat, bool same,
                        at::TensorList out) {
  check_noise_transforms(x, sigma, scale);
  for (const at::Tensor& one : out) check_no_transform("pygan.instance_noise", one);
  const NoiseArgs a{x,           sigma, sigma_value,  scale, state, offset,
                    scale_value, bias,  std::nullopt, cat,   same};
  check_not_recorded(a, out);
  const at::AutoDispatchBelowAutograd below;
  call_noise_out(a, state, out);
}

// Not in the Autograd kernels, which inference mode skips: what is written to there may be saved
// for a backward pass.
void instance_noise_out_written(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                                const OptionalTensor& scale, at::Tensor& state,
                                c10::SymIntArrayRef offset, Doubles scale_value, Doubles bias,
                                bool cat, bool same, at::TensorList out) {
  {
    const AutoDispatchBelowADInplaceOrView below;
    call_noise_out(
        {x, sigma, sigma_value, scale, state, offset, scale_value, bias, std::nullopt, cat, same},
        state, out);
  }
  mark_written(state);
  for (const at::Tensor& one : out) mark_written(one);
}

at::Tensor instance_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                             const OptionalTensor& scale, const at::Tensor& state,
                             c10::SymInt offset, double scale_value, double bias,
                             OptionalType dtype) {
  check_noise_transforms(x, sigma, scale);
  if (!records(x) && !records(sigma) && !records(scale)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_noise_at(x, sigma, sigma_value, scale, state, offset, scale_value, bias, dtype);
  }
  return InstanceNoiseAt::apply(x, sigma, sigma_value, scale, state, offset, scale_value, bias,
                                dtype);
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
                         const OptionalTensor& scale, at::Tensor& state, c10::SymIntArrayRef offset,
                         Doubles scale_value, Doubles bias, OptionalType dtype, bool cat,
                         bool same) {
  static const auto handle =
      op<at::Tensor(at::TensorList, const OptionalTensor&, double, const OptionalTensor&,
                    at::Tensor&, c10::SymIntArrayRef, Doubles, Doubles, OptionalType, bool, bool)>(
          "pygan::noise_advance");
  check_noise_transforms(x, sigma, scale);
  at::Tensor before;
  {
    const AutoDispatchBelowADInplaceOrView below;
    before = handle.call(x, sigma, sigma_value, scale, state, offset, scale_value, bias, dtype, cat,
                         same);
  }
  mark_written(state);
  return before;
}

at::Tensor noise_draw(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                      const OptionalTensor& scale, Doubles scale_value, Doubles bias,
                      OptionalType dtype, bool cat, bool same, at::TensorList out,
                      std::optional<at::Generator> generator) {
  static const auto handle = op<at::Tensor(
      at::TensorList, const OptionalTensor&, double, const OptionalTensor&, Doubles, Doubles,
      OptionalType, bool, bool, at::TensorList, std::optional<at::Generator>)>("pygan::noise_draw");
  check_noise_transforms(x, sigma, scale);
  for (const at::Tensor& one : out) {
    check_no_transform("pygan.instance_noise", one);
    TORCH_CHECK_VALUE(!one.is_neg(),
                      "pygan.instance_noise: out must not be a negated view, got one");
  }
  const AutoDispatchBelowADInplaceOrView below;
  return handle.call(x, sigma, sigma_value, scale, scale_value, bias, dtype, cat, same, out,
                     std::move(generator));
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
