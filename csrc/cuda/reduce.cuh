// Deterministic sums over a block and over a grid, in one launch and without float atomics.
//
// Over the grid: each block leaves its partial sums in global memory, and the block that finishes
// last, as a counter tells, adds them up in a fixed order. The counter wraps back to zero by itself
// (atomicInc), so no memset is needed before the next launch; it lives in the module's own memory,
// which the driver zeroes when it loads the module. Kernels that may overlap in time (other
// streams, captured graphs) must use different slots.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/launchers.h"

namespace pygan::cuda {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / 32;

// The most blocks of a launch: eight for each multiprocessor of an H100, which is two waves of
// four. Measured there at 16 Mi logits against the 1,184 that suit a B200: sums at 93 % instead of
// 87 % of a copy's rate. (Sums are cut into as many parts on every GPU, or their bits would
// differ.)
inline constexpr int kMaxBlocks = 1056;

// Resident blocks to ask for: leaves 64 registers a thread (128 where statistics are summed up as
// well, 255 for fp64 math). Without it ptxas aims for 40 to 48 and spills a few to local memory.
template <class M, bool statistics = false>
inline constexpr int kMinBlocks = sizeof(M) == 8 ? 1
                                  : statistics   ? 2
                                                 : 4;

static __device__ unsigned slots[kSlots];

// How far this block comes after the one that takes the first tile of a piece, in turn.
__device__ __forceinline__ unsigned rank_after(unsigned first_block) {
  return blockIdx.x >= first_block ? blockIdx.x - first_block
                                   : blockIdx.x + gridDim.x - first_block;
}

// The sum over a warp, in every lane. xor: each lane adds in the same tree, so all agree bit for
// bit.
__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  }
  return x;
}

// The sum over the block of N values a thread: in sums[0..N) of thread 0 .. N - 1's view, i.e. in
// shared memory, valid for all threads after the call. `scratch` is [kWarps * N].
template <int N>
__device__ __forceinline__ void block_sum(const double (&value)[N], double* scratch) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const double sum = warp_sum(value[k]);
    if (lane == 0) scratch[warp * N + k] = sum;
  }
  __syncthreads();
  if (threadIdx.x < N) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += scratch[w * N + threadIdx.x];
    scratch[threadIdx.x] = sum;  // column threadIdx.x is read and written by this thread alone
  }
  __syncthreads();
}

// For one thread of each block: whether it is the last to call this. What it could see of global
// memory before the call, the last one can see after it.
__device__ __forceinline__ bool arrives_last(unsigned slot) {
  __threadfence();  // what came before the call, before the count
  const bool last = atomicInc(&slots[slot], gridDim.x - 1) == gridDim.x - 1;
  if (last) __threadfence();  // the count, before what comes after the call
  return last;
}

// True in every thread of the block that comes last, false in all others. What any block wrote to
// global memory before the call can be read by the last one after it. `flag` is shared, [1].
//
// One thread fences and counts for its block, since barriers and fences are cumulative: a fence in
// every warp made each block wait for its own loads and stores eight times.
__device__ __forceinline__ bool is_last_block(unsigned slot, unsigned* flag) {
  __syncthreads();
  if (threadIdx.x == 0) *flag = arrives_last(slot);
  __syncthreads();
  return *flag != 0;
}

}  // namespace pygan::cuda
