// The loss ops on tensors without data: shapes, dtypes and strides, for torch.compile and fake
// tensors. They check their arguments as the others do.
#include "ops/loss.h"

namespace pygan::ops {
namespace {

std::vector<at::Tensor> like_logits(at::TensorList logits) {
  return empty_like_each(logits, [&](size_t i) { return logits[i].scalar_type(); });
}

std::tuple<at::Tensor, at::Tensor> gan_loss(at::TensorList logits, at::IntArrayRef roles,
                                            int64_t loss, double label_smoothing, Doubles weights,
                                            int64_t reduction, bool statistics, Doubles targets,
                                            bool detach_means, bool parts) {
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  check_loss(logits, args);
  return allocate_results(logits, args, {statistics, parts});
}

std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>> gan_loss_and_grad(
    at::TensorList logits, at::IntArrayRef roles, int64_t loss, double label_smoothing,
    Doubles weights, int64_t reduction, bool statistics, Doubles targets, bool detach_means,
    bool parts) {
  auto [value, numbers] = gan_loss(logits, roles, loss, label_smoothing, weights, reduction,
                                   statistics, targets, detach_means, parts);
  return {value, numbers, like_logits(logits)};
}

std::vector<at::Tensor> gan_loss_backward(const at::Tensor& grad, at::TensorList logits,
                                          const at::Tensor& means, at::IntArrayRef roles,
                                          int64_t loss, double label_smoothing, Doubles weights,
                                          int64_t reduction, Doubles targets, bool detach_means) {
  check_backward(grad, logits, means,
                 {roles, loss, label_smoothing, weights, reduction, targets, detach_means});
  return like_logits(logits);
}

std::vector<at::Tensor> gan_loss_terms(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                       double label_smoothing, int64_t order, Doubles targets) {
  check_terms(logits, {roles, loss, label_smoothing, {}, kSum, targets}, order);
  return empty_like_each(logits, [&](size_t i) { return math_type(logits[i].scalar_type()); });
}

TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_and_grad", gan_loss_and_grad);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}

}  // namespace
}  // namespace pygan::ops
