// The GAN loss kernels: sums over several tensors of logits in one launch, and what the pointwise
// kernels (loss_pointwise.cuh) share with them.
//
// Work is cut into tiles of 8,192 logits, 32 a thread, numbered through all pieces. Which thread
// adds which logit depends on the tile alone, never on alignment, device or timing: same bits every
// run.
#pragma once

#include "cuda/reduce.cuh"
#include "cuda/vector.cuh"

namespace pygan::cuda {

inline constexpr int kPerThread = 32;
inline constexpr int kTile = kThreads * kPerThread;

inline constexpr int kPartialsPerThread = (kMaxBlocks + kThreads - 1) / kThreads;

struct LossLaunch {
  LossPiece pieces[kMaxPieces];
  unsigned first_block[kMaxPieces];  // the block that takes a piece's first tile
  int count;
  LossOptions options;
};
static_assert(sizeof(LossLaunch) + sizeof(LossScratch) <= 4096,
              "kernel arguments before CUDA 12.1");

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
    const unsigned block = rank_after(a.first_block[p]);
    const Tiles tiles{block, tiles_of(a.pieces[p]), gridDim.x};
    if (tiles.first < tiles.end) f(a.pieces[p], tiles);
  }
}

// Calls f(form, plain) with the form as an object; plain is std::true_type where the aim is 0 and
// that saves instructions.
template <class F>
__device__ __forceinline__ void with_target(const LossPiece& piece, F&& f) {
  with_form(piece.form, [&](auto form) {
    if constexpr (kHasPlain<decltype(form)>) {
      if (piece.aim == 0) return f(form, std::true_type{});
    }
    f(form, std::false_type{});
  });
}

// Whether logits are paired with others: known at compile time where both cases are told apart.
enum class Paired { maybe, never, always };

// Calls f(x - y, x, y) for each of this thread's logits x, y being what it is paired with (0 where
// there is none), and end_of_tile() after each tile. Stores what f returns: into out, as Out, and
// minus that into other_out; nothing for an Out of void.
//
// kVectors vectors, of one tensor or of two, are loaded before the first is worked on, so that
// there are enough bytes on the way. Only where not all of a tile is there, or not all of it is
// aligned, it goes logit by logit: the same logits for a thread in the same order.
template <class T, class Out, int kVectors, Paired known, class F, class E>
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
  // This thread's logits of a whole tile, of which the first is number `start`.
  const auto do_vectors = [&](int64_t start, auto paired) {
    constexpr int kOfEach = paired && kVectors > 1 ? kVectors / 2 : kVectors;
#pragma unroll 1
    for (int64_t i = start; i < start + kPerThread * kThreads; i += kOfEach * kVector * kThreads) {
      Vector<T, kVector> xs[kOfEach], ys[kOfEach];
      Vector<Stored, kVector> results[kOfEach];
#pragma unroll
      for (int v = 0; v < kOfEach; ++v) {
        xs[v] = load<T, kVector>(logits + i + v * kThreads * kVector);
        if constexpr (paired) ys[v] = load<T, kVector>(other + i + v * kThreads * kVector);
      }
#pragma unroll
      for (int v = 0; v < kOfEach; ++v) {
        M x[kVector], y[kVector] = {};
        to_math(x, xs[v]);
        if constexpr (paired) to_math(y, ys[v]);
#pragma unroll
        for (int k = 0; k < kVector; ++k) {
          results[v].v[k] = from_math<Stored>(f(paired ? x[k] - y[k] : x[k], x[k], y[k]));
        }
      }
      if constexpr (kStores) {
        const auto store_all = [&](Stored* to) {
#pragma unroll
          for (int v = 0; v < kOfEach; ++v) store(to + i + v * kThreads * kVector, results[v]);
        };
        if (out != nullptr) store_all(out);
        if constexpr (paired) {
          if (other_out == nullptr) continue;
#pragma unroll
          for (auto& result : results) {
#pragma unroll
            for (Stored& x : result.v) x = from_math<Stored>(-to_float(x));
          }
          store_all(other_out);
        }
      }
    }
  };
#pragma unroll 1
  for (int64_t tile = tiles.first; tile < tiles.end; tile += tiles.step) {
    const int64_t first = tile * kTile;
    const int64_t end = first + kTile < piece.n ? first + kTile : piece.n;
    const int64_t start = first + threadIdx.x * kVector;
    if (is_aligned && end - first == kTile) {
      if (known == Paired::never || (known == Paired::maybe && other == nullptr)) {
        do_vectors(start, std::bool_constant<known == Paired::always>{});
      } else {
        do_vectors(start, std::bool_constant<known != Paired::never>{});
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

// u is exp(-|x|). The logit is decided by seen > undecided.
template <class M>
__device__ __forceinline__ void add_statistics(M (&sums)[kSums], M x, M u, M seen, M undecided,
                                               M pivot) {
  const M away = x - pivot;
  sums[kSumLogit] += x;
  sums[kSumSquare] = fma_(away, away, sums[kSumSquare]);
  sums[kSumProbability] += sigmoid(x, sigmoid_minus_abs(u));
  // Branches, of which ptxas makes predicated additions: one instruction less than a selection.
  if (seen > undecided) sums[kSumPositive] += M(1);
  if (seen < undecided) sums[kSumNegative] += M(1);
  if (!is_finite(x)) sums[kSumNonfinite] += M(1);
}

// What is done beside the loss itself: gradients are stored, and with statistics the logits are
// summed up as well.
enum class With { nothing, grads, statistics };

// Vectors that are loaded together: 64 bytes a thread, less where gradients or statistics take the
// registers.
template <class T, With with>
inline constexpr int kLossVectors = with == With::statistics ? (sizeof(T) == 2 ? 1 : 2)
                                    : sizeof(T) == 8 || (with == With::grads && sizeof(T) == 2) ? 2
                                                                                                : 4;

// With 64 registers a thread, gradients spill a few bytes on some architectures.
template <class T, With with>
inline constexpr int kLossMinBlocks =
    with == With::grads && sizeof(T) < 8 ? 3 : kMinBlocks<math_t<T>, with == With::statistics>;

// Calls f(alone): std::true_type where logits are compared with nothing. Statistics alone ask.
template <Paired paired, class F>
__device__ __forceinline__ void with_comparison(const LossOptions& options, F&& f) {
  if constexpr (paired == Paired::never) {
    if (options.means == nullptr) return f(std::true_type{});
  }
  f(std::false_type{});
}

// Adds the loss over these tiles to the totals, times the coefficient, and stores the gradient.
template <class T, With with, Paired paired, int kColumns>
__device__ __forceinline__ void add_loss(double (&totals)[kColumns], const LossOptions& options,
                                         const LossPiece& piece, double coefficient,
                                         const Tiles& tiles) {
  using M = math_t<T>;
  using Out = std::conditional_t<with == With::nothing, void, T>;
  constexpr bool kWithStatistics = with == With::statistics;
  const Seen<M> seen_by_form(piece, options);
  const M factor = factor_of<M>(piece, 1);
  [[maybe_unused]] const M pivot =
      kWithStatistics ? pivot_of<T>(pivot_at(options, is_real(piece.role))) : M(0);
  with_target(piece, [&](auto form, auto plain) {
    with_comparison<paired>(options, [&](auto alone) {
      using F = decltype(form);
      const M aim = plain ? M(0) : static_cast<M>(piece.aim);
      M sums[kSums] = {};
      // See times_one_plus: one logarithm a tile instead of one a logit.
      [[maybe_unused]] M product = M(0);
      for_each_logit<T, Out, kLossVectors<T, with>, paired>(
          piece, tiles,
          [&](M difference, M x, M) {
            const M seen = seen_by_form(difference);
            const M u = exp_minus_abs(seen);
            sums[kSumValue] += plain ? plain_base<F>(seen) : F::base(seen, aim);
            if constexpr (F::kExponential) product = times_one_plus(product, u);
            if constexpr (kWithStatistics) {
              if constexpr (!plain) sums[kSumPlain] += plain_base<F>(seen);
              if constexpr (paired == Paired::never) {
                // What is compared with nothing is seen as it is, or mirrored: the same |x|.
                add_statistics(sums, x, alone ? u : exp_minus_abs(x),
                               alone ? x : seen_by_form.mirror * seen,
                               alone ? static_cast<M>(options.undecided) : M(0), pivot);
              }
            }
            if constexpr (with == With::nothing) return M(0);
            const M slope = F::d1(seen, sigmoid_minus_abs(u), aim);
            if constexpr (!alone) sums[kSumSlope] += slope;  // for a mean's gradient
            return slope * factor;
          },
          [&] {
            if constexpr (F::kExponential) {
              sums[kSumValue] = add_log1p_of_product(sums[kSumValue], product);
              if (!plain) sums[kSumPlain] = add_log1p_of_product(sums[kSumPlain], product);
              product = M(0);
            }
            if (plain) sums[kSumPlain] = sums[kSumValue];
            add_to_totals(totals, sums, piece, false, coefficient);
            for (M& sum : sums) sum = M(0);
          });
    });
  });
}

// Adds to the totals the statistics of the logits of these tiles, or of those that they are paired
// with.
template <class T>
__device__ __forceinline__ void add_statistics_of_pairs(double (&totals)[kTotals],
                                                        const LossOptions& options,
                                                        const LossPiece& piece, const Tiles& tiles,
                                                        bool of_others) {
  using M = math_t<T>;
  const M pivot = pivot_of<T>(pivot_at(options, is_real(piece.role) != of_others));
  M sums[kSums] = {};
  for_each_logit<T, void, kLossVectors<T, With::statistics>, Paired::always>(
      piece, tiles,
      [&](M difference, M x, M y) {
        const M logit = of_others ? y : x;
        add_statistics(sums, logit, exp_minus_abs(logit), of_others ? -difference : difference,
                       M(0), pivot);
        return M(0);
      },
      [&] {
        add_to_totals(totals, sums, piece, of_others, 0.0);
        for (M& sum : sums) sum = M(0);
      });
}

// Adds the logits of these tiles to the totals, and nothing else: for Sums::means.
template <class T>
__device__ __forceinline__ void add_logits(double (&totals)[kTotals], const LossPiece& piece,
                                           const Tiles& tiles) {
  using M = math_t<T>;
  M sums[kSums] = {};
  for_each_logit<T, void, kLossVectors<T, With::statistics>, Paired::never>(
      piece, tiles,
      [&](M, M x, M) {
        sums[kSumLogit] += x;
        return M(0);
      },
      [&] {
        add_to_totals(totals, sums, piece, false, 0.0);
        sums[kSumLogit] = M(0);
      });
}

// Leaves this block's share of a piece's sum, which its threads have in totals[0], in global
// memory, and takes it from the totals. `shared` is [kWarps].
template <int kColumns>
__device__ __forceinline__ void leave_part(double (&totals)[kColumns], double* to, double* shared) {
  const double sum[1] = {totals[0]};
  totals[0] = 0;
  block_sum(sum, shared);
  if (threadIdx.x == 0) *to = shared[0];
  __syncthreads();  // before shared is written again
}

// For all threads of the last block: the loss of each piece from what the blocks left, and in
// shared[0] the loss of all. `sums` is shared, [kMaxPieces].
template <class M>
__device__ __forceinline__ void finish_parts(const LossLaunch& a, const LossScratch& scratch,
                                             double* sums, double* shared) {
  for (int p = threadIdx.x / 32; p < a.count; p += kWarps) {
    const int64_t tiles = tiles_of(a.pieces[p]);
    const int64_t blocks = tiles < gridDim.x ? tiles : gridDim.x;
    double sum = 0;
    for (int64_t k = threadIdx.x % 32; k < blocks; k += 32) {
      sum += scratch.of_pieces[p * static_cast<int64_t>(gridDim.x) + k];
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
      sums[p] = sum;
      static_cast<M*>(scratch.out.parts)[p] = static_cast<M>(a.pieces[p].share * sum);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    shared[0] = 0;
    for (int p = 0; p < a.count; ++p) shared[0] += a.pieces[p].coefficient * sums[p];
  }
}

// A thread's 32 values of a tile are added in the math type, everything beyond in fp64: fp64 adds
// are 32 to 64 times slower than fp32 ones on many GPUs; one in 32 hides behind the rest on an
// H100, where they are twice as slow.
template <class T, With with>
__global__ void __launch_bounds__(kThreads, kLossMinBlocks<T, with>)
    gan_loss_sums_kernel(const __grid_constant__ LossLaunch a,
                         const __grid_constant__ LossScratch scratch) {
  using M = math_t<T>;
  constexpr bool kWithStatistics = with == With::statistics;
  constexpr int kColumns = kWithStatistics ? kTotals : 1;
  PYGAN_SHARED(double, shared, kWarps* kColumns);
  PYGAN_SHARED(unsigned, flag, 1);
  PYGAN_SHARED(double, of_pieces, kMaxPieces);

  // With nothing else there are no registers for the parts: the launcher takes another kernel.
  const bool wants_parts = with != With::nothing && scratch.out.parts != nullptr;
  double totals[kColumns] = {};
  for_each_piece(a, [&](const LossPiece& piece, const Tiles& tiles) {
    const double coefficient = wants_parts ? 1.0 : piece.coefficient;
    if constexpr (!kWithStatistics) {
      add_loss<T, with, Paired::maybe>(totals, a.options, piece, coefficient, tiles);
    } else if (a.options.sums == Sums::means) {
      add_logits<T>(totals, piece, tiles);
    } else if (piece.other == nullptr) {
      add_loss<T, with, Paired::never>(totals, a.options, piece, coefficient, tiles);
    } else {
      // Tile by tile, so that the second pass over one finds it in the cache. (In one pass, the
      // statistics of both beside the loss take more registers than there are.)
#pragma unroll 1
      for (int64_t tile = tiles.first; tile < tiles.end; tile += tiles.step) {
        const Tiles one{tile, tile + 1, 1};
        add_loss<T, with, Paired::always>(totals, a.options, piece, coefficient, one);
#pragma unroll 1
        for (int others = 0; others < 2; ++others) {
          add_statistics_of_pairs<T>(totals, a.options, piece, one, others != 0);
        }
      }
    }
    if constexpr (with != With::nothing) {
      if (!wants_parts) return;
      const int64_t p = &piece - a.pieces;
      leave_part(totals, scratch.of_pieces + p * gridDim.x + tiles.first, shared);
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
  if constexpr (with != With::nothing) {
    if (wants_parts) finish_parts<M>(a, scratch, of_pieces, shared);
  }
  if constexpr (!kWithStatistics) {
    if (threadIdx.x == 0) finish_loss<kColumns, M>(shared, a.options, scratch.out);
  } else {
    if (threadIdx.x == 0) *flag = finish_loss<kColumns, M>(shared, a.options, scratch.out);
    __syncthreads();
    if (*flag != 0 && threadIdx.x < kStatistics) {
      static_cast<M*>(scratch.out.statistics)[threadIdx.x] =
          statistic_of<M>(threadIdx.x, shared, scratch.out, a.options.bounds_jsd,
                          pivot_of<T>(a.options.real_pivot), pivot_of<T>(a.options.fake_pivot));
    }
  }
}

}  // namespace pygan::cuda
