// Gradients of leaves without autograd's engine, which copies each of those that its caller keeps:
// for eight scales on the CPU that took longer than loss and gradients together.
#pragma once

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

#include "ops/common.h"

namespace pygan::ops {

// Whether the leaf asks for gradients of another dtype, which newer versions of torch let it.
template <class T>
bool changes_dtype(const T& x, const at::Tensor& grad) {
  if constexpr (requires { x.grad_dtype(); }) {
    const auto wanted = x.grad_dtype();
    return wanted.has_value() && *wanted != grad.scalar_type();
  }
  return false;
}

// Whether all that the engine would do for x is to make a copy of `grad` its first gradient.
inline bool takes_first_gradient(const at::Tensor& x, const at::Tensor& grad) {
  namespace impl = torch::autograd::impl;
  if (!is_plain_cpu(x) || !is_plain_cpu(grad) || !x.is_leaf() || !x.requires_grad()) return false;
  if (x.grad().defined() || x.strides() != grad.strides() || !grad.is_non_overlapping_and_dense()) {
    return false;
  }
  if (changes_dtype(x, grad)) return false;
  if (!impl::hooks(x).empty() || impl::post_acc_grad_hooks(x) != nullptr) return false;
  const auto node = impl::try_get_grad_accumulator(x);
  return !node || (node->pre_hooks().empty() && node->post_hooks().empty() &&
                   node->tensor_pre_hooks().empty());
}

inline at::Tensor copy_of(const at::Tensor& grad) {
  at::Tensor copy = empty_as(grad, grad.scalar_type());
  std::memcpy(copy.mutable_data_ptr(), grad.const_data_ptr(), grad.nbytes());
  return copy;
}

// torch::autograd::backward with given gradients. One run of the engine comes first, so that where
// it fails no leaf has changed here, and the hooks of a leaf that lies behind a graph too see its
// whole gradient.
inline void backward(const std::vector<at::Tensor>& outputs,
                     const std::vector<at::Tensor>& gradients, bool retain_graph) {
  torch::autograd::variable_list roots, given;
  const auto to_engine = [&](size_t i) {
    roots.push_back(outputs[i]);
    given.push_back(gradients[i]);
  };
  const auto run = [&] {
    if (!roots.empty()) torch::autograd::backward(roots, given, retain_graph);
    roots.clear();
    given.clear();
  };
  const auto takes_directly = [&](size_t i) {
    return gradients[i].defined() && takes_first_gradient(outputs[i], gradients[i]);
  };
  std::vector<size_t> leaves;
  for (size_t i = 0; i < outputs.size(); ++i) {
    takes_directly(i) ? leaves.push_back(i) : to_engine(i);
  }
  run();
  for (const size_t i : leaves) {
    if (takes_directly(i)) {
      outputs[i].mutable_grad() = copy_of(gradients[i]);
    } else {  // the engine has been here, or the same leaf came before
      to_engine(i);
    }
  }
  run();
}

}  // namespace pygan::ops
