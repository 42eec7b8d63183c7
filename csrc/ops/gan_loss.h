// What the files of the gan_loss ops share.
#pragma once

#include "ops/cuda_bridge.h"

namespace pygan::ops {

using cuda::kMaxPieces;

enum Reduction : int64_t { kMean, kSum };

// Throws what design calls bad input: dtypes, devices, empty tensors under a mean. Reads no
// element.
void check_logits(at::TensorList logits, at::IntArrayRef roles, int64_t loss, int64_t reduction);

// The gan_loss op through the dispatcher.
std::tuple<at::Tensor, at::Tensor> call_loss(at::TensorList logits, at::IntArrayRef roles,
                                             int64_t loss, double eps, int64_t reduction,
                                             bool statistics);

// gan_loss on the CPU, and the gradients of the loss by each of the logits from the same pass.
struct LossAndGrads {
  at::Tensor loss, statistics;
  std::vector<at::Tensor> grads;
};
LossAndGrads gan_loss_and_grads_cpu(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                    double label_smoothing, int64_t reduction, bool statistics);

}  // namespace pygan::ops
