// The instance-noise kernels. A thread makes groups of G neighboring elements, G a multiple of 4:
// whole Philox counters, and 16 bytes of output (or more). Groups lie on multiples of G in the
// stream; where the tensor does not begin on one, the first group is a partial one.
//
// Two groups at a time (but for fp64) share the generator's key schedule and the loop's own
// instructions, and put twice the bytes in flight (sm_90: 38 instructions an element in fp32, see
// tests/ops/test_machine_code.py).
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace pygan::cuda {

template <class Out>
inline constexpr int kNoiseGroup = sizeof(Out) >= 4 ? 4 : 16 / static_cast<int>(sizeof(Out));
template <class Out>
inline constexpr int kNoiseGroups = sizeof(Out) == 8 ? 1 : 2;

// Elements that a block makes at a time.
template <class Out>
inline constexpr int64_t kNoiseTile = kThreads * kNoiseGroup<Out> * kNoiseGroups<Out>;

struct NoiseLaunch {
  NoisePiece pieces[kMaxPieces];
  unsigned first_block[kMaxPieces];  // the block that makes a piece's first tile
  int count;
  NoiseOptions options;
  int64_t* advance;  // the state, if this launch moves it on by `steps`, else null
  uint32_t steps;
  unsigned slot;
};
static_assert(sizeof(NoiseLaunch) <= 4096, "kernel arguments before CUDA 12.1");

// Three blocks with 80 registers a thread are a little faster on an H100 than four with 64 (bf16:
// 75 % of a copy's rate instead of 74; one sigma per sample: 67 instead of 64, in a sweep).
// Elsewhere ptxas spills two registers of the sixteen elements from and to 16 bits.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ != 900
inline constexpr int kMinBlocksOf16Bits = 2;
#else
inline constexpr int kMinBlocksOf16Bits = 3;
#endif
template <class In, class Out>
inline constexpr int kNoiseMinBlocks = sizeof(math_t<In, Out>) == 8          ? 1
                                       : sizeof(In) == 2 && sizeof(Out) == 2 ? kMinBlocksOf16Bits
                                                                             : 3;

template <class In, class Out>
__global__ void __launch_bounds__(kThreads, kNoiseMinBlocks<In, Out>)
    instance_noise_kernel(const __grid_constant__ NoiseLaunch a) {
  using M = math_t<In, Out>;
  constexpr int G = kNoiseGroup<Out>, kGroups = kNoiseGroups<Out>;
  constexpr int64_t kTile = kNoiseTile<Out>;
  const auto seed = static_cast<uint64_t>(a.options.state[0]);
  const auto state_step = static_cast<uint64_t>(a.options.state[1]);
  // Every block has read the step before it counts itself, so the last one may change it. It does
  // so at once, not after the work, where each block would wait for its count before another could
  // take its place.
  if (a.advance != nullptr) {
    __syncthreads();
    if (threadIdx.x == 0 && arrives_last(a.slot)) {
      a.advance[1] = static_cast<int64_t>(state_step + a.steps);
    }
  }

#pragma unroll 1
  for (int p = 0; p < a.count; ++p) {
    const NoisePiece& piece = a.pieces[p];
    const uint64_t step = state_step + piece.step;
    const auto skipped = static_cast<int64_t>(piece.offset % G);
    const uint64_t first_counter = (piece.offset - skipped) / 4;
    const auto* x = static_cast<const In*>(piece.x) - skipped;
    auto* out = static_cast<Out*>(piece.out) - skipped;
    const bool is_aligned = aligned<In, G>(x) && aligned<Out, G>(out);
    const M bias = static_cast<M>(piece.bias);
    const bool one_sample = piece.sample_size.value >= piece.n;
    const M common_sigma = one_sample ? sigma_of<M>(piece, a.options, 0) : M(0);
    const M first_scale = scale_of<M>(piece, a.options, 0);
    const auto noisy = [&](In element, M scale, M sigma, float z) {
      return from_math<Out>(add_noise<M>(static_cast<M>(to_float(element)), sigma, z, scale, bias));
    };

    const int64_t end = piece.n + skipped;
    const unsigned block = rank_after(a.first_block[p]);
    const int64_t stride = gridDim.x * kTile;
    // Tiles that begin from here to there are whole, and can be moved in vectors.
    const int64_t first_whole = skipped > 0 ? kTile : 0;
    const int64_t end_whole = is_aligned ? end - kTile + 1 : 0;

    // This thread's groups of a tile, element by element.
    const auto make_each = [&](int64_t tile) {
#pragma unroll 1
      for (int quad = 0; quad < kGroups * G / 4; ++quad) {
        const int64_t i =
            tile + threadIdx.x * G + quad / (G / 4) * kThreads * G + quad % (G / 4) * 4;
        float z[4];
        counter_normals(first_counter + static_cast<uint64_t>(i) / 4, step, seed, z);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (i + k < skipped || i + k >= end) continue;
          const int64_t sample = one_sample ? 0 : piece.sample_size.quotient(i + k - skipped);
          const M scale = scale_of<M>(piece, a.options, sample);
          out[i + k] = noisy(x[i + k], scale, sigma_of<M>(piece, a.options, sample), z[k]);
        }
      }
    };
    // The same of whole tiles, as long as they come; returns the tile after them. A loop of its
    // own, so that it holds no more than what it needs.
    const auto make_whole = [&](int64_t tile, auto has_one_sample) {
#pragma unroll 1
      for (; tile < end_whole; tile += stride) {
        const int64_t i = tile + threadIdx.x * G;
        M sigma[kGroups], scale[kGroups];
        int64_t sample[kGroups];
        bool uniform = true;
#pragma unroll
        for (int u = 0; u < kGroups; ++u) {
          sigma[u] = common_sigma, scale[u] = first_scale;
          if constexpr (has_one_sample) continue;
          const int64_t first = i + u * kThreads * G - skipped;
          sample[u] = piece.sample_size.quotient(first);
          uniform = uniform && first + G <= (sample[u] + 1) * piece.sample_size.value;
          sigma[u] = load_factor<M>(a.options.sigma, piece.first_sample + sample[u]);
        }
        // One branch for all groups: where only sigmas differ, this takes no time.
        if constexpr (!has_one_sample) {
          if (a.options.scale.data != nullptr) {
#pragma unroll
            for (int u = 0; u < kGroups; ++u) {
              scale[u] = load_factor<M>(a.options.scale, piece.first_sample + sample[u]);
            }
          }
        }
        if (!uniform) {
          make_each(tile);
          continue;
        }
        const uint64_t counter = first_counter + static_cast<uint64_t>(i) / 4;
        Vector<In, G> from[kGroups];
#pragma unroll
        for (int u = 0; u < kGroups; ++u) from[u] = load<In, G>(x + i + u * kThreads * G);
#pragma unroll
        for (int u = 0; u < kGroups; ++u) {
          Vector<Out, G> to;
#pragma unroll
          for (int k = 0; k < G; k += 4) {
            float z[4];
            counter_normals(counter + (u * kThreads * G + k) / 4, step, seed, z);
#pragma unroll
            for (int j = 0; j < 4; ++j)
              to.v[k + j] = noisy(from[u].v[k + j], scale[u], sigma[u], z[j]);
          }
          store(out + i + u * kThreads * G, to);
        }
      }
      return tile;
    };

    int64_t tile = block * kTile;
    if (tile < first_whole) {
      make_each(tile);
      tile += stride;
    }
    tile = one_sample ? make_whole(tile, std::true_type{}) : make_whole(tile, std::false_type{});
    for (; tile < end; tile += stride) make_each(tile);
  }
}

// partials[sample][chunk] = sum of grad z over kNoiseChunk elements of one sample.
template <class T>
__global__ void __launch_bounds__(kThreads, kMinBlocks<double>)
    noise_dot_kernel(const NoiseDotArgs a, int64_t chunks, double* partials) {
  PYGAN_SHARED(double, scratch, kWarps);
  const auto seed = static_cast<uint64_t>(a.state[0]), step = static_cast<uint64_t>(a.state[1]);
  const auto* grad = static_cast<const T*>(a.grad);
  const int64_t begin = blockIdx.x / chunks * a.sample_size + blockIdx.x % chunks * kNoiseChunk;
  const int64_t sample_end = (blockIdx.x / chunks + 1) * a.sample_size;
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
