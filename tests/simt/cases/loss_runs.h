// A call of a loss through the launchers, as the ops do it (ops/loss_kernels.cpp).
#pragma once

#include <array>

#include "cuda/launchers.h"
#include "loss_problem.h"

namespace loss_problem {

using pygan::Dtype;
using pygan::LossOptions;
using pygan::LossPiece;
using pygan::math_t;

template <class T>
constexpr Dtype dtype_of = std::is_same_v<T, float>           ? Dtype::float32
                           : std::is_same_v<T, double>        ? Dtype::float64
                           : std::is_same_v<T, pygan::half_t> ? Dtype::float16
                                                              : Dtype::bfloat16;

template <class M>
struct Outcome {
  M loss;
  std::array<M, pygan::kStatistics> statistics;
  std::vector<M> means;  // [scales][kMeans], where the loss takes a mean
  std::vector<M> parts;  // [pieces], where they were asked for
};

// A launcher launches one kernel.
template <class F>
void one_launch(Random& random, F&& f) {
  simt::set_seed(random.bits());
  const unsigned before = simt::launches();
  f();
  if (simt::launches() != before + 1)
    harness::fail("%u launches instead of one", simt::launches() - before);
}

template <class T>
class Runs {
 public:
  using M = math_t<T>;

  Runs(Problem<T>& problem, Random& random) : problem_(problem), random_(random) {}

  // Pieces that a launch takes: those of one comparison with a mean, or as many as fit.
  std::size_t per_launch = pygan::cuda::kMaxPieces;

  Outcome<M> sums(bool statistics, bool grads, bool parts = false) {
    const auto pieces = make_pieces(grads);
    if (takes_mean()) per_launch = 2;
    Buffer<M> loss(1), numbers(pygan::kStatistics);
    Buffer<M> means(takes_mean() ? problem_.call.sizes.size() * pygan::kMeans : 0);
    Buffer<double> carry(pieces.size() > per_launch ? pygan::kTotals : 0);
    Buffer<M> of_pieces(parts ? pieces.size() : 0);
    spoil(loss), spoil(numbers), spoil(means), spoil(carry), spoil(of_pieces);
    LossOptions options = make_options();
    options.statistics = statistics || takes_mean();
    pygan::LossOutputs out{};
    out.loss = loss.data();
    out.statistics = statistics ? numbers.data() : nullptr;
    out.carry = carry.size() > 0 ? carry.data() : nullptr;
    out.discriminator = problem_.call.discriminator;
    out.detached = problem_.call.detached;
    for (std::size_t first = 0; first < pieces.size(); first += per_launch) {
      const auto some = pieces_from(pieces, first);
      if (takes_mean()) {
        out.means = means.data() + first / 2 * pygan::kMeans;
        out.parts = nullptr;
        count(some, out);
        options.sums = pygan::Sums::means;
        options.means = nullptr;
        launch_sums(some, options, out);
        options.sums = pygan::Sums::loss;
        options.means = out.means;
      }
      count(pieces, out);
      out.parts = parts ? of_pieces.data() + first : nullptr;
      out.first = first == 0;
      out.last = first + some.size() == pieces.size();
      launch_sums(some, options, out);
    }
    Outcome<M> outcome;
    outcome.loss = loss[0];
    std::memcpy(outcome.statistics.data(), numbers.data(), sizeof outcome.statistics);
    outcome.means.assign(means.data(), means.data() + means.size());
    outcome.parts.assign(of_pieces.data(), of_pieces.data() + of_pieces.size());
    return outcome;
  }

  // The gradient of the loss, or, given a number, of that multiple of it.
  void pointwise(const M* grad, const Outcome<M>& outcome) {
    const auto pieces = make_pieces(true);
    if (takes_mean()) per_launch = 2;
    Buffer<M> scale(1), means(outcome.means.size());
    if (grad != nullptr) scale[0] = *grad;
    std::copy(outcome.means.begin(), outcome.means.end(), means.data());
    LossOptions options = make_options();
    options.order = 1;
    options.grad = grad != nullptr ? scale.data() : nullptr;
    for (std::size_t first = 0; first < pieces.size(); first += per_launch) {
      const auto some = pieces_from(pieces, first);
      if (takes_mean()) options.means = means.data() + first / 2 * pygan::kMeans;
      const auto run = [&] {
        pygan::cuda::loss_pointwise(some.data(), int(some.size()), options, nullptr);
      };
      const bool empty = std::all_of(some.begin(), some.end(), [](auto& p) { return p.n == 0; });
      empty ? run() : one_launch(random_, run);
    }
  }

 private:
  bool takes_mean() const { return problem_.call.against() == Against::mean; }

  LossOptions make_options() const {
    LossOptions options{};
    options.dtype = dtype_of<T>;
    options.bounds_jsd = problem_.call.loss.bounds_jsd();
    options.undecided = problem_.call.loss.undecided(problem_.call.targets);
    for (const auto& x : problem_.tensors) {
      if (x.size() == 0) continue;
      const void*& pivot = x.is_real() ? options.real_pivot : options.fake_pivot;
      if (pivot == nullptr) pivot = x.logits->data();
    }
    return options;
  }

  // Torch's empty tensors have no address.
  std::vector<LossPiece> make_pieces(bool grads) {
    const bool paired = problem_.call.against() == Against::paired;
    auto& tensors = problem_.tensors;
    std::vector<LossPiece> pieces;
    for (std::size_t t = 0; t < tensors.size(); t += paired ? 2 : 1) {
      auto& x = tensors[t];
      const pygan::Term term = pygan::term_of(problem_.call.loss, x.role, problem_.call.targets);
      LossPiece piece{};
      piece.n = x.size();
      piece.coefficient = term.sign * x.weight * x.share;
      piece.share = term.sign * x.share;
      piece.aim = term.aim;
      piece.form = term.form;
      piece.mirror = term.mirror;
      piece.role = x.role;
      if (piece.n > 0) {
        piece.logits = x.logits->data();
        if (grads) piece.out = x.grad->data();
        if (paired) piece.other = tensors[t + 1].logits->data();
        if (paired && grads) piece.other_out = tensors[t + 1].grad->data();
      }
      pieces.push_back(piece);
    }
    return pieces;
  }

  std::vector<LossPiece> pieces_from(const std::vector<LossPiece>& all, std::size_t first) const {
    return {all.begin() + first, all.begin() + std::min(first + per_launch, all.size())};
  }

  static void count(const std::vector<LossPiece>& pieces, pygan::LossOutputs& out) {
    out.real = out.fake = 0;
    for (const LossPiece& piece : pieces) {
      const bool real = piece.role == Role::real || piece.role == Role::generator_real;
      if (real || piece.other != nullptr) out.real += double(piece.n);
      if (!real || piece.other != nullptr) out.fake += double(piece.n);
    }
  }

  // Scratch memory of exactly the size that there will be.
  void launch_sums(const std::vector<LossPiece>& pieces, const LossOptions& options,
                   const pygan::LossOutputs& out) {
    const int size = int(pieces.size());
    const std::size_t blocks = pygan::cuda::loss_blocks(pieces.data(), size);
    Buffer<double> partials(blocks > 1 ? blocks * (options.statistics ? pygan::kTotals : 1) : 0);
    Buffer<double> of_pieces(out.parts != nullptr ? blocks * pieces.size() : 0);
    one_launch(random_, [&] {
      pygan::cuda::loss_sums(pieces.data(), size, options,
                             {partials.data(), of_pieces.data(), 5, out}, nullptr);
    });
  }

  Problem<T>& problem_;
  Random& random_;
};

}  // namespace loss_problem
