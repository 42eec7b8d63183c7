// What the ops share: dtypes, memory order, and the messages of bad input.
#pragma once

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/library.h>

#include <algorithm>

#include "math/dtype.h"
#include "ops/huge_pages.h"

namespace pygan::ops {

using Doubles = c10::ArrayRef<double>;

inline bool is_float(at::ScalarType type) {
  return type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16;
}
// As Python prints it.
inline std::string name_of(at::ScalarType type) {
  return std::string("torch.").append(c10::getDtypeNames(type).first);
}
inline Dtype dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return Dtype::float64;
    case at::kHalf:
      return Dtype::float16;
    case at::kBFloat16:
      return Dtype::bfloat16;
    case at::kByte:
      return Dtype::uint8;
    default:
      return Dtype::float32;
  }
}
// fp32, or fp64 for fp64.
inline at::ScalarType math_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

// x itself where its elements fill a block of memory without gaps or overlaps, in any order; else a
// copy that does, in the layout that empty_like(x) has too.
inline at::Tensor dense(const at::Tensor& x) {
  return x.is_non_overlapping_and_dense() ? x : x.clone(at::MemoryFormat::Preserve);
}

// at::empty_strided on like's device. On the CPU without the dispatcher, whose share of a small
// loss's four allocations is a tenth of its time.
inline at::Tensor empty_on(const at::Tensor& like, at::IntArrayRef sizes, at::IntArrayRef strides,
                           at::ScalarType type) {
  if (like.is_cpu()) return with_huge_pages(at::detail::empty_strided_cpu(sizes, strides, type));
  return at::empty_strided(sizes, strides, like.options().dtype(type));
}

// A tensor with the sizes and strides of x, which is dense, and of this type.
inline at::Tensor empty_as(const at::Tensor& x, at::ScalarType type) {
  return empty_on(x, x.sizes(), x.strides(), type);
}

// What the meta kernels return for lists: empty_like(tensors[i]) of the type that type_of(i) says.
template <class F>
std::vector<at::Tensor> empty_like_each(at::TensorList tensors, F&& type_of) {
  std::vector<at::Tensor> all;
  for (size_t i = 0; i < tensors.size(); ++i) {
    all.push_back(at::empty_like(tensors[i], tensors[i].options().dtype(type_of(i))));
  }
  return all;
}

// Forward-mode derivatives, torch.func's transforms too, would silently come out as zero.
inline void check_no_transform(const char* op, const at::Tensor& x) {
  const bool transformed = x.key_set().has(c10::DispatchKey::FuncTorchGradWrapper);
  TORCH_CHECK_NOT_IMPLEMENTED(!transformed && !x._fw_grad(/*level=*/0).defined(), op,
                              ": forward-mode differentiation and the transforms of torch.func are "
                              "not implemented; use torch.autograd.grad, or pygan.reference");
}
inline void check_no_transform(const char* op, const std::optional<at::Tensor>& x) {
  if (x.has_value()) check_no_transform(op, *x);
}
inline void check_no_transforms(const char* op, at::TensorList tensors) {
  for (const at::Tensor& x : tensors) check_no_transform(op, x);
}

// Whether autograd records what is done with it. Where it does not, ops go below autograd at once:
// no node, no saved tensors.
inline bool records(const at::Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }
inline bool records(const std::optional<at::Tensor>& x) { return x.has_value() && records(*x); }
inline bool records(at::TensorList tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& x) { return x.requires_grad(); });
}

// An op of ours through the dispatcher; looked up once, into a static variable of the caller's.
template <class Signature>
c10::TypedOperatorHandle<Signature> op(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// Whether memory behind a CPU tensor may be read as it is: no subclass, fake tensor, wrapper of a
// transform, or view that negates lazily.
inline bool is_plain_cpu(const at::Tensor& x) {
  return x.is_cpu() && x.layout() == at::kStrided && x.has_storage() && !x.is_neg() &&
         !x._is_zerotensor() && !x.unsafeGetTensorImpl()->is_python_dispatch() &&
         !x.key_set().has(c10::DispatchKey::Functionalize);
}

// Whether this holds for all tensors, and nothing traces or intercepts the ops: then the forward
// pass may compute gradients, and the backward pass may read the value of the incoming one.
inline bool are_plain_cpu(at::TensorList tensors) {
  return !c10::impl::TorchDispatchModeTLS::any_modes_set() &&
         std::all_of(tensors.begin(), tensors.end(), is_plain_cpu);
}

}  // namespace pygan::ops
