// What the files that are compiled once per instruction set share. PYGAN_CPU_ISA is the name of the
// set, a namespace of its own: two versions of a function must never be merged by the linker.
#pragma once

#include "cpu/kernels.h"

namespace pygan::cpu::PYGAN_CPU_ISA {

void add_noise_kernels(Kernels&);
void add_loss_kernels(Kernels&);
void add_feature_kernels(Kernels&);

// Element i of a chunk is added to lane i % 64, in fp64, and the lanes in a fixed tree: the result
// does not depend on how wide the machine's vectors are.
inline constexpr int kLanesOfSums = 64;

PYGAN_HD double sum_of_lanes(double (&lanes)[kLanesOfSums]) {
  for (int half = kLanesOfSums / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

}  // namespace pygan::cpu::PYGAN_CPU_ISA
