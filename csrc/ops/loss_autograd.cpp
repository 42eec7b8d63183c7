// First and second derivatives of the gan_loss ops.
//
// gan_loss -> gan_loss_backward: a fused kernel, or, where a second derivative is asked for, a
// composition of gan_loss_terms and PyTorch's ops. gan_loss_terms is its own rule: the derivative
// of the terms of order k is those of order k + 1, up to 2. A third derivative of the loss does not
// exist here and says so.
//
// Keep gradients in the forward pass, or recompute them from the logits in the backward pass?
// Counted in tensors of N logits moved: keeping reads 1 and writes 1, then scales them by the
// incoming gradient (reads 1, writes 1); recomputing reads 1, then reads 1 and writes 1. A GPU is
// bound by memory: recompute. A CPU is bound by the exponential, which keeping evaluates once
// instead of twice (measured with AVX-512: 0.79 of the time), and it can look at the incoming
// gradient without a sync: where that is 1, as for a loss on its own, nothing is left to do. Under
// tracing: recompute, because there is no value to look at.
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "ops/autograd_node.h"
#include "ops/loss.h"

namespace pygan::ops {
namespace {

using at::AutoDispatchBelowADInplaceOrView;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

std::vector<at::Tensor> call_backward(const at::Tensor& grad, at::TensorList logits,
                                      const at::Tensor& means, const LossArgs& args) {
  static const auto backward = op<std::vector<at::Tensor>(
      const at::Tensor&, at::TensorList, const at::Tensor&, at::IntArrayRef, int64_t, double,
      c10::ArrayRef<double>, int64_t, c10::ArrayRef<double>, bool)>("pygan::gan_loss_backward");
  return backward.call(grad, logits, means, args.roles, args.loss, args.label_smoothing,
                       args.weights, args.reduction, args.targets, args.detach_means);
}

std::vector<at::Tensor> call_terms(at::TensorList logits, const LossArgs& args, int64_t order) {
  static const auto terms =
      op<std::vector<at::Tensor>(at::TensorList, at::IntArrayRef, int64_t, double, int64_t,
                                 c10::ArrayRef<double>)>("pygan::gan_loss_terms");
  return terms.call(logits, args.roles, args.loss, args.label_smoothing, order, args.targets);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> call_loss(at::TensorList logits, const LossArgs& args,
                                             LossWants wants) {
  static const auto loss = op<std::tuple<at::Tensor, at::Tensor>(
      at::TensorList, at::IntArrayRef, int64_t, double, c10::ArrayRef<double>, int64_t, bool,
      c10::ArrayRef<double>, bool, bool)>("pygan::gan_loss");
  return loss.call(logits, args.roles, args.loss, args.label_smoothing, args.weights,
                   args.reduction, wants.statistics, args.targets, args.detach_means, wants.parts);
}

std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>> call_loss_and_grad(
    at::TensorList logits, const LossArgs& args, LossWants wants) {
  static const auto loss_and_grad = op<std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>>(
      at::TensorList, at::IntArrayRef, int64_t, double, c10::ArrayRef<double>, int64_t, bool,
      c10::ArrayRef<double>, bool, bool)>("pygan::gan_loss_and_grad");
  return loss_and_grad.call(logits, args.roles, args.loss, args.label_smoothing, args.weights,
                            args.reduction, wants.statistics, args.targets, args.detach_means,
                            wants.parts);
}

namespace {

// Half precision too: a gradient that is not 1 recomputes. But not where it takes a pass of its
// own, as for what compares with a mean: there is nothing to be gained.
bool keeps_grads(at::TensorList logits, const LossArgs& args) {
  const auto type = logits[0].scalar_type();
  return (!args.to_mean() || type == math_type(type)) &&
         !c10::impl::TorchDispatchModeTLS::any_modes_set() &&
         std::all_of(logits.begin(), logits.end(), is_plain_cpu);
}

// A node of our own, and not a torch::autograd::Function, whose generic context costs as much as
// the rest of a small loss: with 64 logits, forward and backward took 95 us that way where this
// takes 68 (best of 3,000 on a slow machine; the backward pass of a.sum() + b.sum() likewise 67).
struct GanLossNode : torch::autograd::Node {
  std::vector<torch::autograd::SavedVariable> logits;
  at::Tensor means;
  std::vector<at::Tensor> grads;  // empty where they are recomputed
  c10::SmallVector<int64_t, 2> roles;
  c10::SmallVector<double, 2> weights, targets;
  int64_t loss, reduction;
  double label_smoothing;
  bool detach_means;

  variable_list apply(variable_list&& incoming) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    variable_list out(logits.size());
    const at::Tensor& grad = incoming[0];
    if (!grad.defined()) return out;
    check_no_transform("pygan.fused_losses", grad);
    variable_list x;
    for (const auto& saved : logits) x.push_back(saved.unpack());  // checks that they are unchanged
    if (!grads.empty() && !at::GradMode::is_enabled() && is_plain_cpu(grad)) {
      const double factor = grad.scalar_type() == at::kDouble ? *grad.const_data_ptr<double>()
                                                              : *grad.const_data_ptr<float>();
      // What is handed out is the receiver's to write to: a second backward pass recomputes.
      if (factor == 1) return std::exchange(grads, {});
      // Half precision recomputes too: its gradients would be rounded a second time.
      if (grads[0].scalar_type() == grad.scalar_type()) return scaled(grads, factor);
    }
    return call_backward(grad, x, means,
                         {roles, loss, label_smoothing, weights, reduction, targets, detach_means});
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& saved : logits) saved.reset_data();
    grads.clear();
  }

  std::string name() const override { return "GanLossBackward"; }
};

struct GanLossTerms : Function<GanLossTerms> {
  static variable_list forward(AutogradContext* ctx, at::TensorList logits, at::IntArrayRef roles,
                               int64_t loss, double label_smoothing, int64_t order,
                               c10::ArrayRef<double> targets) {
    const AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward(logits.vec());
    ctx->saved_data["settings"] =
        c10::ivalue::Tuple::create(roles, loss, label_smoothing, order, targets);
    auto terms = call_terms(logits, {roles, loss, label_smoothing, {}, kSum, targets}, order);
    variable_list constant;  // autograd takes all outputs for functions of any input
    for (size_t i = 0; i < terms.size(); ++i) {
      if (!logits[i].requires_grad()) constant.push_back(terms[i]);
    }
    ctx->mark_non_differentiable(constant);
    return terms;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const std::vector<c10::IValue> s = ctx->saved_data["settings"].toTuple()->elements().vec();
    const int64_t order = s[3].toInt();
    TORCH_CHECK_NOT_IMPLEMENTED(order < 2,
                                "pygan.fused_losses: derivatives must be of first or second order, "
                                "got a third; use pygan.reference for it");
    const variable_list logits = ctx->get_saved_variables();
    const auto roles = s[0].toIntVector();
    const double smoothing = s[2].toDouble();
    const auto targets = s[4].toDoubleVector();
    const auto slopes =
        call_terms(logits, {roles, s[1].toInt(), smoothing, {}, kSum, targets}, order + 1);
    variable_list out(logits.size() + 5);
    for (size_t i = 0; i < logits.size(); ++i) {
      if (grads[i].defined()) out[i] = (grads[i] * slopes[i]).to(logits[i].scalar_type());
    }
    return out;
  }
};

std::tuple<at::Tensor, at::Tensor> gan_loss(at::TensorList logits, at::IntArrayRef roles,
                                            int64_t loss, double label_smoothing,
                                            c10::ArrayRef<double> weights, int64_t reduction,
                                            bool statistics, c10::ArrayRef<double> targets,
                                            bool detach_means, bool parts) {
  check_no_transforms("pygan.fused_losses", logits);
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  const LossWants wants{statistics, parts};
  if (!records(logits)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_loss(logits, args, wants);
  }
  at::Tensor value, numbers;
  std::vector<at::Tensor> grads;
  {
    const AutoDispatchBelowADInplaceOrView below;
    if (keeps_grads(logits, args)) {
      std::tie(value, numbers, grads) = call_loss_and_grad(logits, args, wants);
    } else {
      std::tie(value, numbers) = call_loss(logits, args, wants);
    }
  }
  const auto node = make_node<GanLossNode>();
  node->set_next_edges(torch::autograd::collect_next_edges(logits));
  for (const at::Tensor& x : logits) node->logits.emplace_back(x, /*is_output=*/false);
  {
    const AutoDispatchBelowADInplaceOrView below;
    node->means = means_in(numbers, logits, args, wants);
  }
  node->grads = std::move(grads);
  node->roles.assign(roles.begin(), roles.end());
  node->weights.assign(weights.begin(), weights.end());
  node->loss = loss;
  node->reduction = reduction;
  node->label_smoothing = label_smoothing;
  node->targets.assign(targets.begin(), targets.end());
  node->detach_means = detach_means;
  torch::autograd::set_history(value, node);
  return {value, numbers};
}

std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>> gan_loss_and_grad(
    at::TensorList logits, at::IntArrayRef roles, int64_t loss, double label_smoothing,
    c10::ArrayRef<double> weights, int64_t reduction, bool statistics,
    c10::ArrayRef<double> targets, bool detach_means, bool parts) {
  check_no_transforms("pygan.fused_losses", logits);
  const AutoDispatchBelowADInplaceOrView below;
  return call_loss_and_grad(
      logits, {roles, loss, label_smoothing, weights, reduction, targets, detach_means},
      {statistics, parts});
}

}  // namespace

at::Tensor reduced(const at::Tensor& x, Reduction reduction) {
  const int64_t role = static_cast<int64_t>(Role::generator_fake);
  return -std::get<0>(call_loss(x, {role, linear_loss(), 0, {}, reduction}, {}));
}

namespace {

// The gradients as differentiable functions of the logits and of grad.
std::vector<at::Tensor> composed_backward(const at::Tensor& grad, at::TensorList logits,
                                          const LossArgs& args) {
  variable_list inputs(logits.size());  // of the form, in the math type
  const auto math = math_type(logits[0].scalar_type());
  const auto all = comparisons(args);
  for (const auto& [first, second, weight] : all) {
    inputs[first] = logits[first].to(math);
    if (second < 0) continue;
    inputs[second] = logits[second].to(math);
    const at::Tensor a = inputs[first], b = inputs[second];
    if (!args.to_mean()) {
      // The second of a pair contributes no term of its own: its slope is not asked for below.
      inputs[first] = a - b;
      continue;
    }
    const auto mean = [&](const at::Tensor& x) {
      return reduced(args.detach_means ? x.detach() : x, kMean);
    };
    inputs[first] = a - mean(b);
    inputs[second] = b - mean(a);
  }
  const auto slopes = call_terms(inputs, args, 1);
  std::vector<at::Tensor> out(logits.size());
  const auto share = [&](int64_t i, double weight) {
    const at::Tensor scaled = slopes[i] * grad.to(math) * weight;
    return args.reduction == kMean ? scaled.div(logits[i].sym_numel()) : scaled;
  };
  for (const auto& [first, second, weight] : all) {
    out[first] = share(first, weight);
    if (second < 0) continue;
    if (!args.to_mean()) {
      out[second] = -out[first];
      continue;
    }
    const at::Tensor a = out[first], b = share(second, weight);
    if (args.detach_means) {
      out[second] = b;
      continue;
    }
    out[first] = a - reduced(b, kSum).div(logits[first].sym_numel());
    out[second] = b - reduced(a, kSum).div(logits[second].sym_numel());
  }
  for (size_t i = 0; i < out.size(); ++i) out[i] = out[i].to(logits[i].scalar_type());
  return out;
}

std::vector<at::Tensor> gan_loss_backward(const at::Tensor& grad, at::TensorList logits,
                                          const at::Tensor& means, at::IntArrayRef roles,
                                          int64_t loss, double label_smoothing,
                                          c10::ArrayRef<double> weights, int64_t reduction,
                                          c10::ArrayRef<double> targets, bool detach_means) {
  check_no_transform("pygan.fused_losses", grad);
  check_no_transforms("pygan.fused_losses", logits);
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  if (records(logits) || records(grad)) {
    check_backward(grad, logits, means, args);
    return composed_backward(grad, logits, args);
  }
  const AutoDispatchBelowADInplaceOrView below;
  return call_backward(grad, logits, means, args);
}

std::vector<at::Tensor> gan_loss_terms(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                       double label_smoothing, int64_t order,
                                       c10::ArrayRef<double> targets) {
  check_no_transforms("pygan.fused_losses", logits);
  if (!records(logits)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_terms(logits, {roles, loss, label_smoothing, {}, kSum, targets}, order);
  }
  return GanLossTerms::apply(logits, roles, loss, label_smoothing, order, targets);
}

TORCH_LIBRARY_IMPL(pygan, Autograd, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_and_grad", gan_loss_and_grad);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}

}  // namespace
}  // namespace pygan::ops
