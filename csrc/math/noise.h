// Instance noise, element by element, and what a kernel needs to know to draw it.
//
//   out = fma(sigma, z, fma(x, scale, bias)),   z = normal(seed, step, offset + i)
//
// Version 1 of the noise stream; changing it is a breaking change. Element e of step s under `seed`
// comes from Philox4x32-10 with key (seed low, seed high) and counter (c low, c high, s low, s
// high), c = e / 4. Of the four words w0..w3, (w0, w1) give the Box-Muller pair z[4c], z[4c + 1]
// (cosine first) and (w2, w3) give z[4c + 2], z[4c + 3]: one counter is four neighbours in memory,
// which is one 16-byte vector of fp32.
#pragma once

#include "math/dtype.h"
#include "math/normal.h"
#include "math/philox.h"

namespace pygan {

// Division by a number that is the same for a whole tensor: a product and a shift, where a GPU
// takes a subroutine of a hundred instructions for 64-bit integers. With k = 64 + shift and m the
// largest integer below 2^k / d, floor(i / d) = floor(m (i + 1) / 2^k) for 0 <= i < 2^63 - 1 and 0
// < d < 2^63 (Robison 2005, "N-bit unsigned division via N-bit multiply-add").
struct Divisor {
  int64_t value;
  uint64_t multiplier;
  int shift;

  Divisor() = default;
  explicit Divisor(int64_t d) : value(d), shift(0) {
    while (shift < 62 && (int64_t{2} << shift) < d) ++shift;
    const auto half = static_cast<unsigned __int128>(1) << 63 << shift;  // of 2^k
    multiplier = static_cast<uint64_t>((half - 1 + half) / static_cast<uint64_t>(d));
  }
  PYGAN_HD int64_t quotient(int64_t i) const {
    const auto product = static_cast<unsigned __int128>(multiplier) * static_cast<uint64_t>(i + 1);
    return static_cast<int64_t>(static_cast<uint64_t>(product >> 64) >> shift);
  }
};

// One tensor. Several are drawn in one launch, each from a step of its own.
struct NoisePiece {
  const void* x;  // [n] elements in memory order
  void* out;      // [n]; may be x
  int64_t n;
  int64_t first_sample;  // index of the first sample among those that have values of their own
  uint64_t offset;       // of x[0] in the stream
  double scale, bias;
  Divisor sample_size;  // elements that share sigma and scale: n, or those of a sample
  uint32_t step;        // on top of the state's
};

// Sigma or scale of all pieces, in memory: one value for each of their samples.
struct NoiseFactor {
  const void* data;  // or null: a number takes its place
  bool is_double;    // else fp32
};

struct NoiseOptions {
  Dtype x_dtype, out_dtype;
  NoiseFactor sigma, scale;  // with a value per sample, sigma is in memory
  double sigma_value;
  const int64_t* state;  // {seed, step}
};

// sums[k] = sum of grad[i] z[i] over sample k: the gradient of sigma.
struct NoiseDotArgs {
  const void* grad;  // [n]
  Dtype dtype;
  int64_t n, sample_size;
  const int64_t* state;
  uint64_t offset;
};

// Elements that are summed into one fp64 partial: the fixed partition that makes sums
// deterministic.
inline constexpr int64_t kNoiseChunk = 1 << 14;

PYGAN_HD void counter_normals(uint64_t counter, uint64_t step, uint64_t seed, float (&z)[4]) {
  uint32_t w[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                   static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
  philox4x32(w, PhiloxKey{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const NormalPair a = normal_pair(w[0], w[1]), b = normal_pair(w[2], w[3]);
  z[0] = a.z0, z[1] = a.z1, z[2] = b.z0, z[3] = b.z1;
}

template <class T>
PYGAN_HD T add_noise(T x, T sigma, float z, T scale, T bias) {
  return fma_(sigma, static_cast<T>(z), fma_(x, scale, bias));
}

// The k-th value, which is in memory.
template <class T>
PYGAN_HD T load_factor(const NoiseFactor& factor, int64_t k) {
  if (factor.is_double) return static_cast<T>(static_cast<const double*>(factor.data)[k]);
  return static_cast<T>(static_cast<const float*>(factor.data)[k]);
}

template <class T>
PYGAN_HD T sigma_of(const NoisePiece& piece, const NoiseOptions& o, int64_t sample) {
  if (o.sigma.data == nullptr) return static_cast<T>(o.sigma_value);
  return load_factor<T>(o.sigma, piece.first_sample + sample);
}
template <class T>
PYGAN_HD T scale_of(const NoisePiece& piece, const NoiseOptions& o, int64_t sample) {
  if (o.scale.data == nullptr) return static_cast<T>(piece.scale);
  return load_factor<T>(o.scale, piece.first_sample + sample);
}

}  // namespace pygan
