// The statistics that a loss reports beside its value: which sums over the logits they take, and how
// they follow from the totals.
#pragma once

#include "math/elementary.h"

namespace pygan {

// Sums over one tensor of logits.
enum Sum {
  kSumValue,
  kSumSlope,
  // Of the logits themselves:
  kSumPlain,  // the value without label smoothing
  kSumLogit,
  kSumSquare,  // of the logits less the pivot
  kSumProbability,
  // How many are above and below what decides for neither kind: Loss::undecided, or, where logits are
  // compared, the logit or the mean that they are compared with.
  kSumPositive,
  kSumNegative,
  kSumNonfinite,
  kSums
};

// Totals over all tensors: the loss, then the sums of the real logits, then those of the fake ones.
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
  kFakeSign,
  kRealDeviation,
  kFakeDeviation,
  kStatistics
};

// The standard deviation of `count` logits. (The variance is 0 or more but for its rounding; a NaN
// stays one.)
PYGAN_HD double deviation_of(const double* sums, double count, double pivot) {
  const double away = sums[kSumLogit] / count - pivot;
  const double variance = sums[kSumSquare] / count - away * away;
  return sqrt(variance < 0 ? 0.0 : variance);
}

// Statistic k from the totals over so many real and fake logits; NaN where it has no meaning: the
// mean of no logits, or the JSD bound of a loss that gives none. Each takes one division, so threads
// that compute one each take the time of one.
//
// The bound is log 2 - L / 2 in nats, L the discriminator's plain mean loss (without smoothing),
// since V(D, G) = -L <= -2 log 2 + 2 JSD (Goodfellow et al. 2014, theorem 1).
template <class M>
PYGAN_HD M statistic_of(int k, const double* totals, double real, double fake, bool bounds_jsd,
                        M real_pivot, M fake_pivot) {
  const double* r = totals + 1;
  const double* f = totals + 1 + kSums;
  double sum = double_of(0x7ff8000000000000u), count = 1;
  switch (k) {
    case kRealLogit:
      sum = r[kSumLogit], count = real;
      break;
    case kFakeLogit:
      sum = f[kSumLogit], count = fake;
      break;
    case kRealDeviation:
      return static_cast<M>(deviation_of(r, real, real_pivot));
    case kFakeDeviation:
      return static_cast<M>(deviation_of(f, fake, fake_pivot));
    case kRealProbability:
      sum = r[kSumProbability], count = real;
      break;
    case kFakeProbability:
      sum = f[kSumProbability], count = fake;
      break;
    case kRealAccuracy:
      sum = r[kSumPositive], count = real;
      break;
    case kFakeAccuracy:
      sum = f[kSumNegative], count = fake;
      break;
    case kRealSign:
      sum = r[kSumPositive] - r[kSumNegative], count = real;
      break;
    case kFakeSign:
      sum = f[kSumPositive] - f[kSumNegative], count = fake;
      break;
    case kJsdBound:
      if (!bounds_jsd) break;
      sum = r[kSumPlain] * fake + f[kSumPlain] * real, count = real * fake;
      return static_cast<M>(0.6931471805599453 - sum / count / 2);
    case kNonfinite:
      sum = r[kSumNonfinite] + f[kSumNonfinite];
      break;
  }
  return static_cast<M>(sum / count);
}

}  // namespace pygan
