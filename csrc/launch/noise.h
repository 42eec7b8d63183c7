// The arguments of the kernels of instance noise: tensors, their places in the stream, sigma and
// scale.
#pragma once

#include "math/dtype.h"
#include "math/noise.h"

namespace pygan {

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
  const void* data;  // or null: a number is used instead
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
