// What the files of the instance_noise ops share.
#pragma once

#include "ops/cuda_bridge.h"

namespace pygan::ops {

// The arguments of instance_noise that are not x.
struct Noise {
  std::optional<at::Tensor> sigma;
  double sigma_value;
  at::Tensor state;
  int64_t offset;
  double scale, bias;
};

// Throws what design calls bad input. Reads no element.
void check_noise(const at::Tensor& x, const Noise&, std::optional<at::ScalarType> dtype);

// x.dtype, or the default floating dtype for integers, unless dtype says otherwise.
at::ScalarType noise_dtype(const at::Tensor& x, std::optional<at::ScalarType> dtype);

}  // namespace pygan::ops
