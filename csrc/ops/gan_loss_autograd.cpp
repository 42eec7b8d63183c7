// First and second derivatives of the gan_loss ops.
//
// gan_loss -> gan_loss_backward (a fused kernel) -> a composition of gan_loss_terms, which is its
// own rule: the derivative of the terms of order k is those of order k + 1, up to 2. A third
// derivative of the loss does not exist here and says so.
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

#include "ops/gan_loss.h"

namespace pygan::ops {

std::tuple<at::Tensor, at::Tensor> call_loss(at::TensorList logits, at::IntArrayRef roles,
                                             int64_t loss, double eps, int64_t reduction,
                                             bool statistics) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("pygan::gan_loss", "")
          .typed<std::tuple<at::Tensor, at::Tensor>(at::TensorList, at::IntArrayRef, int64_t,
                                                    double, int64_t, bool)>();
  return op.call(logits, roles, loss, eps, reduction, statistics);
}

namespace {

using at::AutoDispatchBelowADInplaceOrView;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

std::vector<at::Tensor> call_backward(const at::Tensor& grad, at::TensorList logits,
                                      at::IntArrayRef roles, int64_t loss, double eps,
                                      int64_t reduction) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("pygan::gan_loss_backward", "")
          .typed<std::vector<at::Tensor>(const at::Tensor&, at::TensorList, at::IntArrayRef,
                                         int64_t, double, int64_t)>();
  return op.call(grad, logits, roles, loss, eps, reduction);
}

std::vector<at::Tensor> call_terms(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                   double eps, int64_t order) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("pygan::gan_loss_terms", "")
                             .typed<std::vector<at::Tensor>(at::TensorList, at::IntArrayRef,
                                                            int64_t, double, int64_t)>();
  return op.call(logits, roles, loss, eps, order);
}

bool keeps_grads(at::TensorList logits) {
  return !c10::impl::TorchDispatchModeTLS::any_modes_set() &&
         std::all_of(logits.begin(), logits.end(), is_plain_cpu);
}

// A node of our own, and not a torch::autograd::Function, whose generic context costs as much as
// the rest of a small loss: with 64 logits, forward and backward took 95 us that way where this
// takes 68 (best of 3,000 on a slow machine; the backward pass of a.sum() + b.sum() likewise 67).
struct GanLossNode : torch::autograd::Node {
  std::vector<torch::autograd::SavedVariable> logits;
  std::vector<at::Tensor> grads;  // empty where they are recomputed
  c10::SmallVector<int64_t, 2> roles;
  int64_t loss, reduction;
  double eps;

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
      if (grads[0].scalar_type() == grad.scalar_type()) {
        for (size_t i = 0; i < grads.size(); ++i) out[i] = grads[i] * factor;
        return out;
      }
    }
    return call_backward(grad, x, roles, loss, eps, reduction);
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& saved : logits) saved.reset_data();
    grads.clear();
  }

  std::string name() const override { return "GanLossBackward"; }
};

struct GanLossBackward : Function<GanLossBackward> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& grad, at::TensorList logits,
                               at::IntArrayRef roles, int64_t loss, double eps, int64_t reduction) {
    const AutoDispatchBelowADInplaceOrView below;
    variable_list saved = logits.vec();
    saved.push_back(grad);
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["settings"] = c10::ivalue::Tuple::create(roles, loss, eps, reduction);
    return call_backward(grad, logits, roles, loss, eps, reduction);
  }

  // With v the gradient of out[i] = grad c term'(x): sum c v term'(x) to grad, grad c v term''(x)
  // to x.
  static variable_list backward(AutogradContext* ctx, const variable_list& vectors) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& grad = saved.back();
    const auto settings = ctx->saved_data["settings"].toTuple();
    const auto roles = settings->elements()[0].toIntVector();
    const int64_t loss = settings->elements()[1].toInt();
    const double eps = settings->elements()[2].toDouble();
    const bool mean = settings->elements()[3].toInt() == kMean;
    const at::TensorList logits(saved.data(), roles.size());
    const auto slopes = call_terms(logits, roles, loss, eps, 1);
    const auto curvatures = call_terms(logits, roles, loss, eps, 2);
    variable_list out(1 + roles.size() + 4);
    for (size_t i = 0; i < roles.size(); ++i) {
      if (!vectors[i].defined()) continue;
      const at::Tensor& x = saved[i];
      const auto weight = [&](const at::Tensor& t) { return mean ? t.div(x.sym_numel()) : t; };
      const at::Tensor v = vectors[i].to(math_type(x.scalar_type()));
      const at::Tensor to_grad = weight((v * slopes[i]).sum());
      out[0] = out[0].defined() ? out[0] + to_grad : to_grad;
      out[1 + i] = (v * curvatures[i] * weight(grad)).to(x.scalar_type());
    }
    if (out[0].defined()) out[0] = out[0].to(grad.scalar_type());
    return out;
  }
};

struct GanLossTerms : Function<GanLossTerms> {
  static variable_list forward(AutogradContext* ctx, at::TensorList logits, at::IntArrayRef roles,
                               int64_t loss, double eps, int64_t order) {
    const AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward(logits.vec());
    ctx->saved_data["settings"] = c10::ivalue::Tuple::create(roles, loss, eps, order);
    return call_terms(logits, roles, loss, eps, order);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto settings = ctx->saved_data["settings"].toTuple();
    const auto& s = settings->elements();
    const int64_t order = s[3].toInt();
    TORCH_CHECK_NOT_IMPLEMENTED(order < 2,
                                "pygan.fused_losses: derivatives must be of first or second order, "
                                "got a third; use pygan.reference for it");
    const variable_list logits = ctx->get_saved_variables();
    const auto slopes =
        call_terms(logits, s[0].toIntVector(), s[1].toInt(), s[2].toDouble(), order + 1);
    variable_list out(logits.size() + 4);
    for (size_t i = 0; i < logits.size(); ++i) {
      if (grads[i].defined()) out[i] = (grads[i] * slopes[i]).to(logits[i].scalar_type());
    }
    return out;
  }
};

// Below autograd at once where nothing is recorded: no node, no saved tensors.
bool records(at::TensorList tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& t) { return t.requires_grad(); });
}

std::tuple<at::Tensor, at::Tensor> gan_loss(at::TensorList logits, at::IntArrayRef roles,
                                            int64_t loss, double eps, int64_t reduction,
                                            bool statistics) {
  for (const at::Tensor& x : logits) check_no_transform("pygan.fused_losses", x);
  if (!records(logits)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_loss(logits, roles, loss, eps, reduction, statistics);
  }
  at::Tensor value, stats;
  std::vector<at::Tensor> grads;
  {
    const AutoDispatchBelowADInplaceOrView below;
    if (keeps_grads(logits)) {
      auto result = gan_loss_and_grads_cpu(logits, roles, loss, eps, reduction, statistics);
      value = std::move(result.loss);
      stats = std::move(result.statistics);
      grads = std::move(result.grads);
    } else {
      std::tie(value, stats) = call_loss(logits, roles, loss, eps, reduction, statistics);
    }
  }
  const auto node = c10::make_intrusive<GanLossNode>();
  node->set_next_edges(torch::autograd::collect_next_edges(logits));
  for (const at::Tensor& x : logits) node->logits.emplace_back(x, /*is_output=*/false);
  node->grads = std::move(grads);
  node->roles.assign(roles.begin(), roles.end());
  node->loss = loss;
  node->reduction = reduction;
  node->eps = eps;
  torch::autograd::set_history(value, node);
  return {value, stats};
}

std::vector<at::Tensor> gan_loss_backward(const at::Tensor& grad, at::TensorList logits,
                                          at::IntArrayRef roles, int64_t loss, double eps,
                                          int64_t reduction) {
  check_no_transform("pygan.fused_losses", grad);
  for (const at::Tensor& x : logits) check_no_transform("pygan.fused_losses", x);
  if (!records(logits) && !records(grad)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_backward(grad, logits, roles, loss, eps, reduction);
  }
  return GanLossBackward::apply(grad, logits, roles, loss, eps, reduction);
}

std::vector<at::Tensor> gan_loss_terms(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                       double eps, int64_t order) {
  for (const at::Tensor& x : logits) check_no_transform("pygan.fused_losses", x);
  if (!records(logits)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_terms(logits, roles, loss, eps, order);
  }
  return GanLossTerms::apply(logits, roles, loss, eps, order);
}

TORCH_LIBRARY_IMPL(pygan, Autograd, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}

}  // namespace
}  // namespace pygan::ops
