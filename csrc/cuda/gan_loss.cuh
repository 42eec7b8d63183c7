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

// Eight for each multiprocessor of a B200, nine of an H100 and eleven of an A100, but for a few
// that are left over. More make less of a difference between multiprocessors, and spend more of
// their time on beginning and ending.
inline constexpr int kMaxBlocks = 1184;
inline constexpr int kPartialsPerThread = (kMaxBlocks + kThreads - 1) / kThreads;

struct LossLaunch {
  LossPiece pieces[kMaxPieces];
  unsigned first_block[kMaxPieces];  // the block that takes a piece's first tile
  int count;
  LossOptions options;
};
static_assert(sizeof(LossLaunch) + sizeof(LossScratch) <= 4096, "kernel arguments before CUDA 12.1");

__host__ __device__ inline int64_t tiles_of(const LossPiece& piece) {
  return (piece.n + kTile - 1) / kTile;
}

// What a launch of so many blocks is told.
inline LossLaunch describe(const LossPiece* pieces, int count, const LossOptions& options,
                           unsigned blocks) {
  LossLaunch launch{};
  launch.count = count;
  launch.options = options;
  int64_t tiles = 0;
  for (int p = 0; p < count; ++p) {
    launch.pieces[p] = pieces[p];
    launch.first_block[p] = static_cast<unsigned>(tiles % blocks);
    tiles += tiles_of(pieces[p]);
  }
  return launch;
}

// What the form sees of logits that are compared with `center`: mirror (x - y - center), x - y
// being the difference to what a logit is paired with. (mirror is 1 or -1, so this is rounded like
// that.)
template <class M>
struct Seen {
  M mirror, offset;

  __device__ Seen(const LossPiece& piece, const LossOptions& options)
      : mirror(static_cast<M>(piece.mirror)), offset(-mirror * center_of<M>(piece, options)) {}
  __device__ __forceinline__ M operator()(M difference) const {
    return fma_(mirror, difference, offset);
  }
};

// Tiles of a piece: first, first + step, ... before end.
struct Tiles {
  int64_t first, end, step;
};

// Calls f(piece, tiles) for each piece that this block has tiles of; f does them all.
template <class F>
__device__ __forceinline__ void for_each_piece(const LossLaunch& a, F&& f) {
#pragma unroll 1
  for (int p = 0; p < a.count; ++p) {
    const unsigned block = blockIdx.x >= a.first_block[p]
                               ? blockIdx.x - a.first_block[p]
                               : blockIdx.x + gridDim.x - a.first_block[p];
    const Tiles tiles{block, tiles_of(a.pieces[p]), gridDim.x};
    if (tiles.first < tiles.end) f(a.pieces[p], tiles);
  }
}

// Calls f(form, plain) with the form as an object; plain is std::true_type where eps is 0 and that
// saves instructions.
template <class F>
__device__ __forceinline__ void with_target(const LossPiece& piece, F&& f) {
  with_form(piece.form, [&](auto form) {
    if constexpr (kHasPlain<decltype(form)>) {
      if (piece.eps == 0) return f(form, std::true_type{});
    }
    f(form, std::false_type{});
  });
}

// to[i] = sign from[i]
template <class Out, class M, int kVectors, int N>
__device__ __forceinline__ void store_vectors(Out* to, const M (&from)[kVectors][N], M sign) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    Vector<Out, N> vector;
#pragma unroll
    for (int k = 0; k < N; ++k) vector.v[k] = from_math<Out>(sign * from[v][k]);
    store(to + v * kThreads * N, vector);
  }
}

// Calls f(x - y, x, y) for each of this thread's logits x, y being what it is paired with (0 where
// there is none), and end_of_tile() after each tile. Stores what f returns: into out, as Out, and
// minus that into other_out; nothing for an Out of void.
//
// kVectors vectors are loaded before the first is worked on, so that there are enough bytes on the
// way. Only where not all of a tile is there, or not all of it is aligned, it goes logit by logit:
// the same logits for a thread in the same order.
template <class T, class Out, int kVectors, class F, class E>
__device__ __forceinline__ void for_each_logit(const LossPiece& piece, const Tiles& tiles, F&& f,
                                               E&& end_of_tile) {
  using M = math_t<T>;
  constexpr int kVector = 16 / sizeof(T);
  constexpr bool kStores = !std::is_void_v<Out>;
  using Stored = std::conditional_t<kStores, Out, T>;
  const auto* logits = static_cast<const T*>(piece.logits);
  const auto* other = static_cast<const T*>(piece.other);
  auto *out = static_cast<Stored*>(piece.out), *other_out = static_cast<Stored*>(piece.other_out);
  const bool is_aligned =
      aligned<T, kVector>(logits) && aligned<T, kVector>(other) &&
      (!kStores || (aligned<Stored, kVector>(out) && aligned<Stored, kVector>(other_out)));
#pragma unroll 1
  for (int64_t tile = tiles.first; tile < tiles.end; tile += tiles.step) {
    const int64_t first = tile * kTile;
    const int64_t end = first + kTile < piece.n ? first + kTile : piece.n;
    const int64_t start = first + threadIdx.x * kVector;
    if (is_aligned && end - first == kTile) {
#pragma unroll 1
      for (int batch = 0; batch < kPerThread; batch += kVectors * kVector) {
        const int64_t i = start + batch * kThreads;
        M x[kVectors][kVector], y[kVectors][kVector] = {}, difference[kVectors][kVector];
        load_vectors<T>(x, logits + i, kThreads * kVector);
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
#pragma unroll
          for (int k = 0; k < kVector; ++k) difference[v][k] = x[v][k];
        }
        if (other != nullptr) {
          load_vectors<T>(y, other + i, kThreads * kVector);
#pragma unroll
          for (int v = 0; v < kVectors; ++v) {
#pragma unroll
            for (int k = 0; k < kVector; ++k) difference[v][k] -= y[v][k];
          }
        }
        M result[kVectors][kVector];
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
#pragma unroll
          for (int k = 0; k < kVector; ++k) {
            result[v][k] = f(difference[v][k], x[v][k], y[v][k]);
          }
        }
        if constexpr (kStores) {
          if (out != nullptr) store_vectors(out + i, result, M(1));
          if (other_out != nullptr) store_vectors(other_out + i, result, M(-1));
        }
      }
    } else {
#pragma unroll 1
      for (int64_t i = start; i < end; i += kThreads * kVector) {
#pragma unroll 1
        for (int64_t k = i; k < i + kVector && k < end; ++k) {
          const M x = to_float(logits[k]), y = other != nullptr ? M(to_float(other[k])) : M(0);
          const M result = f(x - y, x, y);
          if constexpr (kStores) {
            if (out != nullptr) out[k] = from_math<Out>(result);
            if (other_out != nullptr) other_out[k] = from_math<Out>(-result);
          }
        }
      }
    }
    end_of_tile();
  }
}

// u is exp(-|x|).
template <class M>
__device__ __forceinline__ void add_statistics(M (&sums)[kSums], M x, M u) {
  sums[kSumLogit] += x;
  sums[kSumProbability] += sigmoid(x, sigmoid_minus_abs(u));
  // Branches, of which ptxas makes predicated additions: one instruction less than a selection.
  if (x > M(0)) sums[kSumPositive] += M(1);
  if (x < M(0)) sums[kSumNegative] += M(1);
  if (!is_finite(x)) sums[kSumNonfinite] += M(1);
}

// What is done beside the loss itself: gradients are stored, and with statistics the logits are
// summed up as well.
enum class With { nothing, grads, statistics };

// Vectors that are loaded together: a thread's of a tile; half of them where statistics need the
// registers. In fp64 that takes too many.
template <class T, bool statistics = false>
inline constexpr int kLossVectors =
    sizeof(T) == 8 ? 1 : kPerThread * static_cast<int>(sizeof(T)) / (statistics ? 32 : 16);

// With 64 registers a thread, gradients beside the sum spill a few bytes on some architectures.
template <class T, With with>
inline constexpr int kSumsMinBlocks =
    with == With::grads && sizeof(T) < 8 ? 3 : kMinBlocks<math_t<T>, with == With::statistics>;

// Calls f(alone): std::true_type where logits are compared with nothing. Statistics alone ask.
template <bool statistics, class F>
__device__ __forceinline__ void with_comparison(const LossPiece& piece, const LossOptions& options,
                                                F&& f) {
  if constexpr (statistics) {
    if (piece.other != nullptr || options.means != nullptr) return f(std::false_type{});
  }
  f(std::true_type{});
}

// Adds the loss over these tiles to the totals, and stores the gradient.
template <class T, With with, int kColumns>
__device__ __forceinline__ void add_loss(double (&totals)[kColumns], const LossOptions& options,
                                         const LossPiece& piece, const Tiles& tiles) {
  using M = math_t<T>;
  using Out = std::conditional_t<with == With::nothing, void, T>;
  constexpr bool kWithStatistics = with == With::statistics;
  const Seen<M> seen_by_form(piece, options);
  const M factor = factor_of<M>(piece, 1);
  with_target(piece, [&](auto form, auto plain) {
    with_comparison<kWithStatistics>(piece, options, [&](auto alone) {
      using F = decltype(form);
      const M eps = plain ? M(0) : static_cast<M>(piece.eps);
      M sums[kSums] = {};
      M product = M(0);  // see times_one_plus: one logarithm a tile instead of one a logit
      for_each_logit<T, Out, kLossVectors<T, kWithStatistics>>(
          piece, tiles,
          [&](M difference, M x, M) {
            const M seen = seen_by_form(difference);
            const M u = exp_minus_abs(seen);
            sums[kSumValue] += plain ? plain_base<F>(seen) : F::base(seen, eps);
            if constexpr (F::kExponential) product = times_one_plus(product, u);
            if constexpr (kWithStatistics) {
              sums[kSumPlain] += plain_base<F>(seen);
              // What is compared with nothing is seen as it is, or mirrored: the same |x|.
              add_statistics(sums, x, alone ? u : exp_minus_abs(x));
            }
            if constexpr (with == With::nothing) return M(0);
            const M slope = F::d1(seen, sigmoid_minus_abs(u), eps);
            sums[kSumSlope] += slope;
            return slope * factor;
          },
          [&] {
            if constexpr (F::kExponential) {
              sums[kSumValue] = add_log1p_of_product(sums[kSumValue], product);
              if (kWithStatistics) sums[kSumPlain] = add_log1p_of_product(sums[kSumPlain], product);
              product = M(0);
            }
            add_to_totals(totals, sums, piece, false);
            for (M& sum : sums) sum = M(0);
          });
    });
  });
}

// Adds to the totals the statistics of what the logits of these tiles are paired with.
template <class T>
__device__ __forceinline__ void add_others(double (&totals)[kTotals], const LossPiece& piece,
                                           const Tiles& tiles) {
  using M = math_t<T>;
  M sums[kSums] = {};
  for_each_logit<T, void, kLossVectors<T, true>>(
      piece, tiles,
      [&](M, M, M y) {
        add_statistics(sums, y, exp_minus_abs(y));
        return M(0);
      },
      [&] {
        add_to_totals(totals, sums, piece, true);
        for (M& sum : sums) sum = M(0);
      });
}

// Adds the logits of these tiles to the totals, and nothing else: for Sums::means.
template <class T>
__device__ __forceinline__ void add_logits(double (&totals)[kTotals], const LossPiece& piece,
                                           const Tiles& tiles) {
  using M = math_t<T>;
  M sums[kSums] = {};
  for_each_logit<T, void, kLossVectors<T>>(
      piece, tiles,
      [&](M, M x, M) {
        sums[kSumLogit] += x;
        return M(0);
      },
      [&] {
        add_to_totals(totals, sums, piece, false);
        sums[kSumLogit] = M(0);
      });
}

// A thread's 16 values of a tile are added in the math type, everything beyond in fp64: fp64 adds
// are 32 to 64 times slower than fp32 ones on many GPUs; one in 16 hides behind the rest on an
// H100, where they are twice as slow.
template <class T, With with>
__global__ void __launch_bounds__(kThreads, kSumsMinBlocks<T, with>)
    gan_loss_sums_kernel(const __grid_constant__ LossLaunch a,
                         const __grid_constant__ LossScratch scratch) {
  using M = math_t<T>;
  constexpr bool kWithStatistics = with == With::statistics;
  constexpr int kColumns = kWithStatistics ? kTotals : 1;
  PYGAN_SHARED(double, shared, kWarps* kColumns);
  PYGAN_SHARED(unsigned, flag, 1);

  double totals[kColumns] = {};
  for_each_piece(a, [&](const LossPiece& piece, const Tiles& tiles) {
    if constexpr (!kWithStatistics) {
      add_loss<T, with>(totals, a.options, piece, tiles);
    } else if (a.options.sums == Sums::means) {
      add_logits<T>(totals, piece, tiles);
    } else {
      // Pairs tile by tile, so that the second pass over one finds it in the cache. (In one pass, the
      // statistics of both take more registers than there are.)
      const bool paired = piece.other != nullptr;
      Tiles part = tiles;
      do {
        if (paired) part.end = part.first + 1;
        add_loss<T, with>(totals, a.options, piece, part);
        if (paired) add_others<T>(totals, piece, part);
        part.first += tiles.step;
      } while (paired && part.first < tiles.end);
    }
  });

  block_sum(totals, shared);
  if (gridDim.x > 1) {
    if (threadIdx.x < kColumns) {
      scratch.partials[static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x] =
          shared[threadIdx.x];
    }
    if (!is_last_block(scratch.slot, flag)) return;
    // All loads before the first addition: one wait for memory, not one for each.
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      double partials[kPartialsPerThread];
#pragma unroll
      for (int j = 0; j < kPartialsPerThread; ++j) {
        const int64_t block = threadIdx.x + j * kThreads;
        partials[j] = block < gridDim.x ? scratch.partials[block * kColumns + k] : 0.0;
      }
      totals[k] = 0;
#pragma unroll
      for (double partial : partials) totals[k] += partial;
    }
    block_sum(totals, shared);
  }
  if constexpr (!kWithStatistics) {
    if (threadIdx.x == 0) finish_loss<kColumns, M>(shared, a.options, scratch.out);
  } else {
    if (threadIdx.x == 0) *flag = finish_loss<kColumns, M>(shared, a.options, scratch.out);
    __syncthreads();
    if (*flag != 0 && threadIdx.x < kStatistics) {
      static_cast<M*>(scratch.out.statistics)[threadIdx.x] =
          statistic_of<M>(threadIdx.x, shared, scratch.out, a.options.bounds_jsd);
    }
  }
}

// The gradient: of the logits' type, and of order 1.
template <class T>
__global__ void __launch_bounds__(kThreads, kMinBlocks<math_t<T>>)
    gan_loss_grad_kernel(const __grid_constant__ LossLaunch a) {
  using M = math_t<T>;
  const M grad = a.options.grad == nullptr ? M(1) : *static_cast<const M*>(a.options.grad);
  for_each_piece(a, [&](const LossPiece& piece, const Tiles& tiles) {
    const Seen<M> seen_by_form(piece, a.options);
    const M factor = factor_of<M>(piece, 1) * grad, shift = grad * shift_of<M>(piece, a.options);
    with_target(piece, [&](auto form, auto plain) {
      const M eps = plain ? M(0) : static_cast<M>(piece.eps);
      for_each_logit<T, T, kLossVectors<T>>(
          piece, tiles,
          [&](M difference, M, M) {
            return factor * form_of_order<decltype(form)>(1, seen_by_form(difference), eps) - shift;
          },
          [] {});
    });
  });
}

// The terms of the loss, or their derivatives of any order, in the math type.
template <class T>
__global__ void __launch_bounds__(kThreads, kMinBlocks<math_t<T>>)
    gan_loss_terms_kernel(const __grid_constant__ LossLaunch a) {
  using M = math_t<T>;
  for_each_piece(a, [&](const LossPiece& piece, const Tiles& tiles) {
    const Seen<M> seen_by_form(piece, a.options);
    const M factor = factor_of<M>(piece, a.options.order);
    const M eps = static_cast<M>(piece.eps);
    with_form(piece.form, [&](auto form) {
      using F = decltype(form);
      for_each_logit<T, M, 1>(
          piece, tiles,
          [&](M difference, M, M) {
            return factor * form_of_order<F>(a.options.order, seen_by_form(difference), eps);
          },
          [] {});
    });
  });
}

}  // namespace pygan::cuda
