// What the files of the instance_noise ops share.
#pragma once

#include "ops/cuda_bridge.h"

namespace pygan::ops {

using OptionalTensor = std::optional<at::Tensor>;
using OptionalType = std::optional<at::ScalarType>;
using Doubles = c10::ArrayRef<double>;

// The arguments of instance_noise. Tensor k takes step k from that of the state, or with `same` all
// take the first; `cat` makes one batch of them, real and fake.
struct NoiseArguments {
  at::TensorList x;
  const OptionalTensor& sigma;
  double sigma_value;
  const OptionalTensor& scale;
  const at::Tensor& state;
  c10::SymIntArrayRef offset;  // [x]
  Doubles scale_value, bias;   // [x]
  OptionalType dtype;
  bool cat, same;

  // Whether samples differ in sigma or scale.
  bool per_sample() const {
    return (sigma.has_value() && sigma->dim() == 1) || (scale.has_value() && scale->dim() == 1);
  }
  int64_t steps() const { return same ? 1 : static_cast<int64_t>(x.size()); }
};

// Validate arguments without reading tensor data.
void check_noise(const NoiseArguments&);
// What out= must be, on top of that.
void check_noise_out(const NoiseArguments&, at::TensorList out);
void check_not_recorded(const NoiseArguments&, at::TensorList out);
// That nothing but the state lies where the state is written.
void check_state_apart(const NoiseArguments&, at::TensorList out);
void check_noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     const c10::SymInt& offset, const c10::SymInt& samples);

// The result's dtype: as asked for, else that of x, else the default floating dtype.
at::ScalarType noise_dtype(at::TensorList x, OptionalType dtype);

// How many samples all x have together.
c10::SymInt samples_of(at::TensorList x);

// The ops, through the dispatcher.
std::vector<at::Tensor> call_noise(const NoiseArguments&, at::Tensor& state);
void call_noise_out(const NoiseArguments&, at::Tensor& state, at::TensorList out);

// A tensor for the result: in x's memory format, but where samples differ in sigma or scale they
// lie one after another.
at::Tensor allocate_noisy(const at::Tensor& x, bool per_sample, at::ScalarType dtype);

}  // namespace pygan::ops
