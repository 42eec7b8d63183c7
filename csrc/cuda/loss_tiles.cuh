// How the kernels of the GAN losses go through the logits of several tensors in one launch.
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
struct FormInput {
  M mirror, offset;

  __device__ FormInput(const LossPiece& piece, const LossOptions& options)
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

}  // namespace pygan::cuda
