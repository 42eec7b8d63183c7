// The sums over several tensors of logits in one launch: the loss, with its gradient and its
// statistics.
#pragma once

#include "cuda/loss_tiles.cuh"

namespace pygan::cuda {

inline constexpr int kPartialsPerThread = (kMaxBlocks + kThreads - 1) / kThreads;

// u is exp(-|x|). The logit is decided for real if input > undecided.
template <class M>
__device__ __forceinline__ void add_statistics(M (&sums)[kSums], M x, M u, M input, M undecided,
                                               M pivot) {
  const M away = x - pivot;
  sums[kSumLogit] += x;
  sums[kSumSquare] = fma_(away, away, sums[kSumSquare]);
  sums[kSumProbability] += sigmoid(x, sigmoid_minus_abs(u));
  // Branches, of which ptxas makes predicated additions: one instruction less than a selection.
  if (input > undecided) sums[kSumPositive] += M(1);
  if (input < undecided) sums[kSumNegative] += M(1);
  if (!is_finite(x)) sums[kSumNonfinite] += M(1);
}

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
  const FormInput<M> form_input(piece, options);
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
            const M input = form_input(difference);
            const M u = exp_minus_abs(input);
            sums[kSumValue] += plain ? plain_base<F>(input) : F::base(input, aim);
            if constexpr (F::kExponential) product = times_one_plus(product, u);
            if constexpr (kWithStatistics) {
              if constexpr (!plain) sums[kSumPlain] += plain_base<F>(input);
              if constexpr (paired == Paired::never) {
                // What is compared with nothing is x itself, or mirrored: the same |x|.
                add_statistics(sums, x, alone ? u : exp_minus_abs(x),
                               alone ? x : form_input.mirror * input,
                               alone ? static_cast<M>(options.undecided) : M(0), pivot);
              }
            }
            if constexpr (with == With::nothing) return M(0);
            const M slope = F::d1(input, sigmoid_minus_abs(u), aim);
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

// Moves this block's share of a piece's sum from its threads' totals[0] to global memory. `shared`
// is [kWarps].
template <int kColumns>
__device__ __forceinline__ void leave_part(double (&totals)[kColumns], double* to, double* shared) {
  const double sum[1] = {totals[0]};
  totals[0] = 0;
  block_sum(sum, shared);
  if (threadIdx.x == 0) *to = shared[0];
  __syncthreads();  // before shared is written again
}

// For all threads of the last block: the loss of each piece from what the blocks wrote, and in
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
      write_statistic<T>(threadIdx.x, shared, a.options, scratch.out);
    }
  }
}

}  // namespace pygan::cuda
