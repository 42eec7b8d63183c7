// The loss kernels with grids of the test's choosing (the launcher's grid follows from the size),
// and on more elements than 32 bits can count. Also run on kernels with planted bugs.
#pragma once

#include "cuda/gan_loss.cuh"
#include "reference.h"

namespace loss_grids {

using pygan::Dtype;
using pygan::Loss;
using pygan::LossOptions;
using pygan::Role;
using pygan::cuda::kThreads;
using pygan::cuda::kTile;
using pygan::cuda::LossLaunch;

constexpr Loss kLoss = Loss::non_saturating;

inline pygan::LossPiece piece(const void* logits, int64_t n, Role role) {
  pygan::LossPiece piece{};
  piece.logits = logits;
  piece.n = n;
  piece.coefficient = n == 0 ? 0 : 1.0 / double(n);
  piece.role = role;
  return piece;
}

inline LossLaunch launch_of(std::initializer_list<pygan::LossPiece> pieces) {
  LossLaunch launch{};
  int64_t tiles = 0;
  for (const pygan::LossPiece& one : pieces) {
    launch.pieces[launch.count] = one;
    launch.tile_end[launch.count++] = tiles += (one.n + kTile - 1) / kTile;
  }
  launch.options.loss = kLoss;
  launch.options.dtype = Dtype::float32;
  return launch;
}

inline LossLaunch derivatives(const float* logits, float* out, int64_t n) {
  LossLaunch launch = launch_of({piece(logits, n, Role::real)});
  launch.pieces[0].out = out;
  launch.pieces[0].coefficient = 1;
  launch.options.order = 1;
  return launch;
}

inline void add_terms(reference::Sum& sum, harness::Buffer<float>& logits, Role role) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const reference::Sum term = reference::term(kLoss, role, 0, logits[i], 0);
    sum.add(term.value / logits.size(), term.magnitude / logits.size());
  }
}

// Twice with the same slot: the kernel must leave its counter ready for the next launch.
inline void check_sums(int64_t n, std::size_t offset, unsigned grid, std::uint64_t seed) {
  harness::Buffer<float> real(n, offset), fake(n + 3, offset + 1), loss(1);
  harness::Buffer<float> statistics(pygan::kStatistics);
  harness::Buffer<double> partials(grid * pygan::kTotals);
  harness::Random random(seed);
  for (int64_t i = 0; i < n; ++i) real[i] = reference::random_logit<float>(random);
  for (int64_t i = 0; i < n + 3; ++i) fake[i] = reference::random_logit<float>(random);
  reference::Sum expected;
  add_terms(expected, real, Role::real);
  add_terms(expected, fake, Role::fake);
  LossLaunch arguments =
      launch_of({piece(real.data(), n, Role::real), piece(fake.data(), n + 3, Role::fake)});
  arguments.options.statistics = true;
  for (int round = 0; round < 2; ++round) {
    loss[0] = -1;
    pygan::cuda::launch(
        pygan::cuda::gan_loss_sums_kernel<kLoss, float, true>, grid, kThreads, nullptr, arguments,
        pygan::cuda::LossOutputs{partials.data(), loss.data(), statistics.data(), true}, 3u);
    reference::check_sum("loss", loss[0], expected);
  }
}

inline void check_pointwise(int64_t n, std::size_t offset, unsigned grid, std::uint64_t seed) {
  harness::Buffer<float> logits(n, offset), out(n, offset);
  harness::Random random(seed);
  for (int64_t i = 0; i < n; ++i) logits[i] = reference::random_logit<float>(random);
  pygan::cuda::launch(pygan::cuda::gan_loss_pointwise_kernel<kLoss, float>, grid, kThreads, nullptr,
                      derivatives(logits.data(), out.data(), n));
  for (int64_t i = 0; i < n; ++i)
    reference::check_element<float, float>("derivative", i, out[i],
                                           reference::term(kLoss, Role::real, 1, logits[i], 0));
}

inline void check_small(std::uint64_t seed) {
  for (int64_t n : {1, 257, 12'391})
    for (unsigned grid : {1u, 2u, 7u}) {
      simt::set_seed(seed++);
      check_sums(n, seed % 4, grid, seed);
      check_pointwise(n, seed % 4, grid, seed);
    }
}

// Zeros, of which the blocks of the first and of the last tile make derivatives: -1/2.
inline void check_huge() {
  constexpr int64_t n = (int64_t{1} << 31) + 5;
  harness::VirtualBuffer<float> logits(n), out(n);
  const LossLaunch arguments = derivatives(logits.data(), out.data(), n);
  const auto grid = static_cast<unsigned>(arguments.tiles());
  simt::run_only_blocks({0, grid - 1});
  pygan::cuda::launch(pygan::cuda::gan_loss_pointwise_kernel<kLoss, float>, grid, kThreads, nullptr,
                      arguments);
  simt::run_only_blocks({});
  for (int64_t i : {int64_t{0}, int64_t{kTile - 1}, n - 5, n - 1})
    if (out.data()[i] != -0.5f)
      harness::fail("derivative: element %lld of %lld not computed", (long long)i, (long long)n);
}

}  // namespace loss_grids
