// Feature matching through its launchers, beside the definition in long double: what the program
// of its own and the one with planted bugs share.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "cuda/features_kernels.cuh"
#include "harness.h"

namespace feature_problem {

using harness::Buffer;
using harness::Random;
using pygan::Distance;
using pygan::Dtype;
using pygan::FeatureMap;
using pygan::FeatureOptions;
using pygan::math_t;
using Real = long double;

template <class T>
constexpr Dtype dtype_of = std::is_same_v<T, float>           ? Dtype::float32
                           : std::is_same_v<T, double>        ? Dtype::float64
                           : std::is_same_v<T, pygan::half_t> ? Dtype::float16
                                                              : Dtype::bfloat16;

// Which of a map's arrays begin at an odd element.
enum Misaligned : unsigned { kFake = 1, kReal = 2, kOut = 4, kSigns = 8, kEach = 15 };

template <class T>
struct Map {
  Buffer<T> fake, real, out;
  Buffer<int8_t> signs;
  double weight;

  Map(std::size_t n, Random& random, unsigned misaligned)
      : fake(n, offset(random, misaligned & kFake)),
        real(n, offset(random, misaligned & kReal)),
        out(n, offset(random, misaligned & kOut)),
        signs(n, offset(random, misaligned & kSigns)),
        weight(random.uniform(-2, 2)) {
    for (std::size_t i = 0; i < n; ++i) {
      fake[i] = pygan::from_float<T>(static_cast<math_t<T>>(random.uniform(-3, 3)));
      // Some are equal.
      real[i] = random.bits() % 5 == 0
                    ? fake[i]
                    : pygan::from_float<T>(static_cast<math_t<T>>(random.uniform(-3, 3)));
    }
  }

 private:
  static std::size_t offset(Random& random, bool misaligned) {
    return misaligned ? 1 + random.bits() % 2 * 2 : 0;
  }
};

struct Settings {
  Distance distance;
  bool relative, signs, wide;
  std::size_t per_launch = pygan::cuda::kMaxMaps;
  unsigned blocks = 0;  // of each launch; 0: as many as the launcher takes
};

template <class M>
struct Results {
  M loss;
  std::vector<M> values, multipliers;
};

// A grid of the test's choosing, in which a block has several tiles of a map.
template <class T>
void sums_with_blocks(const FeatureMap* some, int count, const FeatureOptions& options,
                      const pygan::FeatureOutputs& out, unsigned blocks) {
  using namespace pygan::cuda;
  const FeatureLaunch a = describe(some, count, options, blocks);
  int64_t partials = 0;
  for (int m = 0; m < count; ++m) partials += blocks_of(some[m], blocks);
  Buffer<double> scratch(partials * pygan::kFeatureSums);
  const auto kernel = options.distance == Distance::l1 ? feature_sums_kernel<T, Distance::l1, true>
                                                       : feature_sums_kernel<T, Distance::l2, true>;
  launch(kernel, blocks, kThreads, nullptr, a, out, scratch.data(), 5u);
}

template <class T>
Results<double> run(std::vector<std::unique_ptr<Map<T>>>& maps, const Settings& s, Random& random) {
  const auto all = static_cast<int64_t>(maps.size());
  Buffer<double> loss(1), values(all), multipliers(all), weighted(all);
  Buffer<float> narrow_loss(1), narrow_values(all), narrow_multipliers(all);
  pygan::FeatureOutputs out{
      s.wide ? static_cast<void*>(loss.data()) : narrow_loss.data(),
      s.wide ? static_cast<void*>(values.data()) : narrow_values.data(),
      s.wide ? static_cast<void*>(multipliers.data()) : narrow_multipliers.data(),
      weighted.data(),
      s.wide,
      all,
      all};
  const FeatureOptions options{dtype_of<T>, s.distance, s.relative};
  std::vector<FeatureMap> pieces;
  for (int64_t i = 0; i < all; ++i) {
    Map<T>& map = *maps[i];
    const auto n = static_cast<int64_t>(map.fake.size());
    pieces.push_back({map.fake.data(), map.real.data(), s.signs ? map.signs.data() : nullptr,
                      map.out.data(), n, map.weight, i});
  }
  const auto each_launch = [&](auto&& f) {
    for (std::size_t first = 0; first < pieces.size(); first += s.per_launch) {
      simt::set_seed(random.bits());
      const unsigned before = simt::launches();
      f(pieces.data() + first, static_cast<int>(std::min(s.per_launch, pieces.size() - first)));
      if (simt::launches() != before + 1) harness::fail("features: not one launch");
    }
  };
  each_launch([&](const FeatureMap* some, int count) {
    out.left -= count;
    if (s.blocks != 0) return sums_with_blocks<T>(some, count, options, out, s.blocks);
    Buffer<double> partials(pygan::cuda::feature_partials(some, count) * pygan::kFeatureSums);
    pygan::cuda::feature_sums(some, count, options, out, partials.data(), 5, nullptr);
  });
  const double grad = 0.75;
  const float narrow_grad = 0.75f;
  const double slope = s.distance == Distance::l1 ? 1.0 : pygan::kSlopeOfSquare;
  const pygan::FeatureGradient by{s.wide ? static_cast<const void*>(&grad) : &narrow_grad,
                                  out.multipliers, slope, s.wide};
  if (s.signs || s.distance == Distance::l2) {
    each_launch([&](const FeatureMap* some, int count) {
      if (s.blocks == 0) return pygan::cuda::feature_gradient(some, count, options, by, nullptr);
      pygan::cuda::launch(pygan::cuda::feature_gradient_kernel<T>, s.blocks, pygan::cuda::kThreads,
                          nullptr, pygan::cuda::describe(some, count, options, s.blocks), by);
    });
  }
  Results<double> results;
  results.loss = s.wide ? loss[0] : narrow_loss[0];
  for (int64_t i = 0; i < all; ++i) {
    results.values.push_back(s.wide ? values[i] : narrow_values[i]);
    results.multipliers.push_back(s.wide ? multipliers[i] : narrow_multipliers[i]);
  }
  return results;
}

inline void close(const char* what, std::size_t map, double got, Real want, Real magnitude,
                  bool wide, Real terms) {
  // Half of the result's precision, and the errors of the sums in the math type: 32 additions and
  // the distance's own rounding.
  const Real unit = wide ? 0x1p-52L : 0x1p-23L;
  if (std::fabs(got - want) <= (terms + 4) * unit * magnitude) return;
  harness::fail("features: wrong %s of map %zu: %.17g instead of %.17Lg", what, map, got, want);
}

// Everything against the definition.
template <class T>
void check(std::vector<std::unique_ptr<Map<T>>>& maps, const Settings& s, Random& random) {
  using M = math_t<T>;
  const Results<double> got = run(maps, s, random);
  const bool wide = s.wide && std::is_same_v<T, double>;
  Real total = 0, magnitude = 0;
  for (std::size_t m = 0; m < maps.size(); ++m) {
    Map<T>& map = *maps[m];
    const std::size_t n = map.fake.size();
    Real distance = 0, real = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const Real d = Real(pygan::to_float(map.fake[i])) - Real(pygan::to_float(map.real[i]));
      distance += s.distance == Distance::l1 ? std::fabs(d) : d * d;
      real += std::fabs(Real(pygan::to_float(map.real[i])));
    }
    const Real count = s.relative ? real : Real(n);
    close("value", m, got.values[m], distance / count, distance / count, wide, 40);
    close("multiplier", m, got.multipliers[m], map.weight / count, std::fabs(map.weight) / count,
          wide, 40);
    total += map.weight * distance / count;
    magnitude += std::fabs(map.weight * distance / count);
    if (s.distance == Distance::l1 && !s.signs) continue;
    for (std::size_t i = 0; i < n; ++i) {
      const M d = M(pygan::to_float(map.fake[i])) - M(pygan::to_float(map.real[i]));
      const int sign = d > 0 ? 1 : d < 0 ? -1 : 0;
      if (s.signs && map.signs[i] != sign) harness::fail("features: wrong sign of map %zu", m);
      const double slope = s.distance == Distance::l1 ? 1.0 : 2.0;
      const M factor = static_cast<M>(slope * 0.75 * got.multipliers[m]);
      const T want = pygan::from_math<T>(factor * (s.distance == Distance::l1 ? M(sign) : d));
      if (std::memcmp(&want, &map.out[i], sizeof(T)) != 0) {
        harness::fail("features: wrong gradient of map %zu, element %zu of %zu", m, i, n);
      }
    }
  }
  close("loss", 0, got.loss, total, magnitude, wide, 40);
  // Another interleaving: the same bits.
  const Results<double> again = run(maps, s, random);
  if (again.loss != got.loss || again.values != got.values) {
    harness::fail("features: other bits in another interleaving");
  }
}

template <class T>
void check_sizes(const std::vector<std::size_t>& sizes, const Settings& s, unsigned misaligned,
                 Random& random) {
  std::vector<std::unique_ptr<Map<T>>> maps;
  for (const std::size_t n : sizes) {
    maps.push_back(std::make_unique<Map<T>>(n, random, misaligned));
  }
  check(maps, s, random);
}

}  // namespace feature_problem
