// Bad input of the instance_noise ops: each check says which argument must be what, and what it
// got.
#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <utility>

#include "ops/noise.h"

namespace pygan::ops {
namespace {

// What a message calls the k-th of the tensors.
std::string name_of_x(const char* name, size_t k, size_t count, bool cat) {
  const char* op = cat ? "pygan.instance_noise_pair: " : "pygan.instance_noise: ";
  if (cat) return std::string(op) + (k == 0 ? "real" : "fake");
  if (count == 1) return std::string(op) + name;
  return std::string(op) + name + "[" + std::to_string(k) + "]";
}

const char* op_of(const NoiseArgs& a) {
  return a.cat ? "pygan.instance_noise_pair: " : "pygan.instance_noise: ";
}

void check_tensor(const NoiseArgs& a, size_t k) {
  const at::Tensor& x = a.x[k];
  const auto name = [&] { return name_of_x("x", k, a.x.size(), a.cat); };
  TORCH_CHECK_TYPE(is_float(x.scalar_type()) || x.scalar_type() == at::kByte, name(),
                   " must be float32, float64, float16, bfloat16 or uint8, got ",
                   name_of(x.scalar_type()));
  TORCH_CHECK_VALUE(x.device() == a.x[0].device(), name(), " must be on the device of ",
                    a.cat ? "real" : "x[0]", ", ", a.x[0].device(), ", got ", x.device());
  TORCH_CHECK_VALUE(a.state.device() == x.device(), op_of(a), "stream must be on the device of x, ",
                    x.device(), ", got ", a.state.device());
  TORCH_CHECK_VALUE(std::isfinite(a.scale_value[k]), op_of(a), "scale must be finite, got ",
                    a.scale_value[k]);
  TORCH_CHECK_VALUE(std::isfinite(a.bias[k]), op_of(a), "bias must be finite, got ", a.bias[k]);
  TORCH_CHECK_VALUE(a.offset[k] >= 0, op_of(a), "offset must not be negative, got ", a.offset[k]);
  const at::Tensor& first = a.x[0];
  TORCH_CHECK_VALUE(!a.same || x.sym_sizes() == first.sym_sizes(), name(),
                    " must have the shape of ", a.cat ? "real" : "x[0]", ", ", first.sym_sizes(),
                    ", for same_noise=True, got ", x.sym_sizes());
  if (!a.cat) return;
  TORCH_CHECK_VALUE(x.dim() > 0, name(), " must be a batch of samples, (N, ...), got a 0-d tensor");
  TORCH_CHECK_VALUE(
      x.dim() == first.dim() && x.sym_sizes().slice(1).equals(first.sym_sizes().slice(1)), name(),
      " must have samples of the shape of real's, ", first.sym_sizes(), ", got ", x.sym_sizes());
}

// Sigma or scale, where it is a tensor, and whether one of a single value is taken.
void check_factor(const NoiseArgs& a, const char* name, const at::Tensor& factor, bool takes_one) {
  TORCH_CHECK_TYPE(factor.scalar_type() == at::kFloat || factor.scalar_type() == at::kDouble,
                   op_of(a), name, " must be a float32 or float64 tensor, got ",
                   name_of(factor.scalar_type()));
  const auto fits = [&](const c10::SymInt& samples) {
    return factor.dim() == 0 || (factor.dim() == 1 && factor.sym_size(0) == samples);
  };
  if (a.cat) {
    const c10::SymInt samples = samples_of(a.x);
    TORCH_CHECK_VALUE(fits(samples) && (takes_one || factor.dim() > 0), op_of(a), name,
                      " must be a number", takes_one ? ", a 0-d tensor" : " (for real alone)",
                      " or one value per sample of real and fake, shape [", samples,
                      "], got shape ", factor.sym_sizes());
  }
  for (size_t k = 0; k < a.x.size(); ++k) {
    const at::Tensor& x = a.x[k];
    TORCH_CHECK_VALUE(a.cat || fits(x.dim() > 0 ? x.sym_size(0) : c10::SymInt(-1)), op_of(a), name,
                      " must be a number, a 0-d tensor or one value per sample of ",
                      a.x.size() == 1 ? "x" : "x[" + std::to_string(k) + "]", ", shape ",
                      x.sym_sizes(), ", got shape ", factor.sym_sizes());
    TORCH_CHECK_VALUE(factor.device() == x.device() || (factor.is_cpu() && factor.dim() == 0),
                      op_of(a), name, " must be on the device of x, ", x.device(), ", got ",
                      factor.device());
  }
}

void check_state(const char* op, const at::Tensor& state) {
  TORCH_CHECK_TYPE(state.scalar_type() == at::kLong && state.dim() == 1 && state.sym_size(0) == 2 &&
                       state.is_contiguous(),
                   op, "state must be an int64 tensor {seed, step}, got ",
                   name_of(state.scalar_type()), " of shape ", state.sym_sizes());
}

// at::get_overlap_status, also of tensors on meta, and of two tensors that NumPy gave the same
// memory. TooHard: where one has gaps, or sizes that are not known yet.
at::MemOverlapStatus overlap_of(const at::Tensor& a, const at::Tensor& b) {
  using Status = at::MemOverlapStatus;
  if (!a.has_storage() || !b.has_storage() || a.device() != b.device()) return Status::No;
  if (a.is_meta() && !a.storage().is_alias_of(b.storage())) return Status::No;
  for (const at::Tensor* x : {&a, &b}) {
    if (x->unsafeGetTensorImpl()->has_symbolic_sizes_strides()) return Status::TooHard;
    if (x->numel() == 0) return Status::No;
  }
  // From the first to behind the last element.
  const auto range = [](const at::Tensor& x) {
    int64_t length = 1;
    for (int64_t d = 0; d < x.dim(); ++d) length += (x.size(d) - 1) * x.stride(d);
    const auto base = x.is_meta() ? 0 : reinterpret_cast<uintptr_t>(x.storage().data());
    const uintptr_t begin = base + x.storage_offset() * x.element_size();
    return std::pair(begin, begin + length * x.element_size());
  };
  const auto [a_begin, a_end] = range(a);
  const auto [b_begin, b_end] = range(b);
  if (a_end <= b_begin || b_end <= a_begin) return Status::No;
  if (!a.is_non_overlapping_and_dense() || !b.is_non_overlapping_and_dense()) {
    return Status::TooHard;
  }
  return a_begin == b_begin && a_end == b_end && a.strides() == b.strides() ? Status::Full
                                                                            : Status::Partial;
}

// Whether a and b are known to share memory.
bool overlap(const at::Tensor& a, const at::Tensor& b) {
  const at::MemOverlapStatus status = overlap_of(a, b);
  return status == at::MemOverlapStatus::Full || status == at::MemOverlapStatus::Partial;
}

// Whether they are known to share none.
bool apart(const at::Tensor& a, const at::Tensor& b) {
  return overlap_of(a, b) == at::MemOverlapStatus::No;
}

void check_out_overlap(const NoiseArgs& a, at::TensorList out) {
  const at::TensorList x = a.x;
  for (size_t k = 0; k < x.size(); ++k) {
    const auto name = [&] { return name_of_x("out", k, x.size(), false); };
    TORCH_CHECK_VALUE(at::has_internal_overlap(out[k]) != at::MemOverlap::Yes, name(),
                      " must not overlap itself, got strides ", out[k].sym_strides());
    TORCH_CHECK_VALUE(overlap_of(out[k], x[k]) != at::MemOverlapStatus::Partial, name(),
                      " must be x or share no memory with it, got a partial overlap");
    for (size_t j = 0; j < x.size(); ++j) {
      TORCH_CHECK_VALUE(
          j == k || (!overlap(out[k], x[j]) && !overlap(out[k], out[j])), name(),
          " must share no memory with the other tensors of x and out, got an overlap");
    }
    TORCH_CHECK_VALUE(!a.sigma.has_value() || apart(out[k], *a.sigma), name(),
                      " must share no memory with sigma, got an overlap");
    TORCH_CHECK_VALUE(!a.scale.has_value() || apart(out[k], *a.scale), name(),
                      " must share no memory with scale, got an overlap");
  }
}

// Whether a tensor of these sizes and strides fills a block of memory without gaps or overlaps.
bool is_dense(at::IntArrayRef sizes, at::IntArrayRef strides) {
  c10::SmallVector<std::pair<int64_t, int64_t>, 8> dims;  // (stride, size)
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return true;
    if (sizes[d] > 1) dims.emplace_back(strides[d], sizes[d]);
  }
  std::sort(dims.begin(), dims.end());
  int64_t expected = 1;
  for (const auto& [stride, size] : dims) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

}  // namespace

at::ScalarType noise_dtype(at::TensorList x, OptionalType dtype) {
  if (dtype.has_value()) return *dtype;
  OptionalType found;
  for (const at::Tensor& one : x) {
    if (!is_float(one.scalar_type())) continue;
    found = found.has_value() ? at::promote_types(*found, one.scalar_type()) : one.scalar_type();
  }
  return found.value_or(c10::typeMetaToScalarType(c10::get_default_dtype()));
}

c10::SymInt samples_of(at::TensorList x) {
  c10::SymInt samples = 0;
  for (const at::Tensor& one : x) samples += one.sym_size(0);
  return samples;
}

void check_noise(const NoiseArgs& a) {
  check_state(op_of(a), a.state);
  TORCH_CHECK_VALUE(!a.x.empty(), op_of(a), "x must hold at least one tensor, got an empty list");
  TORCH_CHECK_VALUE(
      a.offset.size() == a.x.size() && a.scale_value.size() == a.x.size() &&
          a.bias.size() == a.x.size(),
      op_of(a), "x must have as many tensors as there are offsets, scales and biases, got ",
      a.x.size(), " for ", a.offset.size(), ", ", a.scale_value.size(), " and ", a.bias.size());
  if (a.dtype.has_value()) {
    TORCH_CHECK_TYPE(is_float(*a.dtype), op_of(a),
                     "dtype must be float32, float64, float16 or bfloat16, got ",
                     name_of(*a.dtype));
  }
  for (size_t k = 0; k < a.x.size(); ++k) check_tensor(a, k);
  TORCH_CHECK_VALUE(a.sigma.has_value() || (a.sigma_value >= 0 && std::isfinite(a.sigma_value)),
                    op_of(a), "sigma must be finite and not negative, got ", a.sigma_value);
  if (a.sigma.has_value()) check_factor(a, "sigma", *a.sigma, true);
  // A number scales real alone: one value on the device might be meant for either.
  if (a.scale.has_value()) check_factor(a, "scale", *a.scale, !a.cat);
}

void check_noise_out(const NoiseArgs& a, at::TensorList out) {
  const at::TensorList x = a.x;
  TORCH_CHECK_VALUE(out.size() == x.size(),
                    "pygan.instance_noise: out must have as many tensors as "
                    "x, ",
                    x.size(), ", got ", out.size());
  for (size_t k = 0; k < x.size(); ++k) {
    const auto name = [&] { return name_of_x("out", k, x.size(), false); };
    TORCH_CHECK_TYPE(is_float(out[k].scalar_type()), name(),
                     " must be float32, float64, float16 or bfloat16, got ",
                     name_of(out[k].scalar_type()));
    TORCH_CHECK_VALUE(out[k].sym_sizes() == x[k].sym_sizes(), name(), " must have the shape of x, ",
                      x[k].sym_sizes(), ", got ", out[k].sym_sizes());
    TORCH_CHECK_VALUE(out[k].device() == x[k].device(), name(), " must be on the device of x, ",
                      x[k].device(), ", got ", out[k].device());
    // It would keep the tangent of what it held before; in inference mode too, which hides it.
    const c10::AutoFwGradMode with_tangents(true);
    check_no_transform("pygan.instance_noise", out[k]);
  }
  check_out_overlap(a, out);
}

void check_state_apart(const NoiseArgs& a, at::TensorList out) {
  for (size_t k = 0; k < out.size(); ++k) {
    TORCH_CHECK_VALUE(apart(out[k], a.state), name_of_x("out", k, out.size(), false),
                      " must share no memory with the stream's state, got an overlap");
  }
  bool read = (a.sigma.has_value() && !apart(*a.sigma, a.state)) ||
              (a.scale.has_value() && !apart(*a.scale, a.state));
  for (const at::Tensor& one : a.x) read |= !apart(one, a.state);
  TORCH_CHECK_VALUE(!read,
                    "pygan.instance_noise: x, sigma and scale must share no memory with the "
                    "stream's state, got an overlap");
}

void check_noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     const c10::SymInt& offset, const c10::SymInt& samples) {
  const char* op = "pygan::noise_dot: ";
  check_state(op, state);
  TORCH_CHECK_TYPE(is_float(grad.scalar_type()), op,
                   "grad must be float32, float64, float16 or bfloat16, got ",
                   name_of(grad.scalar_type()));
  TORCH_CHECK_VALUE(grad.device() == state.device(), op, "state must be on the device of grad, ",
                    grad.device(), ", got ", state.device());
  TORCH_CHECK_VALUE(offset >= 0, op, "offset must not be negative, got ", offset);
  TORCH_CHECK_VALUE(samples == -1 || (grad.dim() > 0 && samples == grad.sym_size(0)), op,
                    "samples must be -1, or the size of grad's first dimension, got ", samples,
                    " for shape ", grad.sym_sizes());
  const auto check = [&](bool fits) {
    TORCH_CHECK_VALUE(fits, op,
                      "stride must be that of a dense tensor of grad's shape, its samples one "
                      "after another where there are several sums, got ",
                      stride, " for shape ", grad.sym_sizes());
  };
  check(static_cast<int64_t>(stride.size()) == grad.dim());
  for (const c10::SymInt& one : stride) check(one >= 0);
  const auto sizes = c10::asIntArrayRefSlowOpt(grad.sym_sizes());
  const auto strides = c10::asIntArrayRefSlowOpt(stride);
  if (!sizes.has_value() || !strides.has_value()) return;  // traced: checked when it runs
  check(is_dense(*sizes, *strides));
  for (size_t d = 1; samples >= 0 && d < sizes->size(); ++d) {
    check((*sizes)[d] <= 1 || (*sizes)[0] <= 1 || (*strides)[d] <= (*strides)[0]);
  }
}

void check_not_recorded(const NoiseArgs& a, at::TensorList out) {
  TORCH_CHECK(!records(a.x) && !records(out) && !records(a.sigma) && !records(a.scale),
              "pygan.instance_noise: out must not be given if x, sigma, scale or out require grad, "
              "because functions with out= are not differentiable, got one that does");
}

at::Tensor state_to_draw(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                         const OptionalTensor& scale, Doubles scale_value, Doubles bias,
                         OptionalType dtype, bool cat, bool same, at::TensorList out) {
  TORCH_CHECK_VALUE(!x.empty(),
                    "pygan::noise_draw: x must hold at least one tensor, got an empty list");
  const at::Tensor state = at::empty({2}, x[0].options().dtype(at::kLong));
  const c10::SymDimVector offset(x.size(), 0);
  const NoiseArgs a{x,           sigma, sigma_value, scale, state, offset,
                    scale_value, bias,  dtype,       cat,   same};
  if (!out.empty()) {
    check_not_recorded(a, out);
    check_noise_out(a, out);
  }
  check_noise(a);
  return state;
}

}  // namespace pygan::ops
