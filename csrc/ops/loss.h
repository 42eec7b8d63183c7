// What the files of the loss ops share: their arguments, the checks of these, and the plan that
// follows from them: the pieces that the kernels work on.
#pragma once

#include "ops/cuda_bridge.h"

namespace pygan::ops {

enum Reduction : int64_t { kMean, kSum };

// What the ops take besides the logits. The k-th tensor of a kind (real, fake) belongs to scale k;
// weights holds one number per scale, or none if all are 1. targets holds two for the discriminator
// (for real and fake logits), one for the generator, or none for the loss's own.
struct LossArgs {
  at::IntArrayRef roles;
  int64_t loss;
  double label_smoothing;
  Doubles weights;
  int64_t reduction;
  Doubles targets = {};
  bool detach_means = false;

  const Loss& info() const { return kLosses[loss]; }
  bool to_mean() const {  // also of unchecked arguments
    return loss >= 0 && loss < kLossCount && info().compared == Compared::to_mean;
  }
  // Which of the tensors are real, or fake.
  c10::SmallVector<int64_t, 2> indices_of(bool real) const {
    c10::SmallVector<int64_t, 2> indices;
    for (size_t i = 0; i < roles.size(); ++i) {
      if (is_real(static_cast<Role>(roles[i])) == real) indices.push_back(static_cast<int64_t>(i));
    }
    return indices;
  }
  bool discriminator() const { return static_cast<Role>(roles[0]) <= Role::fake; }
  Targets aims() const {
    Targets all = info().targets(label_smoothing);
    if (targets.size() == 2) all = {targets[0], targets[1], all.generator, 1 - targets[0]};
    if (targets.size() == 1) all.generator = targets[0];
    return all;
  }
};

// How many numbers the backward pass needs from the forward pass: kMeans a scale for losses that
// compare with the mean, else none.
inline int64_t means_of(at::TensorList logits, const LossArgs& args) {
  return args.to_mean() ? static_cast<int64_t>(logits.size()) / 2 * kMeans : 0;
}

// Validate the arguments of gan_loss and gan_loss_and_grad, of gan_loss_backward and of
// gan_loss_terms, without reading tensor data.
void check_loss(at::TensorList logits, const LossArgs& args);
void check_backward(const at::Tensor& grad, at::TensorList logits, const at::Tensor& means,
                    const LossArgs& args);
void check_terms(at::TensorList logits, const LossArgs& args, int64_t order);

// Tensors that are compared with each other: their indices in a checked list, in the order in which
// the loss subtracts them. For other losses: one tensor, and -1.
struct Compare {
  int64_t first, second;
  double weight;
};
c10::SmallVector<Compare, 2> comparisons(const LossArgs& args);

// The pieces of a call, over tensors that `logits` keeps alive: dense copies where need be, in the
// same memory order where elements are paired.
struct LossPlan {
  c10::SmallVector<at::Tensor, 2> logits;
  c10::SmallVector<LossPiece, 2> pieces;

  LossPlan(at::TensorList logits, const LossArgs& args);
  // The pointwise ops: every tensor by itself, without weight.
  static LossPlan of_terms(at::TensorList logits, const LossArgs& args);

  // New tensors in the shapes and memory order of the logits, for the pieces to write to.
  std::vector<at::Tensor> allocate_outs(at::ScalarType type);
  // Brings filled outs into the memory order of the caller's tensors where the plan had to leave
  // it.
  void restore_layout(at::TensorList tensors, std::vector<at::Tensor>& outs) const;
  // How many logits there are of each kind in pieces [first, last).
  void count(size_t first, size_t last, double& real, double& fake) const;
  const void* first_logit(bool real) const;  // null where there is none of the kind

 private:
  LossPlan() = default;
  c10::SmallVector<std::pair<int64_t, int64_t>, 2> indices_;  // logits and other of each piece
  bool reordered_ = false;
};

// What is asked for beside the loss, and how many numbers it takes: in the op's second result, the
// statistics, then what means_of() counts, then the parts: the loss of each comparison, unweighted.
struct LossWants {
  bool statistics = false, parts = false;
};
std::tuple<at::Tensor, at::Tensor> allocate_results(at::TensorList logits, const LossArgs& args,
                                                    LossWants wants);
at::Tensor means_in(const at::Tensor& numbers, at::TensorList logits, const LossArgs& args,
                    LossWants wants);

// The ops through the dispatcher.
std::tuple<at::Tensor, at::Tensor> call_loss(at::TensorList logits, const LossArgs& args,
                                             LossWants wants);
std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>> call_loss_and_grad(
    at::TensorList logits, const LossArgs& args, LossWants wants);

// The loss that is linear in its logits: -x for the generator, Wasserstein's.
inline constexpr int64_t kLinearLoss = [] {
  int64_t index = 0;
  while (kLosses[index].compared != Compared::alone || kLosses[index].generator != Form::Linear) {
    ++index;
  }
  return index;
}();

// The sum or mean of x, not by at::sum, whose bits depend on the number of threads: what the
// Wasserstein generator maximizes.
at::Tensor reduced(const at::Tensor& x, Reduction reduction);

// x * factor for gradients on the CPU. Not by PyTorch, which flushes subnormal numbers if told to.
std::vector<at::Tensor> scaled(at::TensorList grads, double factor);

}  // namespace pygan::ops
