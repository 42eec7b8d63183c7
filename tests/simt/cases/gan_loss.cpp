// The GAN losses through their launchers, against the reference: `gan_loss <seed> [brief]`.
//
// Every loss, element type and size; aligned and misaligned logits; sums with and without
// statistics, pointwise terms and derivatives. The sums must also have the same bits in every
// interleaving and for every alignment. `brief` is for the slow TSan: fewer combinations.
#include "cuda/launchers.h"
#include "loss_grids.h"
#include "reference.h"

namespace {

using harness::Buffer;
using harness::Random;
using pygan::Dtype;
using pygan::Loss;
using pygan::LossOptions;
using pygan::LossPiece;
using pygan::math_t;
using pygan::Role;
using reference::Real;
using reference::Sum;

// 3 tiles and a bit: several blocks, so that the last one adds up.
constexpr int64_t kLarge = 12'385;
constexpr int64_t kSizes[] = {1, 3, 4, 5, 31, 32, 33, 255, 256, 257, kLarge};

template <class T>
constexpr Dtype dtype_of = std::is_same_v<T, float>           ? Dtype::float32
                           : std::is_same_v<T, double>        ? Dtype::float64
                           : std::is_same_v<T, pygan::half_t> ? Dtype::float16
                                                              : Dtype::bfloat16;

// Logits in a buffer that begins `offset` elements behind an aligned address.
template <class T>
void fill(Buffer<T>& logits, std::uint64_t seed) {
  Random random(seed);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = reference::random_logit<T>(random);
}

template <class T>
LossPiece piece_of(Buffer<T>& logits, Role role) {
  return loss_grids::piece(logits.data(), static_cast<int64_t>(logits.size()), role);
}

LossOptions options_of(Loss loss, Dtype dtype, double eps, bool statistics) {
  LossOptions options{};
  options.loss = loss;
  options.dtype = dtype;
  options.eps = eps;
  options.statistics = statistics;
  return options;
}

template <class M>
struct Result {
  M loss, statistics[pygan::kStatistics];
};

template <class M>
Result<M> run_sums(const LossPiece* pieces, int count, const LossOptions& options,
                   bool discriminator) {
  const unsigned blocks = pygan::cuda::loss_blocks(pieces, count);
  Buffer<double> partials(std::size_t{blocks} * pygan::kTotals);
  Buffer<M> loss(1), statistics(pygan::kStatistics);
  std::memset(loss.data(), 0xff, sizeof(M));  // NaN: what is not written shows
  std::memset(statistics.data(), 0xff, sizeof(M) * pygan::kStatistics);
  const pygan::cuda::LossOutputs out{partials.data(), loss.data(),
                                     options.statistics ? statistics.data() : nullptr,
                                     discriminator};
  pygan::cuda::loss_sums(pieces, count, options, out, 5, nullptr);
  Result<M> result;
  result.loss = loss[0];
  std::memcpy(result.statistics, statistics.data(), sizeof result.statistics);
  return result;
}

// The loss and the statistics of one piece, from the definitions.
struct Expected {
  Sum value, plain, logit, probability, positive, negative;
};

template <class T>
Expected expect(Buffer<T>& logits, Loss loss, Role role, double eps) {
  Expected e;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const Real x = pygan::to_float(logits[i]), n = Real(logits.size());
    const Sum term = reference::term(loss, role, 0, x, eps);
    e.value.add(term.value / n, term.magnitude / n);
    e.plain.add(reference::term(loss, role, 0, x, 0).value / n);
    e.logit.add(x / n);
    e.probability.add(reference::sigmoid(x) / n);
    e.positive.add((x > 0) / n);
    e.negative.add((x < 0) / n);
  }
  return e;
}

Sum plus(Sum a, const Sum& b, Real factor = 1) {
  a.add(factor * b.value, std::fabs(factor) * b.magnitude);
  return a;
}

template <class M>
void check_statistics(const M* got, const Expected& real, const Expected& fake) {
  reference::check_sum("real_logit", got[pygan::kRealLogit], real.logit);
  reference::check_sum("fake_logit", got[pygan::kFakeLogit], fake.logit);
  reference::check_sum("d_real", got[pygan::kRealProbability], real.probability);
  reference::check_sum("d_fake", got[pygan::kFakeProbability], fake.probability);
  reference::check_sum("real_accuracy", got[pygan::kRealAccuracy], real.positive);
  reference::check_sum("fake_accuracy", got[pygan::kFakeAccuracy], fake.negative);
  reference::check_sum("real_sign", got[pygan::kRealSign], plus(real.positive, real.negative, -1));
  Sum bound = plus(plus({}, real.plain, -0.5L), fake.plain, -0.5L);
  bound.add(std::log(2.0L));
  reference::check_sum("jsd_bound", got[pygan::kJsdBound], bound);
  if (got[pygan::kNonfinite] != 0) harness::fail("nonfinite: found some in finite logits");
}

template <class T>
void check_discriminator(Loss loss, int64_t n, int64_t offset, double eps, std::uint64_t seed) {
  using M = math_t<T>;
  Buffer<T> real(n, offset), fake(n / 2 + 1, offset + 1);
  fill(real, seed);
  fill(fake, seed + 1);
  const LossPiece pieces[] = {piece_of(real, Role::real), piece_of(fake, Role::fake)};
  LossOptions options = options_of(loss, dtype_of<T>, eps, true);
  const Expected r = expect(real, loss, Role::real, eps), f = expect(fake, loss, Role::fake, eps);
  simt::set_seed(seed);
  const auto with = run_sums<M>(pieces, 2, options, true);
  reference::check_sum("discriminator", with.loss, plus(r.value, f.value));
  check_statistics(with.statistics, r, f);

  // Another interleaving, other alignment, no statistics: the same bits.
  Buffer<T> shifted(n, offset + 1);
  std::memcpy(shifted.data(), real.data(), n * sizeof(T));
  const LossPiece moved[] = {piece_of(shifted, Role::real), pieces[1]};
  options.statistics = false;
  simt::set_seed(seed + 77);
  const auto without = run_sums<M>(moved, 2, options, true);
  if (std::memcmp(&with.loss, &without.loss, sizeof(M)) != 0)
    harness::fail("discriminator: other bits in another interleaving or alignment");
}

template <class T>
void check_generator(Loss loss, int64_t n, int64_t offset, std::uint64_t seed) {
  using M = math_t<T>;
  Buffer<T> fake(n, offset);
  fill(fake, seed);
  const LossPiece piece = piece_of(fake, Role::generator);
  const LossOptions options = options_of(loss, dtype_of<T>, 0, false);
  const auto result = run_sums<M>(&piece, 1, options, false);
  reference::check_sum("generator", result.loss, expect(fake, loss, Role::generator, 0).value);
}

// out = grad * coefficient * derivative of the loss at logits[i], or the term itself.
template <class T, class Out>
void check_pointwise(Loss loss, Role role, int64_t n, int64_t offset, int order, bool with_grad,
                     std::uint64_t seed) {
  using M = math_t<T>;
  const double eps = role == Role::real ? 0.1 : 0.0;
  Buffer<T> logits(n, offset);
  Buffer<M> grad(1);
  Buffer<Out> out(n, offset % 3);
  fill(logits, seed);
  grad[0] = M(0.75);
  LossPiece piece = piece_of(logits, role);
  piece.out = out.data();
  LossOptions options = options_of(loss, dtype_of<T>, eps, false);
  options.order = order;
  options.grad = with_grad ? grad.data() : nullptr;
  options.out_is_math = std::is_same_v<Out, M>;
  pygan::cuda::loss_pointwise(&piece, 1, options, nullptr);
  const Real factor = Real(piece.coefficient) * (with_grad ? grad[0] : 1);
  for (int64_t i = 0; i < n; ++i) {
    const Sum term = reference::term(loss, role, order, pygan::to_float(logits[i]), M(eps));
    reference::check_element<Out, M>("pointwise", i, out[i], plus({}, term, factor));
  }
}

template <class T>
void check_type(Loss loss, std::uint64_t seed, bool brief) {
  for (int64_t n : kSizes) {
    if (brief && (n % 32 != 1 || (n > 256 && sizeof(T) != 4))) continue;
    const int64_t offset = int64_t(seed++ % 5);
    check_discriminator<T>(loss, n, offset, offset % 2 == 0 ? 0.0 : 0.1, seed);
    check_generator<T>(loss, n, offset, seed);
    const Role role = Role(seed % 3);
    check_pointwise<T, T>(loss, role, n, offset, int(n % 3), seed % 2 == 0, seed);
    check_pointwise<T, math_t<T>>(loss, role, n, offset, int((n + 1) % 3), seed % 2 == 1, seed);
  }
  check_generator<T>(loss, 0, 0, seed);                           // an empty sum is 0
  check_pointwise<T, T>(loss, Role::real, 0, 0, 1, false, seed);  // launches nothing
}

// NaN and infinity reach the result and are counted.
void check_nonfinite() {
  Buffer<float> real(5000), fake(40);
  fill(real, 1);
  fill(fake, 2);
  real[4999] = INFINITY;
  fake[3] = -INFINITY;
  const LossPiece pieces[] = {piece_of(real, Role::real), piece_of(fake, Role::fake)};
  const LossOptions options = options_of(Loss::non_saturating, Dtype::float32, 0, true);
  const auto harmless = run_sums<float>(pieces, 2, options, true);  // D is right and quite sure
  if (!std::isfinite(harmless.loss) || harmless.statistics[pygan::kNonfinite] != 2)
    harness::fail("nonfinite: loss %g, count %g", double(harmless.loss),
                  double(harmless.statistics[pygan::kNonfinite]));
  fake[4] = NAN;
  const auto broken = run_sums<float>(pieces, 2, options, true);
  if (!std::isnan(broken.loss) || broken.statistics[pygan::kNonfinite] != 3)
    harness::fail("nonfinite: a NaN was hidden");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) harness::fail("usage: gan_loss <seed> [brief]");
  const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
  const bool brief = argc > 2;
  for (int k = 0; k < pygan::kLosses; ++k) {
    check_type<float>(Loss(k), seed + 1, brief);
    check_type<double>(Loss(k), seed + 2, brief);
    check_type<pygan::half_t>(Loss(k), seed + 3, brief);
    check_type<pygan::bfloat16_t>(Loss(k), seed + 4, brief);
  }
  check_nonfinite();
  loss_grids::check_small(seed);
  loss_grids::check_huge();
  std::puts("clean");
}
