// The loss kernels with grids of the test's choosing (the launcher's grid follows from the size),
// and on more elements than 32 bits can count. Also run on kernels with planted bugs.
#pragma once

#include "cuda/loss_pointwise_kernels.cuh"
#include "cuda/loss_sums_kernels.cuh"
#include "reference.h"

namespace loss_grids {

using pygan::Form;
using pygan::LossPiece;
using pygan::Role;
using pygan::cuda::kThreads;
using pygan::cuda::kTile;
using pygan::cuda::LossLaunch;
using pygan::cuda::With;
using reference::Sum;

// The logistic form with mirror 1, as non_saturating sees real logits and relativistic the pairs.
inline LossPiece piece(const float* logits, float* out, int64_t n) {
  LossPiece piece{};
  piece.logits = logits;
  piece.out = out;
  piece.n = n;
  piece.coefficient = 1.0 / double(n);
  piece.form = Form::Logistic;
  piece.mirror = 1;
  piece.role = Role::real;
  return piece;
}

inline LossLaunch launch_of(std::initializer_list<LossPiece> pieces) {
  LossLaunch launch{};
  for (const LossPiece& one : pieces) launch.pieces[launch.count++] = one;
  launch.options.dtype = pygan::Dtype::float32;
  launch.options.order = 1;
  return launch;
}

// Real and fake logits for one loss that compares them and one that does not, and their gradients.
struct Logits {
  harness::Buffer<float> real, fake, real_grad, fake_grad;

  // One of them, counted from 1, is misaligned; 0: none.
  Logits(int64_t n, unsigned misaligned, std::uint64_t seed)
      : real(n, misaligned == 1),
        fake(n, misaligned == 2),
        real_grad(n, misaligned == 3),
        fake_grad(n, misaligned == 4) {
    harness::Random random(seed);
    for (int64_t i = 0; i < n; ++i) real[i] = reference::random_logit<float>(random);
    for (int64_t i = 0; i < n; ++i) fake[i] = reference::random_logit<float>(random);
    spoil();
  }

  int64_t size() const { return static_cast<int64_t>(real.size()); }
  void spoil() {
    std::memset(real_grad.data(), 0xff, real.size() * sizeof(float));
    std::memset(fake_grad.data(), 0xff, fake.size() * sizeof(float));
  }

  // The second begins with the last block.
  LossLaunch apart(unsigned grid) {
    LossLaunch launch = launch_of({piece(real.data(), real_grad.data(), size()),
                                   piece(fake.data(), fake_grad.data(), size())});
    launch.pieces[1].mirror = -1;
    launch.pieces[1].role = Role::fake;
    launch.first_block[1] = grid - 1;
    return launch;
  }
  LossLaunch paired() {
    LossLaunch launch = launch_of({piece(real.data(), real_grad.data(), size())});
    launch.pieces[0].other = fake.data();
    launch.pieces[0].other_out = fake_grad.data();
    return launch;
  }

  // The loss; its gradient must be right.
  Sum check(bool pairs) {
    const auto& loss = reference::definition_of(pairs ? "relativistic" : "non_saturating");
    const reference::Real n = size();
    Sum sum;
    for (int64_t i = 0; i < size(); ++i) {
      const auto x = reference::exactly(real[i]), y = reference::exactly(fake[i]);
      const auto by_x = reference::variable(real[i]), by_y = reference::variable(fake[i]);
      Sum x_grad, y_grad;
      sum.add(loss.real(by_x, y, 0), 0, 1 / n);
      x_grad.add(loss.real(by_x, y, 0), 1, 1 / n);
      if (!pairs) sum.add(loss.fake(by_y, x, 0), 0, 1 / n);
      y_grad.add(pairs ? loss.real(x, by_y, 0) : loss.fake(by_y, x, 0), 1, 1 / n);
      reference::check_element<float, float>("derivative", i, real_grad[i], x_grad);
      reference::check_element<float, float>("derivative of the other", i, fake_grad[i], y_grad);
    }
    return sum;
  }
};

inline Sum mean_of(harness::Buffer<float>& logits) {
  Sum mean;
  for (std::size_t i = 0; i < logits.size(); ++i)
    mean.add(reference::Real(logits[i]) / logits.size());
  return mean;
}

// Twice with the same slot: the kernel must leave its counter ready for the next launch. The second
// time, the loss goes on from what the first handed over: it is twice the loss.
template <With with>
void check_sums(Logits& logits, bool pairs, unsigned grid) {
  harness::Buffer<float> loss(1), statistics(pygan::kStatistics);
  harness::Buffer<double> partials(grid * pygan::kTotals), carry(pygan::kTotals);
  const LossLaunch arguments = pairs ? logits.paired() : logits.apart(grid);
  constexpr bool with_statistics = with == With::statistics;
  for (int round = 0; round < 2; ++round) {
    loss[0] = -1;
    logits.spoil();
    pygan::cuda::LossScratch scratch{partials.data(), nullptr, 3, {}};
    scratch.out.loss = loss.data();
    scratch.out.statistics = with_statistics ? statistics.data() : nullptr;
    scratch.out.carry = carry.data();
    scratch.out.first = round == 0;
    scratch.out.last = true;
    scratch.out.real = scratch.out.fake = double((1 + round) * logits.size());
    pygan::cuda::launch(pygan::cuda::gan_loss_sums_kernel<float, with>, grid, kThreads, nullptr,
                        arguments, scratch);
    const Sum once = logits.check(pairs);
    Sum expected;
    expected.add(once, 1 + round);
    reference::check_sum("loss", loss[0], expected);
    if (!with_statistics) continue;
    reference::check_sum("real_logit", statistics[pygan::kRealLogit], mean_of(logits.real));
    reference::check_sum("fake_logit", statistics[pygan::kFakeLogit], mean_of(logits.fake));
  }
}

inline void check_pointwise(Logits& logits, bool pairs, unsigned grid) {
  logits.spoil();
  pygan::cuda::launch(pygan::cuda::gan_loss_grad_kernel<float>, grid, kThreads, nullptr,
                      pairs ? logits.paired() : logits.apart(grid));
  logits.check(pairs);
}

inline void check_small(std::uint64_t seed) {
  for (int64_t n : {1, 257, 12'391})
    for (unsigned grid : {1u, 2u, 7u})
      // Only a whole tile cares whether all is aligned.
      for (unsigned misaligned = 0; misaligned < (n > kTile && grid == 7 ? 5 : 1); ++misaligned) {
        simt::set_seed(seed++);
        Logits logits(n, misaligned, seed);
        check_sums<With::statistics>(logits, seed % 2 == 0, grid);
        check_sums<With::grads>(logits, seed % 2 == 1, grid);
        check_pointwise(logits, seed % 2 == 0, grid);
      }
}

// Zeros, of which the blocks of the first and of the last tile make derivatives: -1/2.
inline void check_huge() {
  constexpr int64_t n = (int64_t{1} << 31) + 5;
  harness::VirtualBuffer<float> logits(n), out(n);
  LossLaunch arguments = launch_of({piece(logits.data(), out.data(), n)});
  arguments.pieces[0].coefficient = 1;
  const auto grid = static_cast<unsigned>(pygan::cuda::tiles_of(arguments.pieces[0]));
  simt::run_only_blocks({0, grid - 1});
  pygan::cuda::launch(pygan::cuda::gan_loss_grad_kernel<float>, grid, kThreads, nullptr, arguments);
  simt::run_only_blocks({});
  for (int64_t i : {int64_t{0}, int64_t{kTile - 1}, n - 5, n - 1})
    if (out.data()[i] != -0.5f)
      harness::fail("derivative: element %lld of %lld not computed", (long long)i, (long long)n);
}

}  // namespace loss_grids
