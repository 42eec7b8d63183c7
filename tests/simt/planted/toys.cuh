// Small kernels in the patterns of this project, each correct for Bug::none and with one defect
// otherwise. They show what the emulator finds in general; test_emulated_kernels.py plants the same defects in
// the project's real kernels by patching their source.
#pragma once

#include "simt.h"

namespace planted {

enum class Bug {
  none,
  tail_out_of_bounds,    // the scalar tail does one element too many
  tail_guard_missing,    // one thread per element, without `if (i < n)`
  barrier_missing,       // shared memory is read without a barrier after it was written
  barrier_in_branch,     // only some threads reach the barrier
  shuffle_in_branch,     // only some lanes reach the shuffle that names them all
  shared_uninitialized,  // a shared element that nobody wrote is summed
  fence_missing,         // last-block pattern: the partial sum is not fenced before the counter
  reader_fence_missing,  // ... or it is not after the counter, before the others' partials are read
  fence_too_early,       // ... or it comes before the partial sum is written
  counter_plain_reset,   // ... the counter is set back by a plain store
  misaligned_vector,     // a vector access without looking at the pointer's alignment
  index_overflow,        // a 32-bit element index
};

constexpr unsigned kWarps = 32;

// out = 2 x + 1, four at a time where both pointers are 16-byte aligned, the rest one by one.
template <Bug bug>
__global__ void affine(const float* __restrict__ x, float* __restrict__ out, long long n,
                       bool aligned) {
  using Index = std::conditional_t<bug == Bug::index_overflow, int, long long>;
  const Index thread = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x);
  const Index stride = Index(gridDim.x) * Index(blockDim.x);
  const Index vectors = aligned || bug == Bug::misaligned_vector ? Index(n / 4) : 0;
  for (Index i = thread; i < vectors; i += stride) {
    const float4 v = reinterpret_cast<const float4*>(x)[i];
    reinterpret_cast<float4*>(out)[i] =
        make_float4(2 * v.x + 1, 2 * v.y + 1, 2 * v.z + 1, 2 * v.w + 1);
  }
  const Index end = Index(n) + (bug == Bug::tail_out_of_bounds);
  for (Index i = vectors * 4 + thread; i < end; i += stride) out[i] = 2 * x[i] + 1;
}

// One element per thread.
template <Bug bug>
__global__ void negate(const float* x, float* out, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n || bug == Bug::tail_guard_missing) out[i] = -x[i];
}

template <Bug bug>
__device__ float warp_sum(float value) {
  for (unsigned delta = 16; delta > 0; delta /= 2) {
    if (bug == Bug::shuffle_in_branch && threadIdx.x % 32 >= delta) continue;
    value += __shfl_down_sync(0xffffffffu, value, delta);
  }
  return value;
}

// The block's sum, in thread 0. The block must be a multiple of 32 threads.
template <Bug bug>
__device__ float block_sum(float value) {
  PYGAN_SHARED(float, warp_sums, kWarps);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warp_sum<bug>(value);
  if (lane == 0) warp_sums[warp] = value;
  if (bug != Bug::barrier_missing && (bug != Bug::barrier_in_branch || warp == 0)) __syncthreads();
  const unsigned written = bug == Bug::shared_uninitialized ? kWarps : blockDim.x / 32;
  if (warp == 0) value = warp_sum<bug>(lane < written ? warp_sums[lane] : 0.0f);
  __syncthreads();  // before the next call writes warp_sums
  return value;
}

// *total = sum of x: per-block partials, added up by the block that finishes last.
template <Bug bug>
__global__ void sum(const float* x, unsigned n, float* partials, unsigned* counter, float* total) {
  float value = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    value += x[i];
  value = block_sum<bug>(value);
  PYGAN_SHARED(bool, is_last, 1);
  if (threadIdx.x == 0) {
    if (bug == Bug::fence_too_early) __threadfence();
    partials[blockIdx.x] = value;
    if (bug != Bug::fence_missing && bug != Bug::fence_too_early) __threadfence();
    is_last[0] = bug == Bug::counter_plain_reset
                     ? atomicAdd(counter, 1) == gridDim.x - 1
                     : atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    if (bug != Bug::reader_fence_missing) __threadfence();
  }
  __syncthreads();
  if (!is_last[0]) return;
  value = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) value += partials[i];
  value = block_sum<bug>(value);
  if (threadIdx.x == 0) {
    *total = value;
    if (bug == Bug::counter_plain_reset) *counter = 0;
  }
}

// As sum, but every thread of the block leaves a partial and fences it before the barrier behind
// which thread 0 counts, and every thread of the last block fences before it reads.
template <Bug bug>
__global__ void sum_columns(const float* x, unsigned n, float* partials, unsigned* counter,
                            float* total) {
  float value = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    value += x[i];
  partials[blockIdx.x * blockDim.x + threadIdx.x] = value;
  if (bug != Bug::fence_missing || threadIdx.x == 0) __threadfence();
  __syncthreads();
  PYGAN_SHARED(bool, is_last, 1);
  if (threadIdx.x == 0) is_last[0] = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
  __syncthreads();
  if (!is_last[0]) return;
  if (bug != Bug::reader_fence_missing) __threadfence();
  value = 0;
  for (unsigned block = 0; block < gridDim.x; ++block)
    value += partials[block * blockDim.x + threadIdx.x];
  value = block_sum<Bug::none>(value);
  if (threadIdx.x == 0) *total = value;
}

}  // namespace planted
