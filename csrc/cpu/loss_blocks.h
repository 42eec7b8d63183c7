// Short loops over a block of logits, which all forms of loss share: exponentials, results, sums.
// Internal to the files that are compiled once per instruction set.
#pragma once

#include "cpu/blocks.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// f(k) for k < count, and on to the end of the last strip.
template <class F>
void for_each_lane(int64_t count, F&& f) {
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int64_t k = strip; k < strip + kStrip; ++k) f(k);
  }
}

// u and q of x[0..count), and on to the end of the last strip.
template <class M>
void exponentials(const M* x, M* u, int64_t count) {
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) u[strip + k] = exp_minus_abs(x[strip + k]);
  }
}
template <class M>
void sigmoids(const M* u, M* q, int64_t count) {
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) q[strip + k] = sigmoid_minus_abs(u[strip + k]);
  }
}

// Where `count` results are computed, which may fill up the last strip: the output itself where
// nothing has to be converted or cut off, else `buffer`, which deliver() then brings there.
template <class M, class Out>
M* destination(Out* out, int64_t count, M* buffer) {
  if constexpr (std::is_same_v<Out, M>) {
    if (count % kStrip == 0) return out;
  }
  return buffer;
}
template <class M, class Out>
void deliver(const M* v, Out* out, int64_t count) {
  if (static_cast<const void*>(v) == out) return;
#pragma GCC ivdep
  for (int64_t k = 0; k < count; ++k) out[k] = from_math<Out>(v[k]);
}
template <class M, class Out>
void deliver_minus(const M* v, Out* out, int64_t count) {
#pragma GCC ivdep
  for (int64_t k = 0; k < count; ++k) out[k] = from_math<Out>(-v[k]);
}

template <class M>
void add_to_lanes(Lanes& lanes, const M* v, int64_t count) {
  int64_t strip = 0;
  for (; strip + kStrip <= count; strip += kStrip) {
    for (int k = 0; k < kStrip; ++k) lanes[k] += static_cast<double>(v[strip + k]);
  }
  for (int64_t k = strip; k < count; ++k) lanes[k - strip] += static_cast<double>(v[k]);
}

}  // namespace
}  // namespace pygan::cpu::PYGAN_CPU_ISA
