// The noise kernel with grids of the test's choosing (the launcher's grid follows from the sizes),
// and on more elements than 32 bits can count. Also run on kernels with planted bugs.
#pragma once

#include <memory>
#include <vector>

#include "cuda/noise_kernels.cuh"
#include "harness.h"

namespace noise_grids {

using pygan::NoisePiece;
using pygan::cuda::kNoiseTile;
using pygan::cuda::kThreads;
using pygan::cuda::NoiseLaunch;

inline float normal_at(std::uint64_t element, std::uint64_t step, std::int64_t seed) {
  float z[4];
  pygan::counter_normals(element / 4, step, std::uint64_t(seed), z);
  return z[element % 4];
}

// How far what is read and what is written lie from where whole groups are aligned, in elements.
struct Shift {
  std::size_t x, out;
};

// Tensors of these sizes, with a sigma for every `sample` elements, and a scale if `has_scales`;
// the stream moves on.
template <class In, class Out>
void check_list(const std::vector<int64_t>& sizes, int64_t sample, Shift shift, unsigned grid,
                std::uint64_t seed, bool has_scales = false) {
  using M = pygan::math_t<In, Out>;
  harness::Random random(seed);
  std::vector<std::unique_ptr<harness::Buffer<In>>> x;
  std::vector<std::unique_ptr<harness::Buffer<Out>>> out;
  NoiseLaunch launch{};
  int64_t samples = 0;
  for (int64_t n : sizes) {
    launch.first_block[launch.count] = random.bits() % grid;  // any will do
    NoisePiece& piece = launch.pieces[launch.count++];
    piece.offset = random.bits() % 100;
    const auto skipped = piece.offset % pygan::cuda::kNoiseGroup<Out>;
    x.push_back(std::make_unique<harness::Buffer<In>>(n, skipped + shift.x));
    out.push_back(std::make_unique<harness::Buffer<Out>>(n, skipped + shift.out));
    for (int64_t i = 0; i < n; ++i) (*x.back())[i] = In(random.bits() >> 24);
    piece.x = x.back()->data();
    piece.out = out.back()->data();
    piece.n = n;
    piece.sample_size = pygan::Divisor(sample);
    piece.first_sample = samples;
    piece.step = random.bits();
    piece.scale = random.uniform(0, 0.01);
    piece.bias = random.uniform(-1, 1);
    samples += (n + sample - 1) / sample;
  }
  harness::Buffer<float> sigma(samples);
  harness::Buffer<double> scale(samples);
  for (int64_t k = 0; k < samples; ++k) {
    sigma[k] = float(random.uniform(0, 1));
    scale[k] = random.uniform(0, 0.01);
  }
  harness::Buffer<int64_t> state(2);
  state[0] = random.bits();
  state[1] = random.bits();
  const int64_t before = state[1];
  launch.options.sigma = {sigma.data(), false};
  if (has_scales) launch.options.scale = {scale.data(), true};
  launch.options.state = state.data();
  launch.advance = state.data();
  launch.steps = 3;
  launch.slot = 9;
  pygan::cuda::launch(pygan::cuda::instance_noise_kernel<In, Out>, grid, kThreads, nullptr, launch);
  for (int p = 0; p < launch.count; ++p) {
    const NoisePiece& piece = launch.pieces[p];
    for (int64_t i = 0; i < piece.n; ++i) {
      const float z = normal_at(piece.offset + i, before + piece.step, state[0]);
      const int64_t k = piece.first_sample + i / sample;
      const auto expected = pygan::from_math<Out>(pygan::add_noise<M>(
          M((*x[p])[i]), M(sigma[k]), z, M(has_scales ? scale[k] : piece.scale), M(piece.bias)));
      if (std::memcmp(&(*out[p])[i], &expected, sizeof(Out)) != 0)
        harness::fail("noise: wrong element %lld of %lld in piece %d of %d", (long long)i,
                      (long long)piece.n, p, launch.count);
    }
  }
  if (state[1] != before + 3) harness::fail("noise: the step is wrong");
}

template <class In, class Out>
void check_lists(std::uint64_t seed) {
  constexpr int64_t kTile = kNoiseTile<Out>;
  for (unsigned grid : {1u, 2u, 7u})
    for (Shift shift : {Shift{0, 0}, Shift{1, 0}, Shift{0, 1}}) {
      simt::set_seed(seed++);
      check_list<In, Out>({1}, 7, shift, grid, seed);
      check_list<In, Out>({3 * kTile + 103}, 7, shift, grid, seed);
      check_list<In, Out>({kTile, 5, 2 * kTile + 1, 257}, 64, shift, grid, seed);
      check_list<In, Out>({kTile, 5, 2 * kTile + 1, 257}, 64, shift, grid, seed, true);
      check_list<In, Out>({5, kTile, 2 * kTile + 9}, 3 * kTile, shift, grid, seed);
    }
}

// Images to half precision, and fp32, of which a thread makes two groups at a time.
inline void check_small(std::uint64_t seed) {
  check_lists<std::uint8_t, pygan::half_t>(seed);
  check_lists<float, float>(seed);
}

// Pure noise; block 0 makes the last elements, too.
inline void check_huge() {
  using Out = pygan::half_t;
  constexpr int64_t n = (int64_t{1} << 31) + 5;
  constexpr unsigned grid = 2048;
  static_assert((n - 5) / kNoiseTile<Out> % grid == 0);
  harness::VirtualBuffer<std::uint8_t> x(n);
  harness::VirtualBuffer<Out> out(n);
  const int64_t state[2] = {1, 2};
  NoiseLaunch launch{};
  launch.count = 1;
  launch.options.sigma_value = 1;
  launch.options.state = state;
  NoisePiece& piece = launch.pieces[0];
  piece.x = x.data();
  piece.out = out.data();
  piece.n = n;
  piece.sample_size = pygan::Divisor(n);
  piece.scale = 1;
  simt::run_only_blocks({0});
  pygan::cuda::launch(pygan::cuda::instance_noise_kernel<std::uint8_t, Out>, grid, kThreads,
                      nullptr, launch);
  simt::run_only_blocks({});
  for (int64_t i : {int64_t{0}, kNoiseTile<Out> - 1, n - 5, n - 1})
    if (out.data()[i].bits !=
        pygan::from_math<Out>(normal_at(std::uint64_t(i), state[1], state[0])).bits)
      harness::fail("noise: element %lld of %lld not computed", (long long)i, (long long)n);
}

}  // namespace noise_grids
