// What the files of the instance_noise ops share.
#pragma once

#include "ops/cuda_bridge.h"

namespace pygan::ops {

using OptionalTensor = std::optional<at::Tensor>;
using OptionalType = std::optional<at::ScalarType>;

// The arguments of instance_noise. Tensor k takes step k from that of the state; `cat` makes one
// batch of them, real and fake.
struct NoiseArguments {
  at::TensorList x;
  const OptionalTensor& sigma;
  double sigma_value;
  const at::Tensor& state;
  c10::SymIntArrayRef offset;         // [x]
  c10::ArrayRef<double> scale, bias;  // [x]
  OptionalType dtype;
  bool cat;
};

// Validate arguments without reading tensor data.
void check_noise(const NoiseArguments&);
// What out= must be, on top of that.
void check_noise_out(at::TensorList x, const OptionalTensor& sigma, at::TensorList out);
void check_not_recorded(at::TensorList x, const OptionalTensor& sigma, at::TensorList out);
// That nothing but the state lies where the state is written.
void check_state_apart(const at::Tensor& state, at::TensorList x, const OptionalTensor& sigma,
                       at::TensorList out);
void check_noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     const c10::SymInt& offset, const c10::SymInt& samples);

// The result's dtype: as asked for, else that of x, else the default floating dtype.
at::ScalarType noise_dtype(at::TensorList x, OptionalType dtype);

// How many samples all x have together.
c10::SymInt samples_of(at::TensorList x);

// The ops, through the dispatcher.
std::vector<at::Tensor> call_noise(const NoiseArguments&, at::Tensor& state);
void call_noise_out(const NoiseArguments&, at::Tensor& state, at::TensorList out);

// A tensor for the result: in x's memory format, but with a sigma per sample these lie one after
// another.
at::Tensor allocate_noisy(const at::Tensor& x, const OptionalTensor& sigma, at::ScalarType dtype);

}  // namespace pygan::ops
