// Instance noise through its launchers, bit for bit against the CPU kernels:
// `instance_noise <seed> [brief]`.
//
// Every pair of element types and every size, each with alignment, place in the stream, sigma
// (number, tensor, one per sample) and step drawn at random. `brief` is for the slow TSan: fewer
// combinations of type and size.
#include <algorithm>
#include <cmath>

#include "cpu/isa.h"
#include "cuda/launchers.h"
#include "harness.h"
#include "noise_grids.h"

namespace {

using harness::Buffer;
using harness::Random;
using pygan::Dtype;
using pygan::NoiseArgs;
using pygan::NoiseDotArgs;

constexpr int64_t kLarge = 12'385;
constexpr int64_t kSizes[] = {0, 1, 3, 4, 5, 31, 32, 33, 255, 256, 257, kLarge};
constexpr Dtype kDtypes[] = {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16,
                             Dtype::uint8};

const pygan::cpu::Kernels& cpu() {
  static const pygan::cpu::Kernels kernels = [] {
    pygan::cpu::Kernels table{};
    pygan::cpu::baseline::add_noise_kernels(table);
    return table;
  }();
  return kernels;
}

std::uint64_t random_word(Random& random) {
  return std::uint64_t{random.bits()} << 32 | random.bits();
}

template <class T>
void fill(Buffer<T>& x, Random& random) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      x[i] = std::uint8_t(random.bits() >> 24);
    } else {
      x[i] = pygan::from_math<T>(pygan::math_t<T>(random.uniform(-1, 1)));
    }
  }
}

// The sigmas of a call: none (a number), one, or one per sample of `stride` elements.
struct Sigma {
  Sigma(int64_t n, Random& random) : kind(random.bits() % 4), narrow(1), wide(1) {
    stride = kind == 3 && n > 0 ? 1 + random.bits() % n : n;
    const int64_t samples = n == 0 ? 1 : (n + stride - 1) / stride;
    if (kind == 3) samples_buffer = new Buffer<float>(samples, random.bits() % 3);
    if (kind == 3) fill(*samples_buffer, random);
    narrow[0] = 0.3f;
    wide[0] = 0.7;
  }
  ~Sigma() { delete samples_buffer; }

  void apply(NoiseArgs& args) {
    args.sigma_value = 0.1;
    args.sigma_stride = stride;
    args.sigma_is_double = kind == 2;
    if (kind == 1) args.sigma = narrow.data();
    if (kind == 2) args.sigma = wide.data();
    if (kind == 3) args.sigma = samples_buffer->data();
  }

  unsigned kind;
  int64_t stride = 0;
  Buffer<float> narrow;
  Buffer<double> wide;
  Buffer<float>* samples_buffer = nullptr;
};

template <class In, class Out>
void check_noise(Dtype in, Dtype out_dtype, int64_t n, Random& random) {
  Buffer<In> x(n, random.bits() % 5);
  const std::size_t out_offset = random.bits() % 3;
  Buffer<Out> out(n, out_offset), expected(n, out_offset);
  Buffer<int64_t> state(2);
  fill(x, random);
  state[0] = int64_t(random_word(random));
  state[1] = random.bits() % 2 == 0 ? 0xffffffff : int64_t(random_word(random));
  NoiseArgs args{};
  args.x = x.data();
  args.x_dtype = in;
  args.out_dtype = out_dtype;
  args.n = n;
  args.scale = 1.0 / 127.5;
  args.bias = -1;
  args.state = state.data();
  args.offset = random.bits() % 2 == 0 ? random.bits() % 16 : (1ull << 34) - random.bits() % 300;
  Sigma sigma(n, random);
  sigma.apply(args);

  args.out = expected.data();
  cpu().instance_noise(args, 0, n);
  args.out = out.data();
  const bool advance = random.bits() % 2 == 0;
  const auto step = std::uint64_t(state[1]);
  simt::set_seed(random.bits());
  pygan::cuda::instance_noise(args, advance ? state.data() : nullptr, 7, nullptr);
  for (int64_t i = 0; i < n; ++i) {
    if (std::memcmp(&out[i], &expected[i], sizeof(Out)) != 0)
      harness::fail("noise: element %lld of %lld is not the CPU's (dtypes %d, %d; offset %llu)",
                    (long long)i, (long long)n, int(in), int(out_dtype),
                    (unsigned long long)args.offset);
  }
  if (std::uint64_t(state[1]) != step + advance) harness::fail("noise: the step is wrong");
}

// sums[sample] against the CPU's, whose order of summation differs.
template <class T>
void check_dot(Dtype dtype, int64_t samples, int64_t stride, Random& random) {
  const int64_t n = samples * stride;
  Buffer<T> grad(n, random.bits() % 5);
  Buffer<int64_t> state(2);
  fill(grad, random);
  state[0] = 42;
  state[1] = int64_t(random.bits());
  const NoiseDotArgs args{grad.data(), dtype, n, stride, state.data(), random.bits() % 16};
  Buffer<double> partials(samples * pygan::cuda::noise_dot_chunks(args)), sums(samples);
  simt::set_seed(random.bits());
  pygan::cuda::noise_dot(args, samples, partials.data(), sums.data(), nullptr);
  for (int64_t sample = 0; sample < samples; ++sample) {
    double expected = 0;
    for (int64_t begin = sample * stride; begin < (sample + 1) * stride;
         begin += pygan::kNoiseChunk)
      expected +=
          cpu().noise_dot(args, begin, std::min(begin + pygan::kNoiseChunk, (sample + 1) * stride));
    if (simt::is_poison(sums[sample]))
      harness::fail("noise_dot: the result is the poison of uninitialised shared memory");
    if (!(std::fabs(sums[sample] - expected) <= 1e-14 * (10.0 + double(stride))))
      harness::fail("noise_dot: sample %lld: %.17g instead of %.17g", (long long)sample,
                    sums[sample], expected);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) harness::fail("usage: instance_noise <seed> [brief]");
  const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
  const bool brief = argc > 2;
  Random random(seed);
  for (Dtype in : kDtypes) {
    for (Dtype out : kDtypes) {
      if (out == Dtype::uint8) continue;
      pygan::with_any_type(in, [&](auto from) {
        pygan::with_floating_type(out, [&](auto to) {
          for (int64_t n : kSizes) {
            if (brief && (n % 32 != 1 || (n > 257 && in != Dtype::float32))) continue;
            check_noise<decltype(from), decltype(to)>(in, out, n, random);
          }
        });
      });
    }
  }
  for (Dtype dtype : kDtypes) {
    if (dtype == Dtype::uint8) continue;
    pygan::with_floating_type(dtype, [&](auto type) {
      using T = decltype(type);
      for (int64_t stride : {0, 1, 3, 5, 257}) check_dot<T>(dtype, 3, stride, random);
      check_dot<T>(dtype, 2, pygan::kNoiseChunk + 5, random);
      check_dot<T>(dtype, 0, 3, random);
    });
  }
  noise_grids::check_small(seed);
  noise_grids::check_huge();
  std::puts("clean");
}
