// The sums of logits themselves, from which the statistics follow. Internal to the files that are
// compiled once per instruction set.
#pragma once

#include <algorithm>

#include "cpu/blocks.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// The sums of logits themselves.
struct StatisticLanes {
  alignas(64) double logit[kStrip] = {}, probability[kStrip] = {};
  // How many are positive, and negative ones times 2^16: of a chunk, 128 in a lane.
  alignas(64) int32_t signs[kStrip] = {};
  int64_t nonfinite = 0;

  // q of x.
  template <class M>
  void add(const M* x, const M* q, int64_t count) {
    int64_t i = 0;
    for (; i + kBlock <= count; i += kBlock) add_group<kBlock / kStrip>(x + i, q + i);
    for (; i + kStrip <= count; i += kStrip) add_group<1>(x + i, q + i);
    if (i == count) return;
    alignas(64) M x_rest[kStrip] = {}, q_rest[kStrip];
    std::copy(x + i, x + count, x_rest);
    std::copy(q + i, q + count, q_rest);
    std::fill(q_rest + (count - i), q_rest + kStrip, M(1));  // sigmoid(0, 1) is 0
    add_group<1>(x_rest, q_rest);
  }

  void sum_into(double* sums) {
    sums[kSumLogit] = sum_of_lanes(logit);
    sums[kSumProbability] = sum_of_lanes(probability);
    for (int k = 0; k < kStrip; ++k) {
      sums[kSumPositive] += signs[k] & 0xffff;
      sums[kSumNegative] += signs[k] >> 16;
    }
    sums[kSumNonfinite] = static_cast<double>(nonfinite);
  }

 private:
  // kParts logits a lane are added in the math type before they join the fp64 ones (16: 0.10 ns a
  // logit with AVX-512; with 4, and a counter each for positive and negative ones, 0.15).
  template <int kParts, class M>
  void add_group(const M* x, const M* q) {
    alignas(64) M total[kStrip];
    int32_t suspicious = 0;
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) {
      M p = M(0), sum = M(0);
      int32_t found = 0;
      PYGAN_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const M v = x[k + part * kStrip];
        sum += v;
        p += sigmoid(v, q[k + part * kStrip]);
        found += v > M(0) ? 1 : (v < M(0) ? 1 << 16 : 0);
      }
      total[k] = sum;
      logit[k] += static_cast<double>(sum);
      probability[k] += static_cast<double>(p);
      signs[k] += found;
      suspicious |= !is_finite(sum);
    }
    // Only a group with a sum that is not finite can hold logits that are not.
    if (suspicious != 0)
      nonfinite += std::count_if(x, x + kParts * kStrip, [](M v) { return !is_finite(v); });
  }
};

}  // namespace
}  // namespace pygan::cpu::PYGAN_CPU_ISA
