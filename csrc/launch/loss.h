// The arguments of the kernels of the GAN losses: tensors of logits, options, and places for the
// results; and what every kernel derives from them.
//
// relativistic_average takes two passes: a logit is compared with the mean of the other kind, so
// the first sums the logits, and the second the terms; it also sums their slopes s, which the
// gradient needs, because every logit is in the mean that the other kind sees: d loss / d r_i = c_r
// s(r_i - mean f) - C_f / n_r, with C_f the sum of c_f s(f_j - mean r).
#pragma once

#include "math/dtype.h"
#include "math/loss_statistics.h"
#include "math/losses.h"

namespace pygan {

// One tensor of logits, or two that are paired. The discriminator's loss over (real, fake) is two
// pieces in one launch; lists of tensors are more of them.
struct LossPiece {
  const void* logits;  // [n] of LossOptions::dtype
  const void* other;   // [n] or null: paired with, and subtracted from, the logits
  void* out;           // [n]: derivatives. Null in sums: the loss alone
  void* other_out;     // [n], with other: those by it, which are minus the same
  int64_t n;
  double coefficient;  // of the sum of form(mirror x) in the loss: +-weight / n for a mean
  double share;        // the same in the part of the loss that is reported: without the weight
  double aim;
  Form form;
  int mirror;
  Role role;
};

// Numbers that relativistic_average keeps per pair of tensors (math type): [kMeans].
enum MeanOf { kMeanReal, kMeanFake, kSlopeReal, kSlopeFake, kMeans };

// What the sums kernel computes.
enum class Sums : int {
  // The loss, and the gradients where the pieces have an out; with means, without what goes through
  // them (shift_of).
  loss,
  means,  // the first pass of relativistic_average: kMeanReal and kMeanFake
};

struct LossOptions {
  Dtype dtype;        // of the logits: float32, float64, float16, bfloat16
  bool bounds_jsd;    // Loss::bounds_jsd()
  bool statistics;    // also sum up the logits themselves
  bool slopes_alone;  // of the statistics only kSumSlope is read
  double undecided;   // the logit that decides for neither kind, of losses that do not compare
  // With statistics, a logit of each kind: the squares of distances to it are summed, because those
  // of the logits themselves would cancel where their mean is large. Null where there is no such
  // logit.
  const void *real_pivot, *fake_pivot;
  Sums sums;
  const void* means;  // [kMeans] of the one pair of tensors that is compared to means, or null
  // Pointwise only:
  int order;         // 0: the term, 1 and 2: its derivatives; on CUDA 1 unless out_is_math
  const void* grad;  // [1] of the math type, or null: multiplies every element
  bool out_is_math;  // the output has the math type, else the logits'
};

// Elements that are summed into one fp64 partial: the fixed partition that makes sums
// deterministic.
inline constexpr int64_t kLossChunk = 1 << 13;

// The mean of the other kind, which a logit is compared with; 0 where there is none.
template <class M>
PYGAN_HD M center_of(const LossPiece& piece, const LossOptions& o) {
  return o.means == nullptr
             ? M(0)
             : static_cast<const M*>(o.means)[is_real(piece.role) ? kMeanFake : kMeanReal];
}
// What the gradient loses through that mean.
template <class M>
PYGAN_HD M shift_of(const LossPiece& piece, const LossOptions& o) {
  return o.means == nullptr
             ? M(0)
             : static_cast<const M*>(o.means)[is_real(piece.role) ? kSlopeFake : kSlopeReal] /
                   static_cast<M>(piece.n);
}

// What derivatives of order k are multiplied by: coefficient mirror^k.
template <class M>
PYGAN_HD M factor_of(const LossPiece& piece, int order) {
  return static_cast<M>(order == 1 ? piece.coefficient * piece.mirror : piece.coefficient);
}

// The logit to which a kind's distances are taken, of element type T: 0 where it is not finite.
template <class T>
PYGAN_HD math_t<T> pivot_of(const void* logit) {
  const math_t<T> x = logit == nullptr ? math_t<T>(0) : to_float(*static_cast<const T*>(logit));
  return is_finite(x) ? x : math_t<T>(0);
}
PYGAN_HD const void* pivot_at(const LossOptions& o, bool real) {
  return real ? o.real_pivot : o.fake_pivot;
}

// Adds the sums over (part of) a piece, or over what it is paired with; `coefficient` multiplies
// its value. N is kTotals, or 1 for the loss alone. (Constant indices in both branches: on the GPU
// the totals stay in registers.)
template <int N, class M>
PYGAN_HD void add_to_totals(double (&totals)[N], const M* sums, const LossPiece& piece,
                            bool is_other, double coefficient) {
  if (!is_other) totals[0] += coefficient * static_cast<double>(sums[kSumValue]);
  if constexpr (N == kTotals) {
    const double slope = piece.coefficient * piece.mirror;
    if (is_real(piece.role) != is_other) {
      for (int k = 0; k < kSums; ++k) {
        totals[1 + k] += (k == kSumSlope ? slope : 1) * static_cast<double>(sums[k]);
      }
    } else {
      for (int k = 0; k < kSums; ++k) {
        totals[1 + kSums + k] += (k == kSumSlope ? slope : 1) * static_cast<double>(sums[k]);
      }
    }
  }
}

// Outputs derived from the totals. A loss may take several launches: `carry` then passes the totals
// from one to the next.
struct LossOutputs {
  void* loss;         // [1] of the math type
  void* statistics;   // [kStatistics] of the math type, or null
  void* means;        // [kMeans] of the math type, or null
  bool detached;      // the means are constants: nothing goes through them
  void* parts;        // [pieces of the launch] of the math type: the loss of each, or null
  double* carry;      // [kTotals] or null
  bool first, last;   // launch of the loss
  double real, fake;  // how many logits of each kind in all launches; for Sums::means, in this one
  bool discriminator;
};

// The last step, for one thread: writes the outputs, except the statistics, from the totals
// (kTotals, or 1 for the loss alone). Returns whether write_statistic is to follow.
template <int N, class M>
PYGAN_HD bool finish_loss(double* totals, const LossOptions& options, const LossOutputs& out) {
  if constexpr (N == kTotals) {
    auto* means = static_cast<M*>(out.means);
    if (options.sums == Sums::means) {
      means[kMeanReal] = static_cast<M>(totals[1 + kSumLogit] / out.real);
      means[kMeanFake] = static_cast<M>(totals[1 + kSums + kSumLogit] / out.fake);
      return false;
    }
    if (means != nullptr) {
      means[kSlopeReal] = static_cast<M>(out.detached ? 0.0 : totals[1 + kSumSlope]);
      means[kSlopeFake] = static_cast<M>(out.detached ? 0.0 : totals[1 + kSums + kSumSlope]);
    }
  }
  if (out.carry != nullptr) {
    for (int k = 0; k < N; ++k) {
      if (!out.first) totals[k] += out.carry[k];
      out.carry[k] = totals[k];
    }
  }
  if (!out.last) return false;
  *static_cast<M*>(out.loss) = static_cast<M>(totals[0]);
  return N == kTotals && out.statistics != nullptr;
}

// Writes statistic k of logits of element type T.
template <class T>
PYGAN_HD void write_statistic(int k, const double* totals, const LossOptions& options,
                              const LossOutputs& out) {
  using M = math_t<T>;
  static_cast<M*>(out.statistics)[k] =
      statistic_of<M>(k, totals, out.real, out.fake, out.discriminator && options.bounds_jsd,
                      pivot_of<T>(options.real_pivot), pivot_of<T>(options.fake_pivot));
}

}  // namespace pygan
