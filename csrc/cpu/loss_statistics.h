// The sums of logits themselves, from which the statistics follow. Internal to the files that are
// compiled once per instruction set.
#pragma once

#include <algorithm>

#include "cpu/blocks.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// The sums of logits themselves.
struct StatisticLanes {
  alignas(64) double logit[kStrip] = {}, square[kStrip] = {}, probability[kStrip] = {};
  // How many are decided for real, and for fake times 2^16: of a chunk, 128 in a lane.
  alignas(64) int32_t signs[kStrip] = {};
  int64_t nonfinite = 0;

  // q of x, whose distances to the pivot are squared. A logit is decided by input[k] > undecided,
  // where input is x itself or what the form is given for it. Inlined, because the compiler cannot know that the
  // sums are not among the logits otherwise.
  template <class M>
  PYGAN_HD void add(const M* x, const M* q, const M* input, M undecided, M pivot, int64_t count) {
    // By the sign of x, which takes fewer instructions: most losses.
    if (input == x && undecided == M(0)) return add_all<true>(x, q, x, M(0), pivot, count);
    add_all<false>(x, q, input, undecided, pivot, count);
  }

  // mirrored: the inputs were those of the other side, so their signs are reversed.
  void sum_into(double* sums, bool mirrored) {
    sums[kSumLogit] = sum_of_lanes(logit);
    sums[kSumSquare] = sum_of_lanes(square);
    sums[kSumProbability] = sum_of_lanes(probability);
    for (int k = 0; k < kStrip; ++k) {
      sums[mirrored ? kSumNegative : kSumPositive] += signs[k] & 0xffff;
      sums[mirrored ? kSumPositive : kSumNegative] += signs[k] >> 16;
    }
    sums[kSumNonfinite] = static_cast<double>(nonfinite);
  }

 private:
  template <bool by_sign, class M>
  PYGAN_HD void add_all(const M* x, const M* q, const M* input, M undecided, M pivot,
                        int64_t count) {
    int64_t i = 0;
    for (; i + kBlock <= count; i += kBlock) {
      add_group<kBlock / kStrip, by_sign>(x + i, q + i, input + i, undecided, pivot);
    }
    for (; i + kStrip <= count; i += kStrip) {
      add_group<1, by_sign>(x + i, q + i, input + i, undecided, pivot);
    }
    if (i == count) return;
    alignas(64) M x_rest[kStrip] = {}, q_rest[kStrip], input_rest[kStrip];
    std::copy(x + i, x + count, x_rest);
    std::copy(q + i, q + count, q_rest);
    std::copy(input + i, input + count, input_rest);
    std::fill(q_rest + (count - i), q_rest + kStrip, M(1));  // sigmoid(0, 1) is 0
    std::fill(input_rest + (count - i), input_rest + kStrip, undecided);
    alignas(64) double before[kStrip];
    std::copy(square, square + kStrip, before);
    add_group<1, false>(x_rest, q_rest, input_rest, undecided, pivot);
    std::copy(before + (count - i), before + kStrip, square + (count - i));  // of no logits
  }

  // kParts logits a lane are added in the math type before they join the fp64 ones (16: 0.10 ns a
  // logit with AVX-512; with 4, and a counter each for positive and negative ones, 0.15).
  template <int kParts, bool by_sign, class M>
  void add_group(const M* x, const M* q, const M* input, M undecided, M pivot) {
    int32_t suspicious = 0;
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) {
      M p = M(0), sum = M(0), squares = M(0);
      int32_t found = 0;
      PYGAN_UNROLL
      for (int part = 0; part < kParts; ++part) {
        const M v = x[k + part * kStrip];
        const M away = v - pivot;
        sum += v;
        squares = fma_(away, away, squares);
        p += sigmoid(v, q[k + part * kStrip]);
        const M decided = by_sign ? v : input[k + part * kStrip];
        const M middle = by_sign ? M(0) : undecided;
        found += decided > middle ? 1 : (decided < middle ? 1 << 16 : 0);
      }
      logit[k] += static_cast<double>(sum);
      square[k] += static_cast<double>(squares);
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
