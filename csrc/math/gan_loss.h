// What a kernel needs to know to compute a GAN loss over several tensors of logits, the sums that
// it returns, and how the loss and its statistics follow from them.
#pragma once

#include "math/dtype.h"
#include "math/losses.h"

namespace pygan {

// One tensor of logits. The discriminator's loss over (real, fake) is two pieces in one launch;
// lists of tensors are more of them.
struct LossPiece {
  const void* logits;  // [n] of LossOptions::dtype
  void* out;           // [n]: the pointwise kernel's result; the CPU's sums: the gradient, or null
  int64_t n;
  double coefficient;  // of this piece's terms in the loss: 1 / n for a mean
  Role role;
};

struct LossOptions {
  Loss loss;
  Dtype dtype;      // of the logits: float32, float64, float16, bfloat16
  double eps;       // one-sided label smoothing
  bool statistics;  // sums only: also those of the logits themselves
  // Pointwise only:
  int order;         // 0: the term, 1 and 2: its derivatives
  const void* grad;  // [1] of the math type, or null: multiplies every element
  bool out_is_math;  // the output has the math type, else the logits'
};

// Sums over one piece.
enum Sum {
  kSumValue,
  // Of the logits themselves:
  kSumPlain,  // the value without label smoothing
  kSumLogit,
  kSumProbability,
  kSumPositive,
  kSumNegative,
  kSumNonfinite,
  kSums
};

// Totals over all pieces: the loss, then the sums of the real logits, then those of the fake ones.
inline constexpr int kTotals = 1 + 2 * kSums;

enum Statistic {
  kRealLogit,
  kFakeLogit,
  kRealProbability,
  kFakeProbability,
  kRealAccuracy,
  kFakeAccuracy,
  kRealSign,
  kJsdBound,
  kNonfinite,
  kStatistics
};

// Elements that are summed into one fp64 partial: the fixed partition that makes sums
// deterministic.
inline constexpr int64_t kLossChunk = 1 << 13;

// What the pointwise kernel multiplies every element of a piece by.
template <class M>
PYGAN_HD M common_factor(const LossPiece& piece, const LossOptions& options) {
  const M grad = options.grad == nullptr ? M(1) : *static_cast<const M*>(options.grad);
  return static_cast<M>(piece.coefficient) * grad;
}

template <class Term, class M>
PYGAN_HD M term_of_order(int order, M x, M eps) {
  const M u = exp_minus_abs(x);
  if (order == 0) return Term::value(x, u, eps);
  const M q = sigmoid_minus_abs(u);
  return order == 1 ? Term::d1(x, q, eps) : Term::d2(x, q, eps);
}

// N is kTotals, or 1 for the loss alone. (Constant indices in both branches: on the GPU the totals
// stay in registers.)
template <int N, class M>
PYGAN_HD void add_to_totals(double (&totals)[N], const M (&sums)[kSums], const LossPiece& piece) {
  totals[0] += piece.coefficient * static_cast<double>(sums[kSumValue]);
  if constexpr (N == kTotals) {
    if (piece.role == Role::real) {
      for (int k = 0; k < kSums; ++k) totals[1 + k] += static_cast<double>(sums[k]);
    } else {
      for (int k = 0; k < kSums; ++k) totals[1 + kSums + k] += static_cast<double>(sums[k]);
    }
  }
}

// statistics[kStatistics] from the totals over `real` and `fake` many logits; NaN where one has no
// meaning: the mean of no logits, the JSD bound without a discriminator's loss.
//
// The bound is log 2 - L / 2 in nats, L the discriminator's plain mean loss (without smoothing),
// since V(D, G) = -L <= -2 log 2 + 2 JSD (Goodfellow et al. 2014, theorem 1).
template <class M>
PYGAN_HD void finish_statistics(const double* totals, double real, double fake, bool discriminator,
                                M* statistics) {
  const double* r = totals + 1;
  const double* f = totals + 1 + kSums;
  const double plain = r[kSumPlain] / real + f[kSumPlain] / fake;
  const double values[kStatistics] = {
      r[kSumLogit] / real,
      f[kSumLogit] / fake,
      r[kSumProbability] / real,
      f[kSumProbability] / fake,
      r[kSumPositive] / real,
      f[kSumNegative] / fake,
      (r[kSumPositive] - r[kSumNegative]) / real,
      discriminator ? 0.6931471805599453 - plain / 2 : double_of(0x7ff8000000000000u),
      r[kSumNonfinite] + f[kSumNonfinite],
  };
  for (int k = 0; k < kStatistics; ++k) statistics[k] = static_cast<M>(values[k]);
}

}  // namespace pygan
