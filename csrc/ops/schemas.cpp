// The schema of every op. Implementations register themselves beside their code.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

TORCH_LIBRARY(pygan, m) {
  // The loss over several tensors of logits, in one pass: roles[i] says what logits[i] is (0 real,
  // 1 fake, for the discriminator; 2 fake, 3 real, for the generator), the k-th of a kind belonging
  // to scale k. weights: one number a scale, or none: all 1. reduction: 0 mean (of each tensor,
  // then added), 1 sum. targets: of real and fake logits, or the generator's one, or none: the
  // loss's own. detach_means: those that logits are compared with are constants. Returns the loss
  // (0-d), and as one tensor the statistics (12, if asked for), what the backward pass of losses
  // that compare with means needs (4 a scale), and the parts (if asked for): the loss of each
  // tensor, or of each pair, without its weight.
  m.def(
      "gan_loss(Tensor[] logits, int[] roles, int loss, float label_smoothing, float[] weights, "
      "int reduction, bool statistics, float[] targets=[], bool detach_means=False, "
      "bool parts=False) -> (Tensor, Tensor)");
  // The same, and the gradients by the logits. Not differentiable itself.
  m.def(
      "gan_loss_and_grad(Tensor[] logits, int[] roles, int loss, float label_smoothing, "
      "float[] weights, int reduction, bool statistics, float[] targets=[], "
      "bool detach_means=False, bool parts=False) -> (Tensor, Tensor, Tensor[])");
  m.def(
      "gan_loss_backward(Tensor grad, Tensor[] logits, Tensor means, int[] roles, int loss, "
      "float label_smoothing, float[] weights, int reduction, float[] targets=[], "
      "bool detach_means=False) -> Tensor[]");
  // The terms of the loss (order 0) or their derivatives (1, 2), element by element. Of losses that
  // compare, the logits must already be the differences.
  m.def(
      "gan_loss_terms(Tensor[] logits, int[] roles, int loss, float label_smoothing, int order, "
      "float[] targets=[]) -> Tensor[]");

  // The distances between the maps of two lists: |d| (distance 0) or d^2 (1) on the mean over each
  // map, times its weight, added. Returns the loss, the value and the multiplier of each map (see
  // math/features.h), and where `signs` are wanted for the backward pass, those of each d, int8.
  m.def(
      "feature_matching(Tensor[] fake, Tensor[] real, float[] weights, int distance, "
      "bool relative, bool signs) -> (Tensor, Tensor, Tensor, Tensor[])");
  // The same, and the gradients by the fake maps. Not differentiable itself.
  m.def(
      "feature_matching_and_grad(Tensor[] fake, Tensor[] real, float[] weights, int distance, "
      "bool relative) -> (Tensor, Tensor, Tensor, Tensor[])");
  // The gradients by the fake maps, of these dtypes.
  m.def(
      "feature_matching_l1_backward(Tensor grad, Tensor multipliers, Tensor[] signs, int[] dtypes) "
      "-> Tensor[]");
  m.def(
      "feature_matching_l2_backward(Tensor grad, Tensor multipliers, Tensor[] fake, Tensor[] real) "
      "-> Tensor[]");

  // x scale + bias + sigma z for each x: z from state = {seed, step} (int64), where the k-th tensor
  // takes step + k, and the element's offset; then the step in `state` is advanced by as many.
  // same: all take `step`, which advances by one. sigma and scale are tensors, one value or one per
  // sample, or sigma_value and scale_value without one. cat: the results are one batch, (real,
  // fake), whose samples a sigma and a scale of one value per sample are for.
  m.def(
      "instance_noise(Tensor[] x, Tensor? sigma, float sigma_value, Tensor? scale, "
      "Tensor(a!) state, SymInt[] offset, float[] scale_value, float[] bias, ScalarType? dtype, "
      "bool cat, bool same) -> Tensor[]");
  m.def(
      "instance_noise.out(Tensor[] x, Tensor? sigma, float sigma_value, Tensor? scale, "
      "Tensor(a!) state, SymInt[] offset, float[] scale_value, float[] bias, bool cat, bool same, "
      "*, Tensor(b!)[] out) -> ()");
  // For one tensor, without advancing, and differentiable in sigma and scale. noise_advance gives
  // it the state.
  m.def(
      "instance_noise_at(Tensor x, Tensor? sigma, float sigma_value, Tensor? scale, Tensor state, "
      "SymInt offset, float scale_value, float bias, ScalarType? dtype) -> Tensor");
  // Moves the state on as instance_noise does, after the same checks, and returns the state that
  // each tensor takes, (x, 2), for instance_noise_at.
  m.def(
      "noise_advance(Tensor[] x, Tensor? sigma, float sigma_value, Tensor? scale, "
      "Tensor(a!) state, SymInt[] offset, float[] scale_value, float[] bias, ScalarType? dtype, "
      "bool cat, bool same) -> Tensor");
  // A state drawn from the generator, after the same checks.
  m.def(
      "noise_draw(Tensor[] x, Tensor? sigma, float sigma_value, Tensor? scale, "
      "float[] scale_value, float[] bias, ScalarType? dtype, bool cat, bool same, Tensor[] out, "
      "Generator? generator) -> Tensor",
      {at::Tag::nondeterministic_seeded});
  // sum of grad z over everything (samples = -1: a 0-d result) or over each of `samples` samples,
  // grad's elements being numbered in the memory order of a tensor with these strides.
  m.def(
      "noise_dot(Tensor grad, SymInt[] stride, Tensor state, SymInt offset, SymInt samples) -> "
      "Tensor");
}

// vmap has no rule for these, and a loop over the batch would be slower than what it replaces. (To
// ops without lists autograd's own is_grads_batched=True applies such a loop.)
void refuse_vmap(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack*) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, op.schema().name(),
                              ": torch.func.vmap and is_grads_batched=True are not implemented; "
                              "call it on the whole batch (a loss with reduction=\"none\"), "
                              "call torch.autograd.grad for one gradient after another, or use "
                              "pygan.reference");
}

TORCH_LIBRARY_IMPL(pygan, Batched, m) {
  for (const char* name :
       {"gan_loss_backward", "feature_matching_l1_backward", "feature_matching_l2_backward"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse_vmap>());
  }
}

TORCH_LIBRARY_IMPL(pygan, FuncTorchBatched, m) {
  for (const char* name :
       {"gan_loss", "gan_loss_and_grad", "gan_loss_backward", "gan_loss_terms", "feature_matching",
        "feature_matching_and_grad", "feature_matching_l1_backward", "feature_matching_l2_backward",
        "instance_noise", "instance_noise.out", "instance_noise_at", "noise_advance", "noise_draw",
        "noise_dot"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse_vmap>());
  }
}
