// First and second derivatives of feature matching.
//
// On the CPU the forward pass writes the gradient: 3 tensors of fp32 are moved in all, and the
// backward pass hands it out, multiplied in place where the incoming gradient is not 1. Where the
// gradient is not known yet (relative), would be rounded twice (16 bits), or could not be read
// without a sync (CUDA) or has no value (tracing), l1 keeps one byte an element, the sign of its
// difference, and neither map: 3.5 tensors (reads two, writes a quarter; reads a quarter, writes
// one) where recomputing moves 5. l2 recomputes: keeping its differences would move as much.
#include <torch/csrc/autograd/custom_function.h>

#include "ops/features.h"

namespace pygan::ops {

using at::AutoDispatchBelowADInplaceOrView;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

Matched call_features(const FeatureArgs& args, bool signs) {
  static const auto matching =
      op<Matched(at::TensorList, at::TensorList, Doubles, int64_t, bool, bool)>(
          "pygan::feature_matching");
  return matching.call(args.fake, args.real, args.weights, args.distance, args.relative, signs);
}

Matched call_features_and_grad(const FeatureArgs& args) {
  static const auto matching = op<Matched(at::TensorList, at::TensorList, Doubles, int64_t, bool)>(
      "pygan::feature_matching_and_grad");
  return matching.call(args.fake, args.real, args.weights, args.distance, args.relative);
}

namespace {

bool caches_grads(const FeatureArgs& args) {
  const auto is_math_type = [](const at::Tensor& x) {
    return x.scalar_type() == math_type(x.scalar_type());
  };
  return !args.relative && std::all_of(args.fake.begin(), args.fake.end(), is_math_type) &&
         are_plain_cpu(args.fake) && are_plain_cpu(args.real);
}

std::vector<at::Tensor> call_l1_backward(const at::Tensor& grad, const at::Tensor& multipliers,
                                         at::TensorList signs, at::IntArrayRef dtypes) {
  static const auto backward =
      op<std::vector<at::Tensor>(const at::Tensor&, const at::Tensor&, at::TensorList,
                                 at::IntArrayRef)>("pygan::feature_matching_l1_backward");
  return backward.call(grad, multipliers, signs, dtypes);
}

std::vector<at::Tensor> call_l2_backward(const at::Tensor& grad, const at::Tensor& multipliers,
                                         at::TensorList fake, at::TensorList real) {
  static const auto backward =
      op<std::vector<at::Tensor>(const at::Tensor&, const at::Tensor&, at::TensorList,
                                 at::TensorList)>("pygan::feature_matching_l2_backward");
  return backward.call(grad, multipliers, fake, real);
}

// Inputs: the fake maps, the real ones, and arguments that are no tensors.
struct FeatureMatching : Function<FeatureMatching> {
  static variable_list forward(AutogradContext* ctx, at::TensorList fake, at::TensorList real,
                               const std::vector<double>& weights, int64_t distance, bool relative,
                               bool wants_signs) {
    const AutoDispatchBelowADInplaceOrView below;
    const FeatureArgs args{fake, real, weights, distance, relative};
    const bool l1 = args.kind() == Distance::l1;
    at::Tensor loss, values, multipliers;
    std::vector<at::Tensor> signs, grads;
    if (!wants_signs && caches_grads(args)) {
      std::tie(loss, values, multipliers, grads) = call_features_and_grad(args);
    } else {
      std::tie(loss, values, multipliers, signs) = call_features(args, l1);
    }
    ctx->saved_data["grads"] = grads;
    variable_list saved{multipliers};
    if (l1) {
      saved.insert(saved.end(), signs.begin(), signs.end());
    } else {
      saved.insert(saved.end(), fake.begin(), fake.end());
      saved.insert(saved.end(), real.begin(), real.end());
    }
    ctx->save_for_backward(saved);
    std::vector<int64_t> dtypes;
    for (const at::Tensor& map : fake) dtypes.push_back(static_cast<int64_t>(map.scalar_type()));
    ctx->saved_data["dtypes"] = dtypes;
    ctx->saved_data["l1"] = l1;
    variable_list results{loss, values, multipliers};
    if (wants_signs) results.insert(results.end(), signs.begin(), signs.end());
    ctx->mark_non_differentiable(variable_list(results.begin() + 1, results.end()));
    return results;
  }

  // What the forward pass kept, times grad; empty where there is nothing.
  static std::vector<at::Tensor> kept_grads(AutogradContext* ctx, const at::Tensor& grad, bool l1) {
    std::vector<at::Tensor> grads = ctx->saved_data["grads"].toTensorVector();
    if (at::GradMode::is_enabled()) {
      if (!l1) return {};  // whose gradient is a function of the maps
      for (at::Tensor& x : grads) x = x * grad.to(x.scalar_type());
      return grads;
    }
    const bool again = torch::autograd::get_current_graph_task_keep_graph();
    if (!again) ctx->saved_data["grads"] = std::vector<at::Tensor>();
    const bool is_one = is_plain_cpu(grad) && grad.item<double>() == 1;
    for (at::Tensor& x : grads) {
      if (again) x = x.clone();
      if (!is_one) x.mul_(grad.to(x.scalar_type()));
    }
    return grads;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& incoming) {
    const auto dtypes = ctx->saved_data["dtypes"].toIntVector();
    const size_t maps = dtypes.size();
    variable_list out(2 * maps + 4);
    const at::Tensor& grad = incoming[0];
    if (!grad.defined()) return out;
    check_no_transform(kFeatureOp, grad);
    const variable_list saved = ctx->get_saved_variables();
    const at::TensorList kept = at::TensorList(saved).slice(1);
    const bool l1 = ctx->saved_data["l1"].toBool();
    std::vector<at::Tensor> grads = kept_grads(ctx, grad, l1);
    if (!grads.empty()) {
      // Already there.
    } else if (l1) {
      grads = call_l1_backward(grad, saved[0], kept, dtypes);
    } else {
      grads = call_l2_backward(grad, saved[0], kept.slice(0, maps), kept.slice(maps));
    }
    for (size_t i = 0; i < maps; ++i) {
      if (ctx->needs_input_grad(maps + i)) out[maps + i] = -grads[i];
      if (ctx->needs_input_grad(i)) out[i] = std::move(grads[i]);
    }
    return out;
  }
};

Matched feature_matching(at::TensorList fake, at::TensorList real, Doubles weights,
                         int64_t distance, bool relative, bool signs) {
  check_no_transforms(kFeatureOp, fake);
  check_no_transforms(kFeatureOp, real);
  const FeatureArgs args{fake, real, weights, distance, relative};
  if (!records(fake) && !records(real)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_features(args, signs);
  }
  check_features(args);  // before a node is made
  const variable_list results =
      FeatureMatching::apply(fake, real, weights.vec(), distance, relative, signs);
  return {results[0], results[1], results[2], variable_list(results.begin() + 3, results.end())};
}

// Multiplier i times grad and `slope`, as a differentiable function of grad.
at::Tensor factor(const at::Tensor& multipliers, size_t i, const at::Tensor& grad, double slope) {
  return multipliers.select(0, static_cast<int64_t>(i)) * grad.to(multipliers.scalar_type()) *
         slope;
}

std::vector<at::Tensor> feature_matching_l1_backward(const at::Tensor& grad,
                                                     const at::Tensor& multipliers,
                                                     at::TensorList signs, at::IntArrayRef dtypes) {
  check_no_transform(kFeatureOp, grad);
  if (!records(grad)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_l1_backward(grad, multipliers, signs, dtypes);
  }
  check_signs(grad, multipliers, signs, dtypes);
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < signs.size(); ++i) {
    out.push_back(
        (signs[i] * factor(multipliers, i, grad, 1.0)).to(static_cast<at::ScalarType>(dtypes[i])));
  }
  return out;
}

std::vector<at::Tensor> feature_matching_l2_backward(const at::Tensor& grad,
                                                     const at::Tensor& multipliers,
                                                     at::TensorList fake, at::TensorList real) {
  check_no_transform(kFeatureOp, grad);
  check_no_transforms(kFeatureOp, fake);
  check_no_transforms(kFeatureOp, real);
  if (!records(grad) && !records(fake) && !records(real)) {
    const AutoDispatchBelowADInplaceOrView below;
    return call_l2_backward(grad, multipliers, fake, real);
  }
  check_l2(grad, multipliers, fake, real);
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < fake.size(); ++i) {
    const auto type = fake[i].scalar_type(), math = math_type(type);
    out.push_back(
        ((fake[i].to(math) - real[i].to(math)) * factor(multipliers, i, grad, kSlopeOfSquare))
            .to(type));
  }
  return out;
}

TORCH_LIBRARY_IMPL(pygan, Autograd, m) {
  m.impl("feature_matching", feature_matching);
  m.impl("feature_matching_l1_backward", feature_matching_l1_backward);
  m.impl("feature_matching_l2_backward", feature_matching_l2_backward);
}

}  // namespace
}  // namespace pygan::ops
