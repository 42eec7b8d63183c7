// What the files of the gan_loss ops share: their arguments, the checks of them, and the plan of
// kernel launches that follows from them.
#pragma once

#include "ops/cuda_bridge.h"

namespace pygan::ops {

enum Reduction : int64_t { kMean, kSum };

// What the ops take beside the logits. The k-th tensor of a kind (real, fake) belongs to scale k;
// weights holds one number a scale, or none: all 1.
struct LossArgs {
  at::IntArrayRef roles;
  int64_t loss;
  double label_smoothing;
  c10::ArrayRef<double> weights;
  int64_t reduction;

  const Loss& info() const { return kLosses[loss]; }
  bool to_mean() const {  // also of unchecked arguments
    return loss >= 0 && loss < kLossCount && info().compared == Compared::to_mean;
  }
  bool discriminator() const { return static_cast<Role>(roles[0]) <= Role::fake; }
};

// Throw what design calls bad input; read no element. check_loss: everything. check_logits: what
// each tensor is by itself, for the ops on terms.
void check_logits(at::TensorList logits, const LossArgs& args);
void check_loss(at::TensorList logits, const LossArgs& args);

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

 private:
  LossPlan() = default;
  c10::SmallVector<std::pair<int64_t, int64_t>, 2> indices_;  // logits and other of each piece
  bool reordered_ = false;
};

// The ops through the dispatcher. means: numbers of kMeans a scale, for losses that compare with
// the mean, else none; they follow the statistics in the second result.
std::tuple<at::Tensor, at::Tensor> call_loss(at::TensorList logits, const LossArgs& args,
                                             bool statistics);
std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>> call_loss_and_grad(
    at::TensorList logits, const LossArgs& args, bool statistics);

}  // namespace pygan::ops
