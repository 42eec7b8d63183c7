// The interface of the CPU kernels. They are loops over raw pointers, compiled once per instruction
// set (baseline, AVX2, AVX-512) into a table of functions; one table is chosen at run time.
//
//   const pygan::cpu::Kernels& k = pygan::cpu::kernels();
//   k.instance_noise(piece, options, begin, end);      // any thread may do any part of the work
//
// The bits of the results do not depend on the table chosen, on the number of threads, or on how
// the work is divided: noise is a function of the element's index, and sums are taken over chunks
// of a fixed size (ops/chunks.h).
#pragma once

#include <string>

#include "launch/features.h"
#include "launch/loss.h"
#include "launch/noise.h"

namespace pygan::cpu {

struct Kernels {
  // out[i] for begin <= i < end.
  void (*instance_noise)(const NoisePiece&, const NoiseOptions&, int64_t begin, int64_t end);
  // Sum of grad[i] z[i] over begin <= i < end, at most kNoiseChunk elements.
  double (*noise_dot)(const NoiseDotArgs&, int64_t begin, int64_t end);
  // sums[2 kSums] over the logits begin <= i < end, at most kLossChunk of them, and over what they
  // are paired with; where the piece has an out, also out[i] = coefficient * first derivative.
  void (*loss_sums)(const LossPiece&, const LossOptions&, int64_t begin, int64_t end, double* sums);
  // out[i] = grad * coefficient * derivative(logits[i]) for begin <= i < end.
  void (*loss_pointwise)(const LossPiece&, const LossOptions&, int64_t begin, int64_t end);
  // out[i] -= what the gradient loses through the mean (shift_of), for begin <= i < end; not for
  // 16-bit types.
  void (*loss_shift)(const LossPiece&, const LossOptions&, int64_t begin, int64_t end);
  // sums[kFeatureSums] over the elements begin <= i < end of a map, at most kFeatureChunk of them,
  // and their signs, where the map has a place for these.
  void (*feature_sums)(const FeatureMap&, const FeatureOptions&, int64_t begin, int64_t end,
                       double* sums);
  // out[i] = factor * sign or factor * (fake - real), without signs, for begin <= i < end.
  void (*feature_gradient)(const FeatureMap&, const FeatureOptions&, double factor, int64_t begin,
                           int64_t end);
};

// The table of an instruction set by name (baseline, avx2, avx512); nullptr where the build lacks
// it or the machine cannot run it.
const Kernels* kernels_of(const std::string& capability);

// What runs: the fastest that the machine supports, or what PYGAN_CPU_CAPABILITY asks for (decided
// at the first use), or what use() was last given. Both throw std::runtime_error if that
// instruction set is unavailable.
std::string capability();
const Kernels& kernels();
void use(const std::string& capability);

}  // namespace pygan::cpu
