// The schema of every op. Implementations register themselves beside their code.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

TORCH_LIBRARY(pygan, m) {
  // The loss over several tensors of logits, in one pass: roles[i] says what logits[i] is (0 real,
  // 1 fake, for the discriminator; 2 fake, 3 real, for the generator), the k-th of a kind belonging
  // to scale k. weights: one number a scale, or none: all 1. reduction: 0 mean (of each tensor,
  // then added), 1 sum. Returns the loss (0-d), and as one tensor the statistics (9, if asked for)
  // and what the backward pass of relativistic_average needs (4 a scale).
  m.def(
      "gan_loss(Tensor[] logits, int[] roles, int loss, float label_smoothing, float[] weights, "
      "int reduction, bool statistics) -> (Tensor, Tensor)");
  // The same, and the gradients by the logits. Not differentiable itself.
  m.def(
      "gan_loss_and_grad(Tensor[] logits, int[] roles, int loss, float label_smoothing, "
      "float[] weights, int reduction, bool statistics) -> (Tensor, Tensor, Tensor[])");
  m.def(
      "gan_loss_backward(Tensor grad, Tensor[] logits, Tensor means, int[] roles, int loss, "
      "float label_smoothing, float[] weights, int reduction) -> Tensor[]");
  // The terms of the loss (order 0) or their derivatives (1, 2), element by element. Of losses that
  // compare, the logits must already be the differences.
  m.def(
      "gan_loss_terms(Tensor[] logits, int[] roles, int loss, float label_smoothing, int order) "
      "-> Tensor[]");

  // x scale + bias + sigma z, z from state = {seed, step} (int64) and the element's offset; then
  // the step in `state` is one further. sigma is the tensor, or sigma_value without one.
  m.def(
      "instance_noise(Tensor x, Tensor? sigma, float sigma_value, Tensor(a!) state, int offset, "
      "float scale, float bias, ScalarType? dtype) -> Tensor");
  m.def(
      "instance_noise.out(Tensor x, Tensor? sigma, float sigma_value, Tensor(a!) state, int "
      "offset, "
      "float scale, float bias, *, Tensor(b!) out) -> ()");
  // The same without advancing, and differentiable in sigma. noise_advance gives it the state: a
  // copy of the one that it moves on.
  m.def(
      "instance_noise_at(Tensor x, Tensor? sigma, float sigma_value, Tensor state, int offset, "
      "float scale, float bias, ScalarType? dtype) -> Tensor");
  // Moves the state on and returns a copy of what it was, for instance_noise_at; after the checks
  // of instance_noise, so that bad input moves nothing.
  m.def(
      "noise_advance(Tensor x, Tensor? sigma, float sigma_value, Tensor(a!) state, int offset, "
      "float scale, float bias, ScalarType? dtype) -> Tensor");
  // A state drawn from the generator, after the same checks.
  m.def(
      "noise_draw(Tensor x, Tensor? sigma, float sigma_value, float scale, float bias, "
      "ScalarType? dtype, Tensor? out, Generator? generator) -> Tensor",
      {at::Tag::nondeterministic_seeded});
  // sum of grad z over everything (samples = -1: a 0-d result) or over each of `samples` samples,
  // grad's elements being numbered in the memory order of a tensor with these strides.
  m.def(
      "noise_dot(Tensor grad, SymInt[] stride, Tensor state, int offset, SymInt samples) -> "
      "Tensor");
}

// vmap has no rule for these, and a loop over the batch would be slower than what it replaces.
void refuse_vmap(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack*) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, op.schema().name(),
                              ": torch.func.vmap is not implemented; call it on the whole batch "
                              "(a loss with reduction=\"none\"), or use pygan.reference");
}

TORCH_LIBRARY_IMPL(pygan, FuncTorchBatched, m) {
  for (const char* name :
       {"gan_loss", "gan_loss_and_grad", "gan_loss_backward", "gan_loss_terms", "instance_noise",
        "instance_noise.out", "instance_noise_at", "noise_advance", "noise_draw", "noise_dot"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse_vmap>());
  }
}
