// Instance noise through its launchers, bit for bit against the CPU kernels:
// `noise <seed> [brief]`.
//
// Every pair of element types with every size, alone, and with lists of tensors; for each tensor
// alignment, place in the stream, sigma and scale (number, tensor, one per sample) and step are
// drawn at random. `brief` is for the slow TSan: fewer combinations of type and size.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/isa.h"
#include "harness.h"
#include "noise_grids.h"

namespace {

using harness::Buffer;
using harness::Random;
using pygan::Divisor;
using pygan::Dtype;
using pygan::NoiseDotArgs;
using pygan::NoiseFactor;
using pygan::NoiseOptions;
using pygan::NoisePiece;
using pygan::cuda::kMaxPieces;
using pygan::cuda::kNoiseTile;

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

// The values of sigma or scale on the device; fp32 or fp64.
struct Values {
  NoiseFactor make(int64_t n, Random& random) {
    narrow = std::make_unique<Buffer<float>>(n, random.bits() % 3);
    wide = std::make_unique<Buffer<double>>(n, random.bits() % 3);
    fill(*narrow, random);
    fill(*wide, random);
    const bool is_double = random.bits() % 2;
    return {is_double ? static_cast<void*>(wide->data()) : narrow->data(), is_double};
  }

  std::unique_ptr<Buffer<float>> narrow;
  std::unique_ptr<Buffer<double>> wide;
};

// The sigmas and scales of a call: numbers, tensors of one, or one per sample.
struct Factors {
  explicit Factors(Random& random)
      : kind(random.bits() % 3), shared(random.bits() % 2), has_scale(random.bits() % 2) {}

  // To be called for every piece, before make().
  void count(NoisePiece& piece, Random& random) {
    const int64_t whole = std::max<int64_t>(piece.n, 1);
    piece.sample_size = Divisor(whole);
    if (kind != 2) return;
    // 8 and 64 are whole groups, of which the others make parts; the last is a single sample.
    const int64_t any = 1 + int64_t(random.bits() % whole);
    const int64_t sizes[] = {1, 7, 8, 64, any, whole};
    const int64_t size = sizes[random.bits() % 6];
    piece.sample_size = Divisor(size);
    const int64_t samples = (piece.n + size - 1) / size;
    piece.first_sample = shared ? 0 : total;
    total = shared ? std::max(total, samples) : total + samples;
  }

  void make(NoiseOptions& options, Random& random) {
    options.sigma_value = 0.1;
    const int64_t n = kind == 2 ? total : 1;
    if (kind != 0) options.sigma = sigma.make(n, random);
    if (has_scale) options.scale = scale.make(n, random);
  }

  unsigned kind;  // of sigma
  bool shared;    // all pieces begin with the same sample
  bool has_scale;
  int64_t total = 0;
  Values sigma, scale;
};

// One of the tensors of a call.
template <class In, class Out>
struct Tensor {
  Tensor(int64_t n, Random& random)
      : offset(random.bits() % 2 == 0 ? random.bits() % 16 : (1ull << 34) - random.bits() % 300),
        // Half of the time the groups are aligned, though the first may be a partial one.
        is_aligned(random.bits() % 2),
        x(n, is_aligned ? offset % pygan::cuda::kNoiseGroup<Out> : random.bits() % 5),
        out(n, is_aligned ? offset % pygan::cuda::kNoiseGroup<Out> : random.bits() % 3),
        expected(n) {
    fill(x, random);
  }

  std::uint64_t offset;
  bool is_aligned;
  Buffer<In> x;
  Buffer<Out> out, expected;
};

template <class In, class Out>
void check_noise(Dtype in, Dtype out_dtype, const std::vector<int64_t>& sizes, Random& random) {
  Buffer<int64_t> state(2);
  state[0] = int64_t(random_word(random));
  state[1] = random.bits() % 2 == 0 ? 0xffffffff : int64_t(random_word(random));
  NoiseOptions options{};
  options.x_dtype = in;
  options.out_dtype = out_dtype;
  options.state = state.data();

  Factors factors(random);
  std::vector<std::unique_ptr<Tensor<In, Out>>> tensors;
  std::vector<NoisePiece> pieces;
  for (int64_t n : sizes) {
    auto& tensor = *tensors.emplace_back(std::make_unique<Tensor<In, Out>>(n, random));
    NoisePiece& piece = pieces.emplace_back();
    piece.x = tensor.x.data();
    piece.out = tensor.expected.data();
    piece.n = n;
    piece.offset = tensor.offset;
    piece.step = random.bits() % 4 == 0 ? random.bits() : pieces.size() - 1;
    piece.scale = random.uniform(-2, 2);
    piece.bias = random.uniform(-1, 1);
    factors.count(piece, random);
  }
  factors.make(options, random);

  for (std::size_t p = 0; p < pieces.size(); ++p) {
    cpu().instance_noise(pieces[p], options, 0, pieces[p].n);
    auto& [offset, is_aligned, x, out, expected] = *tensors[p];
    pieces[p].out = out.data();
    if (std::is_same_v<In, Out> && random.bits() % 4 == 0) {  // in place
      std::memcpy(out.data(), x.data(), pieces[p].n * sizeof(In));
      pieces[p].x = out.data();
    }
  }
  const bool advance = random.bits() % 2 == 0;
  const std::uint64_t step = std::uint64_t(state[1]);
  const std::uint32_t steps = random.bits() % 2 == 0 ? pieces.size() : random.bits();
  simt::set_seed(random.bits());
  const unsigned before = simt::launches();
  pygan::cuda::instance_noise(pieces.data(), int(pieces.size()), options,
                              advance ? state.data() : nullptr, steps, 7, nullptr);
  if (simt::launches() != before + 1) harness::fail("noise: not one launch");

  for (std::size_t p = 0; p < pieces.size(); ++p) {
    auto& [offset, is_aligned, x, out, expected] = *tensors[p];
    for (int64_t i = 0; i < pieces[p].n; ++i) {
      if (std::memcmp(&out[i], &expected[i], sizeof(Out)) != 0)
        harness::fail(
            "noise: element %lld of %lld in piece %zu of %zu is not the CPU's "
            "(dtypes %d, %d; offset %llu)",
            (long long)i, (long long)pieces[p].n, p, pieces.size(), int(in), int(out_dtype),
            (unsigned long long)offset);
    }
  }
  if (std::uint64_t(state[1]) != step + (advance ? steps : 0))
    harness::fail("noise: the step is wrong");
}

template <class In, class Out>
void check_sizes(Dtype in, Dtype out, bool brief, Random& random) {
  constexpr int64_t kTile = kNoiseTile<Out>;
  for (int64_t n : {int64_t{0}, int64_t{1}, int64_t{3}, int64_t{4}, int64_t{5}, int64_t{31},
                    int64_t{32}, int64_t{33}, int64_t{255}, int64_t{256}, int64_t{257}, kTile - 1,
                    kTile, kTile + 1, 5 * kTile + 33}) {
    if (brief && (n % 32 != 1 || (n > 257 && in != Dtype::float32))) continue;
    check_noise<In, Out>(in, out, {n}, random);
  }
  if (brief && in != Dtype::float32) return;
  const auto list = [&](int count, int64_t largest) {
    std::vector<int64_t> sizes(count);
    for (int64_t& n : sizes) n = random.bits() % (largest + 1);
    sizes[random.bits() % count] = 0;
    check_noise<In, Out>(in, out, sizes, random);
  };
  for (int count : {2, 3, 5}) list(count, 2 * kTile + 100);
  list(kMaxPieces, 300);
}

// More tiles than there may be blocks: piece after piece goes on with the next block, in turn.
void check_turns(Random& random) {
  using Out = pygan::half_t;
  constexpr int64_t kTile = kNoiseTile<Out>, kBlocks = pygan::cuda::kMaxBlocks;
  constexpr int64_t tiles[] = {3000, 1200, 2500};
  const int64_t state[2] = {1, 2};
  NoiseOptions options{};
  options.x_dtype = Dtype::uint8;
  options.out_dtype = Dtype::float16;
  options.sigma_value = 1;
  options.state = state;
  harness::VirtualBuffer<std::uint8_t> x(3000 * kTile);
  harness::VirtualBuffer<Out> out(3 * 3000 * kTile), expected(kTile);
  NoisePiece pieces[3] = {};
  for (int p = 0; p < 3; ++p) {
    pieces[p].x = x.data();
    pieces[p].out = out.data() + p * 3000 * kTile;
    pieces[p].n = tiles[p] * kTile - 7;  // these tiles, wherever in its group the first element is
    pieces[p].sample_size = Divisor(pieces[p].n);
    pieces[p].step = p;
  }
  const unsigned first = random.bits() % kBlocks, second = random.bits() % kBlocks;
  simt::run_only_blocks({first, second});
  pygan::cuda::instance_noise(pieces, 3, options, nullptr, 3, 7, nullptr);
  simt::run_only_blocks({});
  int64_t tile = 0;  // counted through all pieces
  for (const NoisePiece& piece : pieces) {
    for (int64_t i = 0; i < piece.n; i += kTile, ++tile) {
      const int64_t block = tile % kBlocks, count = std::min(kTile, piece.n - i);
      NoisePiece part = piece;
      part.offset = i;
      part.n = count;
      part.out = expected.data();
      std::memset(expected.data(), 0, kTile * sizeof(Out));
      if (block == first || block == second) cpu().instance_noise(part, options, 0, count);
      if (std::memcmp(static_cast<Out*>(piece.out) + i, expected.data(), count * sizeof(Out)) != 0)
        harness::fail("noise: tile %lld is not made by its block, or by another", (long long)tile);
    }
  }
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

// Against the division that it replaces: of all magnitudes, and next to multiples.
void check_divisor(Random& random) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const auto any = [&] { return int64_t(random_word(random) >> (1 + random.bits() % 63)); };
  for (int trial = 0; trial < 20000; ++trial) {
    const int64_t d = trial < 64 ? int64_t(1ull << 62 >> trial % 63) : std::max<int64_t>(any(), 1);
    const int64_t multiple = any() / d * d;
    for (int64_t i :
         {int64_t{0}, d - 1, d, multiple, std::max<int64_t>(multiple, 1) - 1, any(), kMost - 1})
      if (Divisor(d).quotient(i) != i / d)
        harness::fail("Divisor: %lld / %lld is %lld, got %lld", (long long)i, (long long)d,
                      (long long)(i / d), (long long)Divisor(d).quotient(i));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) harness::fail("usage: noise <seed> [brief]");
  const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
  const bool brief = argc > 2;
  Random random(seed);
  for (Dtype in : kDtypes) {
    for (Dtype out : kDtypes) {
      if (out == Dtype::uint8) continue;
      pygan::with_any_type(in, [&](auto from) {
        pygan::with_floating_type(out, [&](auto to) {
          check_sizes<decltype(from), decltype(to)>(in, out, brief, random);
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
  check_divisor(random);
  check_turns(random);
  noise_grids::check_small(seed);
  noise_grids::check_huge();
  std::puts("clean");
}
