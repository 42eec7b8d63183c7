// The GAN loss kernels: sums over several tensors of logits in one launch, and pointwise
// derivatives.
//
// Work is cut into tiles of 4,096 logits, 16 a thread, numbered through all pieces. Which thread
// adds which logit depends on the tile alone, never on alignment, device or timing: same bits every
// run.
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace pygan::cuda {

inline constexpr int kPerThread = 16;
inline constexpr int kTile = kThreads * kPerThread;

struct LossLaunch {
  LossPiece pieces[kMaxPieces];
  int64_t tile_end[kMaxPieces];  // tiles of the pieces up to and including this one
  int count;
  LossOptions options;

  __host__ __device__ int64_t tiles() const { return count == 0 ? 0 : tile_end[count - 1]; }
};

// Calls f(piece, i, vector, hi) for each vector of logits that this thread has in each of its
// block's tiles: vector.v[k] is logit i + k, for k < hi. end_of_tile(piece) follows each tile. The
// vectors of a tile are a loop, not unrolled: the terms of three roles, four times over, took more
// than twice as long to compile and spilled. That enough warps are resident to keep the memory busy
// with one load each is expected, not measured.
template <class T, class F, class E>
__device__ __forceinline__ void for_each_vector(const LossLaunch& a, F&& f, E&& end_of_tile) {
  constexpr int kVector = 16 / sizeof(T);
  for (int64_t tile = blockIdx.x; tile < a.tiles(); tile += gridDim.x) {
    int p = 0;
    while (tile >= a.tile_end[p]) ++p;
    const LossPiece& piece = a.pieces[p];
    const auto* logits = static_cast<const T*>(piece.logits);
    const bool is_aligned = aligned<T, kVector>(logits);
    const int64_t first = (tile - (p == 0 ? 0 : a.tile_end[p - 1])) * kTile;
    const int64_t end = first + kTile < piece.n ? first + kTile : piece.n;
#pragma unroll 1
    for (int64_t i = first + threadIdx.x * kVector; i < end; i += kThreads * kVector) {
      const int hi = upper_bound<kVector>(i, end);
      Vector<T, kVector> x;
      load(x, logits + i, 0, hi, is_aligned && hi == kVector);
      f(piece, i, x, hi);
    }
    end_of_tile(piece);
  }
}

template <class Term, class M>
__device__ __forceinline__ void add_statistics(M (&sums)[kSums], M x, M u) {
  sums[kSumPlain] += Term::value(x, u, M(0));
  sums[kSumLogit] += x;
  sums[kSumProbability] += sigmoid(x, sigmoid_minus_abs(u));
  sums[kSumPositive] += x > M(0) ? M(1) : M(0);
  sums[kSumNegative] += x < M(0) ? M(1) : M(0);
  sums[kSumNonfinite] += absolute(x) <= largest_finite(M{}) ? M(0) : M(1);
}

// The last step, for one thread: what the caller asked for, from the totals.
template <class M>
__device__ void finish_loss(const LossLaunch& a, const LossOutputs& out, const double* totals) {
  *static_cast<M*>(out.loss) = static_cast<M>(totals[0]);
  if (!a.options.statistics) return;
  double real = 0, fake = 0;
  for (int p = 0; p < a.count; ++p) {
    (a.pieces[p].role == Role::real ? real : fake) += static_cast<double>(a.pieces[p].n);
  }
  finish_statistics(totals, real, fake, out.discriminator, static_cast<M*>(out.statistics));
}

// A thread's 16 values of a tile are added in the math type, everything beyond in fp64: fp64 adds
// are 32 to 64 times slower than fp32 ones on many GPUs, and one in 16 hides behind the memory
// traffic.
template <Loss loss, class T, bool statistics>
__global__ void __launch_bounds__(kThreads, kMinBlocks<math_t<T>>)
    gan_loss_sums_kernel(const __grid_constant__ LossLaunch a, const LossOutputs out,
                         unsigned slot) {
  using M = math_t<T>;
  constexpr int kColumns = statistics ? kTotals : 1;
  PYGAN_SHARED(double, scratch, kWarps* kColumns);
  PYGAN_SHARED(unsigned, flag, 1);
  const M eps = static_cast<M>(a.options.eps);

  double totals[kColumns] = {};
  M sums[kSums] = {};
  for_each_vector<T>(
      a,
      [&](const LossPiece& piece, int64_t, const auto& x, int hi) {
        with_term<loss>(piece.role, [&](auto term) {
          using Term = decltype(term);
#pragma unroll
          for (int k = 0; k < static_cast<int>(16 / sizeof(T)); ++k) {
            if (k >= hi) break;
            const M logit = to_float(x.v[k]);
            const M u = exp_minus_abs(logit);
            sums[kSumValue] += Term::value(logit, u, eps);
            if constexpr (statistics) add_statistics<Term>(sums, logit, u);
          }
        });
      },
      [&](const LossPiece& piece) {
        add_to_totals(totals, sums, piece);
        for (M& sum : sums) sum = M(0);
      });

  block_sum(totals, scratch);
  if (gridDim.x > 1) {
    if (threadIdx.x < kColumns) {
      out.partials[static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x] =
          scratch[threadIdx.x];
    }
    if (!is_last_block(slot, flag)) return;
    for (int column = threadIdx.x / 32; column < kColumns; column += kWarps) {
      double sum = 0;
      for (unsigned block = threadIdx.x % 32; block < gridDim.x; block += 32) {
        sum += out.partials[static_cast<int64_t>(block) * kColumns + column];
      }
      sum = warp_sum(sum);
      if (threadIdx.x % 32 == 0) scratch[column] = sum;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) finish_loss<M>(a, out, scratch);
}

template <class Out, class M, int N>
__device__ __forceinline__ void store_results(void* to, int64_t i, const M (&result)[N], int hi) {
  auto* out = static_cast<Out*>(to);
  Vector<Out, N> v;
#pragma unroll
  for (int k = 0; k < N; ++k) v.v[k] = from_math<Out>(result[k]);
  store(out + i, v, 0, hi, aligned<Out, N>(out) && hi == N);
}

template <Loss loss, class T>
__global__ void __launch_bounds__(kThreads, kMinBlocks<math_t<T>>)
    gan_loss_pointwise_kernel(const __grid_constant__ LossLaunch a) {
  using M = math_t<T>;
  constexpr int kVector = 16 / sizeof(T);
  const M eps = static_cast<M>(a.options.eps);
  for_each_vector<T>(
      a,
      [&](const LossPiece& piece, int64_t i, const auto& x, int hi) {
        const M factor = common_factor<M>(piece, a.options);
        M result[kVector] = {};
        with_term<loss>(piece.role, [&](auto term) {
          using Term = decltype(term);
#pragma unroll
          for (int k = 0; k < kVector; ++k) {
            if (k >= hi) break;
            const M logit = to_float(x.v[k]);
            result[k] = factor * term_of_order<Term>(a.options.order, logit, eps);
          }
        });
        if (a.options.out_is_math) {
          store_results<M>(piece.out, i, result, hi);
        } else {
          store_results<T>(piece.out, i, result, hi);
        }
      },
      [](const LossPiece&) {});
}

}  // namespace pygan::cuda
