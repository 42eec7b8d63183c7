// The instance-noise kernels. A thread makes a group of G neighbouring elements, G a multiple of 4:
// whole Philox counters, and 16 bytes of output (or more). Groups lie on multiples of G in the
// stream; where the tensor does not begin on one, the first group is a partial one.
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace pygan::cuda {

template <class In, class Out>
__global__ void __launch_bounds__(kThreads, kMinBlocks<math_t<In, Out>>)
    instance_noise_kernel(const NoiseArgs a, int64_t* advance, unsigned slot) {
  using M = math_t<In, Out>;
  constexpr int G = sizeof(Out) >= 4 ? 4 : 16 / static_cast<int>(sizeof(Out));
  PYGAN_SHARED(unsigned, flag, 1);
  const auto seed = static_cast<uint64_t>(a.state[0]), step = static_cast<uint64_t>(a.state[1]);
  const auto skipped = static_cast<int64_t>(a.offset % G);
  const uint64_t first_counter = (a.offset - skipped) / 4;
  const auto* x = static_cast<const In*>(a.x) - skipped;
  auto* out = static_cast<Out*>(a.out) - skipped;
  const bool is_aligned = aligned<In, G>(x) && aligned<Out, G>(out);
  const M scale = static_cast<M>(a.scale), bias = static_cast<M>(a.bias);
  const bool one_sigma = a.sigma_stride >= a.n;
  const M common_sigma = one_sigma ? sigma_at<M>(a, 0) : M(0);

  const int64_t end = a.n + skipped;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * G;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * G; i < end;
       i += stride) {
    const int lo = i < skipped ? static_cast<int>(skipped - i) : 0, hi = upper_bound<G>(i, end);
    const bool whole = is_aligned && lo == 0 && hi == G;
    Vector<In, G> from;
    Vector<Out, G> to;
    load(from, x + i, lo, hi, whole);
#pragma unroll
    for (int quad = 0; quad < G / 4; ++quad) {
      float z[4];
      counter_normals(first_counter + static_cast<uint64_t>(i / 4 + quad), step, seed, z);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int k = quad * 4 + j;
        if (k < lo || k >= hi) continue;
        const M sigma =
            one_sigma ? common_sigma : sigma_at<M>(a, (i + k - skipped) / a.sigma_stride);
        const M element = static_cast<M>(to_float(from.v[k]));
        to.v[k] = from_math<Out>(add_noise<M>(element, sigma, z[j], scale, bias));
      }
    }
    store(out + i, to, lo, hi, whole);
  }

  // Every block has read the step before it counts itself, so the last one may change it.
  if (advance != nullptr && is_last_block(slot, flag) && threadIdx.x == 0) {
    advance[1] = static_cast<int64_t>(step + 1);
  }
}

// partials[sample][chunk] = sum of grad z over kNoiseChunk elements of one sample.
template <class T>
__global__ void __launch_bounds__(kThreads, kMinBlocks<double>)
    noise_dot_kernel(const NoiseDotArgs a, int64_t chunks, double* partials) {
  PYGAN_SHARED(double, scratch, kWarps);
  const auto seed = static_cast<uint64_t>(a.state[0]), step = static_cast<uint64_t>(a.state[1]);
  const auto* grad = static_cast<const T*>(a.grad);
  const int64_t begin = blockIdx.x / chunks * a.sigma_stride + blockIdx.x % chunks * kNoiseChunk;
  const int64_t sample_end = (blockIdx.x / chunks + 1) * a.sigma_stride;
  const int64_t end = begin + kNoiseChunk < sample_end ? begin + kNoiseChunk : sample_end;
  double sum[1] = {0};
  const uint64_t base = a.offset + static_cast<uint64_t>(begin);
  const auto skipped = static_cast<int64_t>(base % 4);
  for (int64_t i = begin - skipped + threadIdx.x * 4; i < end; i += kThreads * 4) {
    float z[4];
    counter_normals((a.offset + static_cast<uint64_t>(i)) / 4, step, seed, z);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (i + k < begin || i + k >= end) continue;
      sum[0] += static_cast<double>(to_float(grad[i + k])) * static_cast<double>(z[k]);
    }
  }
  block_sum(sum, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = scratch[0];
}

// sums[sample] = sum of partials[sample][0..chunks), a block a sample.
static __global__ void __launch_bounds__(kThreads, kMinBlocks<double>)
    noise_dot_finish_kernel(const double* partials, int64_t chunks, double* sums) {
  PYGAN_SHARED(double, scratch, kWarps);
  double sum[1] = {0};
  for (int64_t c = threadIdx.x; c < chunks; c += kThreads)
    sum[0] += partials[blockIdx.x * chunks + c];
  block_sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = scratch[0];
}

}  // namespace pygan::cuda
