// Runs the CPU kernels of feature matching on arrays that end where their tensors do, for
// AddressSanitizer and UBSan to watch, and looks whether everything was written, and rightly.
#define PYGAN_CPU_ISA baseline
#include "cpu/features.cpp"

#include <cstdio>
#include <memory>

using namespace pygan;
using namespace pygan::cpu::baseline;

namespace {

// Neither a sign nor a gradient here; exact in every dtype.
constexpr int8_t kNoSign = 7;
constexpr float kFill = 1024;

// How many of the results are wrong.
template <class T>
int run(Dtype dtype, int64_t n, bool l1, bool relative) {
  const std::unique_ptr<T[]> fake(new T[n]), real(new T[n]), out(new T[n]);
  const std::unique_ptr<int8_t[]> signs(new int8_t[n]);
  double distance = 0, magnitude = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float f = static_cast<float>(i % 17 - 8), r = static_cast<float>(i % 5 - 2), d = f - r;
    fake[i] = from_float<T>(f);
    real[i] = from_float<T>(r);
    out[i] = from_float<T>(kFill);
    signs[i] = kNoSign;
    distance += l1 ? std::fabs(d) : d * d;
    magnitude += std::fabs(r);
  }
  const FeatureMap map{fake.get(), real.get(), l1 ? signs.get() : nullptr, out.get(), n, 1.0, 0};
  const FeatureOptions options{dtype, l1 ? Distance::l1 : Distance::l2, relative};
  double total[kFeatureSums] = {};
  for (int64_t begin = 0; begin < n; begin += kFeatureChunk) {
    double sums[kFeatureSums];
    feature_sums(map, options, begin, std::min(n, begin + kFeatureChunk), sums);
    for (int k = 0; k < kFeatureSums; ++k) total[k] += sums[k];
  }
  feature_gradient(map, options, 2.0, 0, n);
  int wrong = total[kSumDistance] != distance;
  wrong += relative && total[kSumMagnitude] != magnitude;
  for (int64_t i = 0; i < n; ++i) {
    const float d = static_cast<float>(i % 17 - 8) - static_cast<float>(i % 5 - 2);
    const int sign = (d > 0) - (d < 0);
    wrong += l1 && signs[i] != sign;
    wrong += to_float(out[i]) != 2 * (l1 ? static_cast<float>(sign) : d);
  }
  return wrong;
}

}  // namespace

int main() {
  int wrong = 0;
  for (const int64_t n : {1, 3, 63, 64, 65, 127, 1023, 1024, 1025, 8191, 8192, 8193}) {
    for (const bool l1 : {true, false}) {
      for (const bool relative : {false, true}) {
        wrong += run<float>(Dtype::float32, n, l1, relative);
        wrong += run<double>(Dtype::float64, n, l1, relative);
        wrong += run<half_t>(Dtype::float16, n, l1, relative);
        wrong += run<bfloat16_t>(Dtype::bfloat16, n, l1, relative);
      }
    }
  }
  if (wrong != 0) std::printf("%d results are wrong\n", wrong);
  return wrong != 0;
}
