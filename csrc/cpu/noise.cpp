// Instance noise on the CPU. Compiled once per instruction set; the compiler vectorises the loops.
//
// Work goes in blocks of 32 counters = 128 elements: the words, then the logarithms, the normals
// and the elements, each a branch-free loop over arrays that stay in the first-level cache; short
// ones, because a core looks only so far ahead for instructions that do not wait for each other.
// And three blocks are under way, each at another stage, so that what comes next never waits for
// what came before.
#include <algorithm>

#include "cpu/isa.h"
#include "cpu/noise_words.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

constexpr int kCounters = 32;
constexpr int kBlock = 4 * kCounters;
constexpr int kLag = 2;  // blocks from the words to the normals

// The blocks under way, each in its place of a ring.
struct Stages {
  alignas(64) uint32_t w[4][4][kCounters] = {};
  alignas(64) float squared[4][2][kCounters] = {};
};

// Begins block `index` of some, whose first counter is given, and ends the one kLag before it:
// z[i] for its kBlock elements. The words come last: the order in which the compiler finds the
// stages decides how it mixes their instructions (words first: 120 cycles for 64 normals, last:
// 115).
PYGAN_HD void next_block(Stages& stages, uint64_t index, uint64_t counter, uint64_t step,
                         const WordKeys& keys, float* z) {
  const auto& older = stages.w[(index + 2) % 4];
  const auto& old = stages.w[(index + 3) % 4];
  auto& squared = stages.squared[(index + 3) % 4];
  for (int i = 0; i < kCounters; ++i) {
    squared[0][i] = minus_two_log_uniform(old[0][i]);
    squared[1][i] = minus_two_log_uniform(old[2][i]);
  }
  const auto& radii = stages.squared[(index + 2) % 4];
  for (int i = 0; i < kCounters; ++i) {
    const NormalPair a = normal_pair_of_radius(radii[0][i], older[1][i]);
    const NormalPair b = normal_pair_of_radius(radii[1][i], older[3][i]);
    z[4 * i] = a.z0;
    z[4 * i + 1] = a.z1;
    z[4 * i + 2] = b.z0;
    z[4 * i + 3] = b.z1;
  }
  philox_words(counter, step, keys, stages.w[index % 4]);
}

// Where it is not the one loop that has to be fast: there is one of each such loop for each pair of
// types.
__attribute__((noinline)) void next_block_apart(Stages& stages, uint64_t index, uint64_t counter,
                                                uint64_t step, const WordKeys& keys, float* z) {
  next_block(stages, index, counter, step, keys, z);
}

// Calls part(i, count, z) or whole(i, z) for runs of at most (exactly) kBlock elements that cover
// [begin, end); z[k] belongs to element i + k. part() returns the element up to which whole() will
// do, which has no branch: with it the loop is one run of instructions to the compiler, which mixes
// them. Blocks lie on multiples of kBlock in the stream, not in the tensor.
template <class Whole, class Part>
void for_each_block(int64_t begin, int64_t end, uint64_t offset, uint64_t seed, uint64_t step,
                    Whole&& whole, Part&& part) {
  const WordKeys keys(PhiloxKey{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  Stages stages;
  alignas(64) float z[kBlock];
  const uint64_t element = offset + static_cast<uint64_t>(begin);
  const auto skipped = static_cast<int64_t>(element % kBlock);
  const uint64_t first = (element - static_cast<uint64_t>(skipped)) / 4;
  uint64_t index = 0;
  for (; index < kLag; ++index) {
    next_block_apart(stages, index, first + index * kCounters, step, keys, z);
  }
  int64_t calm = begin;
  for (int64_t i = begin - skipped; i < end; i += kBlock, ++index) {
    for (; i + kBlock <= calm; i += kBlock, ++index) {
      next_block(stages, index, first + index * kCounters, step, keys, z);
      whole(i, z);
    }
    if (i >= end) return;
    next_block_apart(stages, index, first + index * kCounters, step, keys, z);
    const int64_t from = std::max(i, begin), to = std::min(i + kBlock, end);
    calm = std::min(part(from, to - from, z + (from - i)), end);
  }
}

template <class In, class Out>
PYGAN_HD void noise_run(const In* x, Out* out, int64_t n, const float* z, math_t<In, Out> sigma,
                        math_t<In, Out> scale, math_t<In, Out> bias) {
  using M = math_t<In, Out>;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const M element = static_cast<M>(to_float(x[i]));
    out[i] = from_math<Out>(add_noise<M>(element, sigma, z[i], scale, bias));
  }
}

template <class In, class Out>
void noise_range(const NoisePiece& piece, const NoiseOptions& o, int64_t begin, int64_t end) {
  using M = math_t<In, Out>;
  const auto* x = static_cast<const In*>(piece.x);
  auto* out = static_cast<Out*>(piece.out);
  const M bias = static_cast<M>(piece.bias);
  const auto seed = static_cast<uint64_t>(o.state[0]);
  const uint64_t step = static_cast<uint64_t>(o.state[1]) + piece.step;
  int64_t sample_end = begin;  // up to where sigma and scale are those of the elements
  M sigma{}, scale{};
  for_each_block(
      begin, end, piece.offset, seed, step,
      [&](int64_t i, const float* z) { noise_run(x + i, out + i, kBlock, z, sigma, scale, bias); },
      [&](int64_t i, int64_t count, const float* z) {
        for (int64_t k = 0; k < count;) {
          if (i + k >= sample_end) {
            const int64_t sample = piece.sample_size.quotient(i + k);
            sample_end = (sample + 1) * piece.sample_size.value;
            sigma = sigma_of<M>(piece, o, sample);
            scale = scale_of<M>(piece, o, sample);
          }
          const int64_t run = std::min(count - k, sample_end - (i + k));
          noise_run(x + i + k, out + i + k, run, z + k, sigma, scale, bias);
          k += run;
        }
        return sample_end;
      });
}

void instance_noise(const NoisePiece& piece, const NoiseOptions& o, int64_t begin, int64_t end) {
  with_any_type(o.x_dtype, [&](auto in) {
    with_floating_type(o.out_dtype, [&](auto out) {
      noise_range<decltype(in), decltype(out)>(piece, o, begin, end);
    });
  });
}

double noise_dot(const NoiseDotArgs& a, int64_t begin, int64_t end) {
  alignas(64) double lanes[kLanesOfSums] = {};
  with_floating_type(a.dtype, [&](auto type) {
    using T = decltype(type);
    const auto* grad = static_cast<const T*>(a.grad);
    const auto seed = static_cast<uint64_t>(a.state[0]), step = static_cast<uint64_t>(a.state[1]);
    const auto add = [&](int64_t i, const float* z, int count) {
#pragma GCC ivdep
      for (int lane = 0; lane < count; ++lane) {
        lanes[lane] += static_cast<double>(to_float(grad[i + lane])) * z[lane];
      }
    };
    for_each_block(
        begin, end, a.offset, seed, step,
        [&](int64_t i, const float* z) {
          for (int k = 0; k < kBlock; k += kLanesOfSums) add(i + k, z + k, kLanesOfSums);
        },
        [&](int64_t i, int64_t count, const float* z) {
          int64_t k = 0;
          for (; k + kLanesOfSums <= count; k += kLanesOfSums) add(i + k, z + k, kLanesOfSums);
          add(i + k, z + k, static_cast<int>(count - k));
          return end;
        });
  });
  return sum_of_lanes(lanes);
}

}  // namespace

void add_noise_kernels(Kernels& kernels) {
  kernels.instance_noise = instance_noise;
  kernels.noise_dot = noise_dot;
}

}  // namespace pygan::cpu::PYGAN_CPU_ISA
