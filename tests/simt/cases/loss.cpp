// The GAN losses through their launchers, against their definitions: `loss <seed> [brief]`.
//
// Every loss, for discriminator and generator, element type and size; lists of tensors; aligned and
// misaligned logits. Loss, statistics and gradient are asked for in every combination, each time at
// other addresses and in another interleaving: the bits must be the same. `brief` is for the slow
// TSan: fewer combinations.
#include "loss_expected.h"
#include "loss_grids.h"
#include "loss_runs.h"

namespace {

using harness::Buffer;
using harness::Random;
using loss_problem::Call;
using loss_problem::Expected;
using loss_problem::Kind;
using loss_problem::Outcome;
using loss_problem::Problem;
using loss_problem::Runs;
using pygan::Loss;
using pygan::math_t;
using pygan::Role;
using reference::Against;
using reference::check_sum;
using reference::Real;
using reference::Sum;

// 3 tiles and a bit: several blocks, so that the last one adds up.
constexpr int64_t kLarge = 12'385;
constexpr int64_t kSizes[] = {0, 1, 3, 4, 5, 31, 32, 33, 255, 256, 257, kLarge};

Sum mean_of(const Sum& sum, Real count) {
  Sum mean;
  mean.add(sum, 1 / count);
  return mean;
}

// The root of a mean of squares of distances to the first, less the square of the mean's distance.
Sum deviation_of(const Kind& kind) {
  const Real mean = kind.logit.value / kind.count, away = mean - kind.values[0];
  Real squares = 0;
  for (const Real x : kind.values) squares += (x - mean) * (x - mean);
  const Real deviation = std::sqrt(squares / kind.count);
  Sum one;
  one.value = deviation;
  if (deviation > 0) {
    const Real error_of_mean = kind.logit.magnitude / kind.count * std::fabs(away);
    one.magnitude = deviation + (away * away + error_of_mean) / deviation;
  }
  return one;
}

template <class M>
void check_nan(const char* what, M got) {
  reference::check_class(what, got, NAN);
}

template <class M>
void check_kind(const Kind& kind, bool real, const std::array<M, pygan::kStatistics>& got) {
  const M logit = got[real ? pygan::kRealLogit : pygan::kFakeLogit];
  const M probability = got[real ? pygan::kRealProbability : pygan::kFakeProbability];
  const M accuracy = got[real ? pygan::kRealAccuracy : pygan::kFakeAccuracy];
  if (kind.count == 0) {
    check_nan("logit", logit), check_nan("probability", probability);
    check_nan("accuracy", accuracy);
    check_nan("sign", got[real ? pygan::kRealSign : pygan::kFakeSign]);
    check_nan("deviation", got[real ? pygan::kRealDeviation : pygan::kFakeDeviation]);
    return;
  }
  check_sum("logit", logit, mean_of(kind.logit, kind.count));
  check_sum("probability", probability, mean_of(kind.probability, kind.count));
  check_sum("accuracy", accuracy, mean_of(real ? kind.positive : kind.negative, kind.count));
  Sum sign = mean_of(kind.positive, kind.count);
  sign.add(kind.negative, -1 / kind.count);
  check_sum("sign", got[real ? pygan::kRealSign : pygan::kFakeSign], sign);
  check_sum("deviation", got[real ? pygan::kRealDeviation : pygan::kFakeDeviation],
            deviation_of(kind));
}

template <class M>
void check_statistics(const Call& call, const Expected& expected,
                      const std::array<M, pygan::kStatistics>& got) {
  check_kind(expected.real, true, got);
  check_kind(expected.fake, false, got);
  if (!call.discriminator || !call.definition().is_minus_value || expected.real.count == 0) {
    check_nan("jsd_bound", got[pygan::kJsdBound]);
  } else {
    Sum bound;
    bound.add(std::log(2.0L));
    bound.add(expected.real.plain, -0.5L / expected.real.count);
    bound.add(expected.fake.plain, -0.5L / expected.fake.count);
    check_sum("jsd_bound", got[pygan::kJsdBound], bound);
  }
  if (got[pygan::kNonfinite] != 0) harness::fail("nonfinite: found some in finite logits");
}

template <class T>
void check_grads(Problem<T>& problem, const Expected& expected, Real factor) {
  for (std::size_t t = 0; t < problem.tensors.size(); ++t) {
    for (int64_t i = 0; i < problem.tensors[t].size(); ++i) {
      Sum one;
      one.add(expected.grads[t][i], factor);
      reference::check_element<T, math_t<T>>("gradient", i, (*problem.tensors[t].grad)[i], one);
    }
  }
}

template <class M>
void check_means(const Expected& expected, const Outcome<M>& got) {
  constexpr const char* kNames[] = {"real mean", "fake mean", "real slope", "fake slope"};
  for (std::size_t scale = 0; scale < expected.of_mean.size(); ++scale) {
    for (int k = 0; k < pygan::kMeans; ++k) {
      // The slopes are taken at a mean that has an error of its own: 16 more additions.
      Sum one = expected.of_mean[scale][k];
      one.magnitude *= 2;
      check_sum(kNames[k], got.means[scale * pygan::kMeans + k], one);
    }
  }
}

template <class V>
void same_bits(const char* what, const V& a, const V& b) {
  if (a.size() != b.size() ||
      (a.size() > 0 && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) != 0))
    harness::fail("%s: other bits, where only what else was asked for differs", what);
}

template <class T>
void same_grads(const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  for (std::size_t t = 0; t < a.size(); ++t) same_bits("gradient", a[t], b[t]);
}

template <class M>
void same_outcome(const Outcome<M>& a, const Outcome<M>& b) {
  same_bits("loss", std::array{a.loss}, std::array{b.loss});
  same_bits("means", a.means, b.means);
}

// The loss and the gradient in one launch, or the gradient alone after it; then, in other launches,
// both with and without the statistics.
template <class T>
void check_call(const Call& call, bool thorough, Random& random,
                std::size_t per_launch = pygan::cuda::kMaxPieces) {
  using M = math_t<T>;
  Problem<T> problem(call, random);
  Runs<T> runs(problem, random);
  runs.per_launch = per_launch;
  const bool takes_mean = call.against() == Against::mean;
  const Expected expected = expect(problem);

  const auto all = runs.sums(thorough, !takes_mean);
  check_sum("loss", all.loss, expected.loss);
  check_means(expected, all);
  if (takes_mean) runs.pointwise(nullptr, all);  // the slopes are known only now
  check_grads(problem, expected, 1);
  const auto grads = problem.grads();

  problem.place(random);
  const auto in_parts = runs.sums(random.bits() % 2 == 0, !takes_mean, true);
  check_sum("loss in parts", in_parts.loss, expected.loss);
  if (in_parts.parts.size() != expected.parts.size()) harness::fail("number of parts");
  for (std::size_t p = 0; p < expected.parts.size(); ++p) {
    check_sum("part", in_parts.parts[p], expected.parts[p]);
  }
  same_bits("means", all.means, in_parts.means);
  if (!takes_mean) same_grads(grads, problem.grads());

  problem.place(random);
  const M factor = random.bits() % 2 == 0 ? M(1) : M(0.75);
  runs.pointwise(&factor, all);
  if (factor == 1) same_grads(grads, problem.grads());
  if (factor != 1) check_grads(problem, expected, factor);
  problem.place(random);
  if (thorough || !takes_mean) same_outcome(all, runs.sums(false, false));
  if (!thorough) return;
  check_statistics(call, expected, all.statistics);
  if (takes_mean) return;
  problem.place(random);
  const auto statistics = runs.sums(true, false);
  same_outcome(all, statistics);
  same_bits("statistics", all.statistics, statistics.statistics);
  problem.place(random);
  same_outcome(all, runs.sums(false, true));
  same_grads(grads, problem.grads());
  problem.place(random);
  runs.pointwise(nullptr, all);
  same_grads(grads, problem.grads());
}

// The loss's own targets, or others.
pygan::Targets random_targets(const Loss& loss, bool discriminator, Random& random) {
  if (!loss.aims(!discriminator) || random.bits() % 2 == 0) return loss.targets();
  if (discriminator && loss.smooths() && random.bits() % 2 == 0) {
    return loss.targets(random.bits() % 2 == 0 ? 0.1 : 1);
  }
  pygan::Targets targets = loss.targets();
  const bool probability = loss.aims_at_probability();
  const auto draw = [&] { return probability ? random.uniform(0, 1) : random.uniform(-2, 2); };
  if (!discriminator) {
    targets.generator = draw();
    return targets;
  }
  targets.real = draw();
  targets.fake = draw();
  targets.eps = 1 - targets.real;
  return targets;
}

// A term of the loss, or a derivative of it: out = grad * coefficient * term.
template <class T, class Out>
void check_term(const Loss& loss, Role role, int64_t n, Random& random) {
  using M = math_t<T>;
  // In 16 bits there are gradients alone, and these may be multiplied by a number.
  constexpr bool in_math = std::is_same_v<Out, M>;
  const int order = in_math ? int(random.bits() % 3) : 1;
  const bool with_grad = !in_math && random.bits() % 2 == 0;
  const bool of_d = role == Role::real || role == Role::fake;
  const Call call{loss, of_d, {n}, random_targets(loss, of_d, random)};
  const double coefficient = random.uniform(-2, 2);
  Buffer<T> logits(n, random.bits() % 5);
  Buffer<Out> out(n, random.bits() % 3);
  Buffer<M> grad(1);
  for (int64_t i = 0; i < n; ++i) logits[i] = reference::random_logit<T>(random);
  grad[0] = M(0.75);
  const pygan::Term term = pygan::term_of(loss, role, call.targets);
  pygan::LossPiece piece{};
  piece.logits = logits.data();
  piece.out = out.data();
  piece.n = n;
  piece.coefficient = term.sign * coefficient;
  piece.aim = term.aim;
  piece.form = term.form;
  piece.mirror = term.mirror;
  piece.role = role;
  pygan::LossOptions options{};
  options.dtype = loss_problem::dtype_of<T>;
  options.order = order;
  options.grad = with_grad ? grad.data() : nullptr;
  options.out_is_math = in_math;
  simt::set_seed(random.bits());
  pygan::cuda::loss_pointwise(&piece, 1, options, nullptr);
  const reference::Term definition = reference::definition_of(loss.name).of(role);
  for (int64_t i = 0; i < n; ++i) {
    Sum one;
    one.add(
        definition(reference::variable(pygan::to_float(logits[i])), {}, call.template aim<M>(role)),
        order, coefficient * (with_grad ? 0.75L : 1));
    reference::check_element<Out, M>("term", i, out[i], one);
  }
}

template <class T>
void check_type(const Loss& loss, Random& random, bool brief) {
  const auto& definition = reference::definition_of(loss.name);
  unsigned count = random.bits() % 4;
  for (const int64_t n : kSizes) {
    if (brief && n != 33 && (n % 32 != 1 || sizeof(T) != 4)) continue;
    for (const bool discriminator : {true, false}) {
      Call call{loss, discriminator, {n}, random_targets(loss, discriminator, random)};
      call.detached = definition.against == Against::mean && random.bits() % 2 == 0;
      call.mean = n > 0 && random.bits() % 4 != 0;
      if (n == 0 && definition.against == Against::mean) continue;
      // Not all of them: the sums of the statistics take most of the time.
      check_call<T>(call, ++count % 4 == 0, random);
    }
    ++count;
    Role role;
    do role = Role(random.bits() % 4);
    while (definition.of(role) == nullptr);
    check_term<T, T>(loss, role, n, random);
    check_term<T, math_t<T>>(loss, role, n, random);
  }
}

// Lists of tensors of unlike sizes, some without a logit: in one launch, and in several that hand
// on what they have, where they are too many for one.
template <class T>
void check_lists(const Loss& loss, Random& random, bool brief) {
  const bool takes_mean = reference::definition_of(loss.name).against == Against::mean;
  const bool left_out = random.bits() % 2 == 0;
  for (const bool discriminator : {true, false}) {
    if (brief && discriminator == left_out) continue;
    Call call{loss, discriminator, {takes_mean ? 2 : 0, 5, 300, 33}};
    if (loss.smooths() && discriminator) call.targets = loss.targets(0.2);
    call.mean = takes_mean;
    call.weighted = true;
    check_call<T>(call, true, random, 3);
    if (brief) continue;
    call.sizes.insert(call.sizes.end(), {1, 4097, 257, 2});
    check_call<T>(call, true, random);
  }
}

// As many pieces as one launch takes, and more.
void check_many_pieces(Random& random) {
  std::vector<int64_t> sizes(pygan::cuda::kMaxPieces / 2);
  for (std::size_t k = 0; k < sizes.size(); ++k) sizes[k] = 1 + int64_t(k) % 5;
  const Loss& loss = pygan::kLosses[0];
  check_call<float>({loss, true, sizes}, false, random);
  sizes.push_back(7);
  check_call<float>({loss, true, sizes}, false, random);
}

// NaN and infinity have the consequences that IEEE gives them, and are counted.
void check_nonfinite(const Loss& loss, bool discriminator, float what, int which, Random& random) {
  Problem<float> problem({loss, discriminator, {37}}, random);
  auto& tensor = problem.tensors[which];
  tensor.values[tensor.size() / 2] = what;
  problem.place(random);
  Runs<float> runs(problem, random);
  const bool takes_mean = problem.call.against() == Against::mean;
  const auto got = runs.sums(true, !takes_mean);
  if (takes_mean) runs.pointwise(nullptr, got);
  const Expected expected = expect(problem);
  reference::check_class(loss.name, got.loss, expected.loss.value);
  if (got.statistics[pygan::kNonfinite] != 1)
    harness::fail("nonfinite: %g, not 1", double(got.statistics[pygan::kNonfinite]));
  const Kind& kind = tensor.is_real() ? expected.real : expected.fake;
  reference::check_class("logit",
                         got.statistics[tensor.is_real() ? pygan::kRealLogit : pygan::kFakeLogit],
                         kind.logit.value);
  reference::check_class(
      "probability",
      got.statistics[tensor.is_real() ? pygan::kRealProbability : pygan::kFakeProbability],
      kind.probability.value);
  for (std::size_t t = 0; t < problem.tensors.size(); ++t)
    for (int64_t i = 0; i < problem.tensors[t].size(); ++i)
      reference::check_class("gradient", (*problem.tensors[t].grad)[i], expected.grads[t][i].value);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) harness::fail("usage: loss <seed> [brief]");
  const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
  const bool brief = argc > 2;
  Random random(seed);
  for (const Loss& loss : pygan::kLosses) {
    check_type<float>(loss, random, brief);
    check_type<double>(loss, random, brief);
    check_type<pygan::half_t>(loss, random, brief);
    check_type<pygan::bfloat16_t>(loss, random, brief);
    check_lists<float>(loss, random, brief);
    for (const bool discriminator : {true, false})
      if (!brief)
        for (const float what : {NAN, INFINITY, -INFINITY})
          for (std::size_t which = 0; which < Call{loss, discriminator, {}}.kinds(); ++which)
            check_nonfinite(loss, discriminator, what, int(which), random);
  }
  if (!brief) check_many_pieces(random);
  loss_grids::check_small(seed);
  loss_grids::check_huge();
  std::puts("clean");
}
