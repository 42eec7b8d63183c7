// The interface of the CUDA kernels: each function starts one kernel on a stream and returns. It
// takes raw device pointers, because nothing here depends on torch. Shapes are given in brackets.
#pragma once

#include "launch/features.h"
#include "launch/loss.h"
#include "launch/noise.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace pygan::cuda {

using Stream = CUstream_st*;

// Pieces that one launch takes: they travel as kernel arguments, of which there may be 4 KB.
inline constexpr int kMaxPieces = 40;

// Last-block counters (see reduce.cuh). Two kernels that may run at the same time need different
// slots: `slot` is one of these, chosen by the caller per stream.
inline constexpr unsigned kSlots = 1 << 16;

// Blocks that a reduction over n elements starts: a function of n alone, not of the device, because
// the partition decides the bits of a floating-point sum.
unsigned loss_blocks(const LossPiece* pieces, int count);

// The loss over all pieces, and what LossOutputs asks for beside it; the gradients into the pieces'
// outs, where they have some.
struct LossScratch {
  double* partials;   // [loss_blocks][kTotals]
  double* of_pieces;  // [pieces][loss_blocks], or null where no parts are asked for
  unsigned slot;
  LossOutputs out;
};
void loss_sums(const LossPiece* pieces, int count, const LossOptions&, const LossScratch&, Stream);

// out[i] = grad * coefficient * derivative(logits[i]) for every piece.
void loss_pointwise(const LossPiece* pieces, int count, const LossOptions&, Stream);

// Feature matching. Maps that one launch takes, as kernel arguments.
inline constexpr int kMaxMaps = 56;

// The sums over each map, and what FeatureOutputs asks for; the signs, where the maps have a place
// for them. `partials` is scratch, [feature_partials][kFeatureSums].
int64_t feature_partials(const FeatureMap* maps, int count);
void feature_sums(const FeatureMap* maps, int count, const FeatureOptions&, const FeatureOutputs&,
                  double* partials, unsigned slot, Stream);

// out[i] = factor_of(map) * sign, or * (fake - real) without signs, for every map.
void feature_gradient(const FeatureMap* maps, int count, const FeatureOptions&,
                      const FeatureGradient&, Stream);

// out = x scale + bias + sigma z for every piece. `advance`, if not null, is the state, whose step
// is then `steps` further.
void instance_noise(const NoisePiece* pieces, int count, const NoiseOptions&, int64_t* advance,
                    uint32_t steps, unsigned slot, Stream);

// sums[samples] (fp64) of grad z over each sample. `partials` is scratch,
// [samples][noise_dot_chunks].
int64_t noise_dot_chunks(const NoiseDotArgs&);
void noise_dot(const NoiseDotArgs&, int64_t samples, double* partials, double* sums, Stream);

}  // namespace pygan::cuda
