// The feature-matching kernels: sums over many pairs of maps in one launch, and the gradient.
//
// Work is cut into tiles of 8,192 elements, 32 a thread, numbered through all maps; block b takes
// every gridDim-th tile of a map. It leaves one partial sum for each map that it has tiles of, and
// the block that comes last adds these up, a warp for each map. Which thread adds which element
// depends on the tile alone: same bits every run.
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace pygan::cuda {

inline constexpr int kFeaturesPerThread = 32;
inline constexpr int kFeatureTile = kThreads * kFeaturesPerThread;

// Vectors of each map that a thread has in flight: 64 bytes. Of signs, one word for each vector of
// the tile.
inline constexpr int kMapVectors = 4;
template <class T>
inline constexpr int kSignVectors = kFeaturesPerThread * sizeof(T) / 16;

struct FeatureLaunch {
  FeatureMap maps[kMaxMaps];
  unsigned first_block[kMaxMaps];    // the block that takes a map's first tile
  unsigned first_partial[kMaxMaps];  // where the partial sums of a map begin
  int count;
  FeatureOptions options;
};
static_assert(sizeof(FeatureLaunch) + sizeof(FeatureOutputs) + 16 <= 4096,
              "kernel arguments before CUDA 12.1");

__host__ __device__ inline int64_t tiles_of(const FeatureMap& map) {
  return (map.n + kFeatureTile - 1) / kFeatureTile;
}
// Blocks that have tiles of the map, and so partial sums.
__host__ __device__ inline unsigned blocks_of(const FeatureMap& map, unsigned blocks) {
  const int64_t tiles = tiles_of(map);
  return tiles < blocks ? static_cast<unsigned>(tiles) : blocks;
}

// The kernel's argument for a launch of so many blocks.
inline FeatureLaunch describe(const FeatureMap* maps, int count, const FeatureOptions& options,
                              unsigned blocks) {
  FeatureLaunch launch{};
  launch.count = count;
  launch.options = options;
  int64_t tiles = 0;
  unsigned partials = 0;
  for (int m = 0; m < count; ++m) {
    launch.maps[m] = maps[m];
    launch.first_block[m] = static_cast<unsigned>(tiles % blocks);
    launch.first_partial[m] = partials;
    tiles += tiles_of(maps[m]);
    partials += blocks_of(maps[m], blocks);
  }
  return launch;
}

// A thread's part of a tile: kVector neighboring elements at a time, load(i) of kAtOnce groups
// before the first use(i, loaded), so that enough bytes are in flight. (Written out, because int8_t
// may alias anything, and the compiler keeps loads behind stores of it.) A tile that is incomplete
// or not aligned goes element by element, by single(i).
template <int kVector, int kAtOnce, class L, class U, class S>
__device__ __forceinline__ void for_each_group(int64_t n, int64_t tile, bool is_aligned, L&& load,
                                               U&& use, S&& single) {
  const int64_t first = tile * kFeatureTile;
  const int64_t end = first + kFeatureTile < n ? first + kFeatureTile : n;
  const int64_t start = first + threadIdx.x * kVector;
  if (is_aligned && end - first == kFeatureTile) {
#pragma unroll 1
    for (int64_t i = start; i < start + kFeatureTile; i += kAtOnce * kThreads * kVector) {
      decltype(load(start)) loaded[kAtOnce];
#pragma unroll
      for (int v = 0; v < kAtOnce; ++v) loaded[v] = load(i + v * kThreads * kVector);
#pragma unroll
      for (int v = 0; v < kAtOnce; ++v) use(i + v * kThreads * kVector, loaded[v]);
    }
  } else {
#pragma unroll 1
    for (int64_t i = start; i < end; i += kThreads * kVector) {
#pragma unroll 1
      for (int64_t k = i; k < i + kVector && k < end; ++k) single(k);
    }
  }
}

// The same vector of both maps.
template <class T>
struct Pair {
  static constexpr int kVector = 16 / sizeof(T);
  Vector<T, kVector> fake, real;

  static __device__ __forceinline__ Pair at(const FeatureMap& map, int64_t i) {
    return {load<T, kVector>(static_cast<const T*>(map.fake) + i),
            load<T, kVector>(static_cast<const T*>(map.real) + i)};
  }
};

template <class T, Distance distance, bool relative>
__device__ __forceinline__ void add_map(double (&totals)[kFeatureSums], const FeatureMap& map,
                                        unsigned rank) {
  using M = math_t<T>;
  constexpr int kVector = 16 / sizeof(T);
  const auto *fake = static_cast<const T*>(map.fake), *real = static_cast<const T*>(map.real);
  int8_t* const signs = distance == Distance::l1 ? map.signs : nullptr;
  const bool is_aligned =
      aligned<T, kVector>(fake) && aligned<T, kVector>(real) && aligned<int8_t, kVector>(signs);
#pragma unroll 1
  for (int64_t tile = rank; tile < tiles_of(map); tile += gridDim.x) {
    M sum = M(0), magnitude = M(0);
    const auto add = [&](M f, M r) {
      const M d = f - r;
      sum += distance_of(distance, d);
      if constexpr (relative) magnitude += distance_of(Distance::l1, r);
      return static_cast<int8_t>(sign_of(d));
    };
    for_each_group<kVector, kMapVectors>(
        map.n, tile, is_aligned, [&](int64_t i) { return Pair<T>::at(map, i); },
        [&](int64_t i, const Pair<T>& pair) {
          M f[kVector], r[kVector];
          to_math(f, pair.fake);
          to_math(r, pair.real);
          Vector<int8_t, kVector> of;
#pragma unroll
          for (int k = 0; k < kVector; ++k) of.v[k] = add(f[k], r[k]);
          if (signs != nullptr) store_word(signs + i, of);
        },
        [&](int64_t i) {
          const int8_t sign = add(to_float(fake[i]), to_float(real[i]));
          if (signs != nullptr) signs[i] = sign;
        });
    totals[kSumDistance] += static_cast<double>(sum);
    totals[kSumMagnitude] += static_cast<double>(magnitude);
  }
}

// What the last block of a launch does: the value and the multiplier of each map, and of the last
// launch the loss.
__device__ __forceinline__ void finish_features(const FeatureLaunch& a, const FeatureOutputs& out,
                                                const double* partials, double* shared) {
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int m = threadIdx.x / 32; m < a.count; m += kWarps) {
    const FeatureMap& map = a.maps[m];
    const unsigned blocks = blocks_of(map, gridDim.x);
    double sums[kFeatureSums] = {};
#pragma unroll 4
    for (unsigned b = lane; b < blocks; b += 32) {
#pragma unroll
      for (int k = 0; k < kFeatureSums; ++k) {
        sums[k] += partials[(static_cast<int64_t>(a.first_partial[m]) + b) * kFeatureSums + k];
      }
    }
#pragma unroll
    for (double& sum : sums) sum = warp_sum(sum);
    if (lane != 0) continue;
    const FeatureValue of_map = feature_value(sums, map.n, map.weight, a.options.relative);
    if (out.wide) {
      static_cast<double*>(out.values)[map.index] = of_map.value;
      static_cast<double*>(out.multipliers)[map.index] = of_map.multiplier;
    } else {
      static_cast<float*>(out.values)[map.index] = static_cast<float>(of_map.value);
      static_cast<float*>(out.multipliers)[map.index] = static_cast<float>(of_map.multiplier);
    }
    out.weighted[map.index] = map.weight * of_map.value;
  }
  if (out.left != 0) return;
  __syncthreads();
  double total[1] = {};
  for (int64_t m = threadIdx.x; m < out.all; m += kThreads) total[0] += out.weighted[m];
  block_sum(total, shared);
  if (threadIdx.x != 0) return;
  if (out.wide) {
    *static_cast<double*>(out.loss) = shared[0];
  } else {
    *static_cast<float*>(out.loss) = static_cast<float>(shared[0]);
  }
}

// The vectors in flight do not fit into 64 registers a thread; conversions and a second sum take
// some more.
template <class T, bool relative = false>
inline constexpr int kFeatureMinBlocks = sizeof(T) == 8               ? 1
                                         : sizeof(T) == 2 && relative ? 2
                                                                      : 3;

template <class T, Distance distance, bool relative>
__global__ void __launch_bounds__(kThreads, kFeatureMinBlocks<T, relative>)
    feature_sums_kernel(const __grid_constant__ FeatureLaunch a,
                        const __grid_constant__ FeatureOutputs out, double* partials,
                        unsigned slot) {
  PYGAN_SHARED(double, shared, kWarps* kFeatureSums);
  PYGAN_SHARED(unsigned, flag, 1);
#pragma unroll 1
  for (int m = 0; m < a.count; ++m) {
    const unsigned rank = rank_after(a.first_block[m]);
    if (rank >= tiles_of(a.maps[m])) continue;
    double totals[kFeatureSums] = {};
    add_map<T, distance, relative>(totals, a.maps[m], rank);
    block_sum(totals, shared);
    if (threadIdx.x < kFeatureSums) {
      partials[(static_cast<int64_t>(a.first_partial[m]) + rank) * kFeatureSums + threadIdx.x] =
          shared[threadIdx.x];
    }
    __syncthreads();  // before the next map's sums overwrite these
  }
  if (!is_last_block(slot, flag)) return;
  finish_features(a, out, partials, shared);
}

// out = factor * sign, or factor * (fake - real).
template <class T>
__global__ void __launch_bounds__(kThreads, kFeatureMinBlocks<T>)
    feature_gradient_kernel(const __grid_constant__ FeatureLaunch a,
                            const __grid_constant__ FeatureGradient by) {
  using M = math_t<T>;
  constexpr int kVector = 16 / sizeof(T);
#pragma unroll 1
  for (int m = 0; m < a.count; ++m) {
    const FeatureMap& map = a.maps[m];
    const M factor = static_cast<M>(factor_of(by, map.index));
    const auto *fake = static_cast<const T*>(map.fake), *real = static_cast<const T*>(map.real);
    const int8_t* const signs = map.signs;
    auto* const out = static_cast<T*>(map.out);
    const bool is_aligned =
        aligned<T, kVector>(out) &&
        (signs != nullptr ? aligned<int8_t, kVector>(signs)
                          : aligned<T, kVector>(fake) && aligned<T, kVector>(real));
#pragma unroll 1
    for (int64_t tile = rank_after(a.first_block[m]); tile < tiles_of(map); tile += gridDim.x) {
      const auto deliver = [&](int64_t i, const M(&slope)[kVector]) {
        Vector<T, kVector> result;
#pragma unroll
        for (int k = 0; k < kVector; ++k) result.v[k] = from_math<T>(factor * slope[k]);
        store(out + i, result);
      };
      if (signs != nullptr) {
        for_each_group<kVector, kSignVectors<T>>(
            map.n, tile, is_aligned, [&](int64_t i) { return load<int8_t, kVector>(signs + i); },
            [&](int64_t i, const Vector<int8_t, kVector>& of) {
              M slope[kVector];
#pragma unroll
              for (int k = 0; k < kVector; ++k) slope[k] = static_cast<M>(of.v[k]);
              deliver(i, slope);
            },
            [&](int64_t i) { out[i] = from_math<T>(factor * static_cast<M>(signs[i])); });
      } else {
        for_each_group<kVector, kMapVectors>(
            map.n, tile, is_aligned, [&](int64_t i) { return Pair<T>::at(map, i); },
            [&](int64_t i, const Pair<T>& pair) {
              M slope[kVector], r[kVector];
              to_math(slope, pair.fake);
              to_math(r, pair.real);
#pragma unroll
              for (int k = 0; k < kVector; ++k) slope[k] -= r[k];
              deliver(i, slope);
            },
            [&](int64_t i) {
              out[i] = from_math<T>(factor * (M(to_float(fake[i])) - M(to_float(real[i]))));
            });
      }
    }
  }
}

}  // namespace pygan::cuda
