// The noise kernel with grids of the test's choosing (the launcher's grid follows from the size),
// and on more elements than 32 bits can count. Also run on kernels with planted bugs.
#pragma once

#include "cuda/instance_noise.cuh"
#include "harness.h"

namespace noise_grids {

using pygan::cuda::kThreads;

inline float normal_at(std::uint64_t element, const std::int64_t* state) {
  float z[4];
  pygan::counter_normals(element / 4, std::uint64_t(state[1]), std::uint64_t(state[0]), z);
  return z[element % 4];
}

// Images in, half precision out, a sigma for every sample of 7 elements; the stream moves on.
inline void check_images(int64_t n, std::size_t in_offset, std::size_t out_offset, unsigned grid,
                         std::uint64_t seed) {
  constexpr int64_t kSample = 7;
  harness::Buffer<std::uint8_t> x(n, in_offset);
  harness::Buffer<pygan::half_t> out(n, out_offset);
  harness::Buffer<float> sigma((n + kSample - 1) / kSample);
  harness::Buffer<int64_t> state(2);
  harness::Random random(seed);
  for (int64_t i = 0; i < n; ++i) x[i] = std::uint8_t(random.bits());
  for (std::size_t i = 0; i < sigma.size(); ++i) sigma[i] = float(random.uniform(0, 1));
  state[0] = random.bits();
  state[1] = random.bits();
  const pygan::NoiseArgs args{x.data(),
                              out.data(),
                              pygan::Dtype::uint8,
                              pygan::Dtype::float16,
                              n,
                              sigma.data(),
                              false,
                              0,
                              kSample,
                              1 / 127.5,
                              -1,
                              state.data(),
                              out_offset};
  const int64_t before[2] = {state[0], state[1]};
  pygan::cuda::launch(pygan::cuda::instance_noise_kernel<std::uint8_t, pygan::half_t>, grid,
                      kThreads, nullptr, args, state.data(), 9u);
  for (int64_t i = 0; i < n; ++i) {
    const float z = normal_at(args.offset + std::uint64_t(i), before);
    const auto expected = pygan::from_math<pygan::half_t>(pygan::add_noise<float>(
        float(x[i]), sigma[i / kSample], z, float(args.scale), float(args.bias)));
    if (out[i].bits != expected.bits)
      harness::fail("noise: wrong element %lld of %lld", (long long)i, (long long)n);
  }
  if (state[1] != before[1] + 1) harness::fail("noise: the step is wrong");
}

inline void check_small(std::uint64_t seed) {
  for (int64_t n : {1, 5, 257, 12'391})
    for (unsigned grid : {1u, 2u, 7u}) {
      simt::set_seed(seed++);
      check_images(n, 0, 0, grid, seed);  // whole vectors
      check_images(n, seed % 3, seed % 5, grid, seed);
    }
}

// Pure noise; block 0 makes the last elements, too.
inline void check_huge() {
  constexpr int64_t n = (int64_t{1} << 31) + 5;
  constexpr unsigned grid = 2048;
  harness::VirtualBuffer<std::uint8_t> x(n);
  harness::VirtualBuffer<pygan::half_t> out(n);
  const int64_t state[2] = {1, 2};
  const pygan::NoiseArgs args{x.data(),
                              out.data(),
                              pygan::Dtype::uint8,
                              pygan::Dtype::float16,
                              n,
                              nullptr,
                              false,
                              1,
                              n,
                              1,
                              0,
                              state,
                              0};
  simt::run_only_blocks({0});
  pygan::cuda::launch(pygan::cuda::instance_noise_kernel<std::uint8_t, pygan::half_t>, grid,
                      kThreads, nullptr, args, nullptr, 9u);
  simt::run_only_blocks({});
  for (int64_t i : {int64_t{0}, int64_t{2047}, n - 5, n - 1})
    if (out.data()[i].bits !=
        pygan::from_math<pygan::half_t>(normal_at(std::uint64_t(i), state)).bits)
      harness::fail("noise: element %lld of %lld not computed", (long long)i, (long long)n);
}

}  // namespace noise_grids
