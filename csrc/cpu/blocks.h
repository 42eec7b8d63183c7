// Short loops over a block of logits, which all forms of loss share: conversion in and out,
// exponentials, sums. Internal to the files that are compiled once per instruction set.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cpu/isa.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

constexpr int kStrip = kLanesOfSums;
using Lanes = double[kStrip];
// How many logits share a logarithm (add_log1p_of_product), per lane: 16. Measured for the sum and
// the gradient with 4, 8, 16 and 32 of them: 0.74, 0.66, 0.61 and 0.65 ns a logit (AVX-512), and
// 0.76 with a logarithm each.
constexpr int kBlock = 16 * kStrip;

// The math-typed logits [0, count), then zeros to the end of the strip: the logits themselves where
// nothing has to be converted or filled up, else in `buffer`.
template <class T, class M>
const M* converted(const T* logits, int64_t count, M* buffer) {
  if constexpr (std::is_same_v<T, M>) {
    if (count % kStrip == 0) return logits;
  }
  for (int64_t k = 0; k < count; ++k) buffer[k] = to_float(logits[k]);
  std::fill(buffer + count, buffer + (count + kStrip - 1) / kStrip * kStrip, M(0));
  return buffer;
}

}  // namespace
}  // namespace pygan::cpu::PYGAN_CPU_ISA
