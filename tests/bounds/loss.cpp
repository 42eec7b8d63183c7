// Runs the CPU loss kernels on arrays that end where their tensors do, for AddressSanitizer and
// UBSan to watch, and looks whether every gradient was written.
#define PYGAN_CPU_ISA baseline
#include "cpu/loss.cpp"

#include <cstdio>
#include <memory>

using namespace pygan;
using namespace pygan::cpu::baseline;

namespace {

// No gradient here is as large; exact in every dtype.
constexpr float kFill = 1024;

constexpr Form kForms[] = {
#define PYGAN_FORM_OF(name) Form::name,
    PYGAN_FORMS(PYGAN_FORM_OF)};

template <class T>
bool fill_is_left(const T* out, int64_t n) {
  return std::any_of(out, out + n, [](T v) { return to_float(v) == kFill; });
}

// Whether everything that should be was written.
template <class T>
bool run(Dtype dtype, int64_t n, Form form, int mirror, double aim, Compared compared,
         bool statistics) {
  using M = math_t<T>;
  const std::unique_ptr<T[]> x(new T[n]), y(new T[n]), g(new T[n]), h(new T[n]);
  for (int64_t i = 0; i < n; ++i) {
    x[i] = from_float<T>(static_cast<float>(i % 17 - 8));
    y[i] = from_float<T>(static_cast<float>(i % 5 - 2));
    g[i] = h[i] = from_float<T>(kFill);
  }
  const bool paired = compared == Compared::paired, to_mean = compared == Compared::to_mean;
  const M means[kMeans] = {1, 2, 3, 4};
  LossOptions options{};
  options.dtype = dtype;
  options.bounds_jsd = true;
  options.statistics = statistics || to_mean;
  options.slopes_alone = !statistics;
  options.means = to_mean ? means : nullptr;
  options.real_pivot = x.get();
  options.fake_pivot = y.get();
  const double share = 1.0 / static_cast<double>(n);
  const LossPiece alone{
      x.get(),   paired ? y.get() : nullptr, nullptr, nullptr, n, share, share, aim, form, mirror,
      Role::real};
  LossPiece piece = alone;
  piece.out = g.get();
  piece.other_out = paired ? h.get() : nullptr;
  double sums[2 * kSums];
  for (int64_t begin = 0; begin < n; begin += kLossChunk) {
    const int64_t end = std::min(n, begin + kLossChunk);
    loss_sums(alone, options, begin, end, sums);
    loss_sums(piece, options, begin, end, sums);
  }
  bool written = !fill_is_left(g.get(), n) && !(paired && fill_is_left(h.get(), n));
  if (to_mean && sizeof(T) >= sizeof(float)) loss_shift(piece, options, 0, n);
  std::fill(g.get(), g.get() + n, from_float<T>(kFill));
  options.order = 1;
  loss_pointwise(piece, options, 0, n);
  return written && !fill_is_left(g.get(), n);
}

}  // namespace

int main() {
  int wrong = 0;
  for (const int64_t n : {1, 3, 63, 64, 65, 127, 1023, 1024, 1025, 8191, 8192, 8193}) {
    for (const Form form : kForms) {
      for (const int mirror : {1, -1}) {
        for (const double aim : {0.0, 0.1}) {
          for (const auto how : {Compared::alone, Compared::paired, Compared::to_mean}) {
            for (const bool statistics : {false, true}) {
              wrong += !run<float>(Dtype::float32, n, form, mirror, aim, how, statistics);
              wrong += !run<double>(Dtype::float64, n, form, mirror, aim, how, statistics);
              wrong += !run<half_t>(Dtype::float16, n, form, mirror, aim, how, statistics);
              wrong += !run<bfloat16_t>(Dtype::bfloat16, n, form, mirror, aim, how, statistics);
            }
          }
        }
      }
    }
  }
  if (wrong != 0) std::printf("%d runs left elements unwritten\n", wrong);
  return wrong != 0;
}
