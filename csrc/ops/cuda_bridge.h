// The CUDA kernels as the ops call them: on the current stream of like's device. (No CUDA header
// here: the ops are the same code in a build with and without CUDA.)
#pragma once

#include "cuda/launchers.h"
#include "ops/common.h"

namespace pygan::ops {

// Whether the current stream of like's device is being captured into a CUDA graph.
bool is_capturing(const at::Tensor& like);

void sums_cuda(c10::ArrayRef<LossPiece> pieces, const LossOptions&, const LossOutputs&,
               const at::Tensor& like);
void pointwise_cuda(c10::ArrayRef<LossPiece> pieces, const LossOptions&, const at::Tensor& like);
// The sums of maps of one dtype; `out` counts those that are still to come.
void feature_sums_cuda(c10::ArrayRef<FeatureMap>, const FeatureOptions&, FeatureOutputs& out,
                       const at::Tensor& like);
void feature_gradient_cuda(c10::ArrayRef<FeatureMap>, const FeatureOptions&, const FeatureGradient&,
                           const at::Tensor& like);
void instance_noise_cuda(c10::ArrayRef<NoisePiece>, const NoiseOptions&, int64_t* advance,
                         uint32_t steps, const at::Tensor& like);
void noise_dot_cuda(const NoiseDotArgs&, int64_t samples, double* sums, const at::Tensor& like);

}  // namespace pygan::ops
