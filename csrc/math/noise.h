// Instance noise, element by element.
//
//   out = fma(sigma, z, fma(x, scale, bias)),   z = normal(seed, step, offset + i)
//
// Version 1 of the noise stream; changing it is a breaking change. Element e of step s under `seed`
// comes from Philox4x32-10 with key (seed low, seed high) and counter (c low, c high, s low, s
// high), c = e / 4. Of the four words w0..w3, (w0, w1) give the Box-Muller pair z[4c], z[4c + 1]
// (cosine first) and (w2, w3) give z[4c + 2], z[4c + 3]: one counter is four neighbors in memory,
// which is one 16-byte vector of fp32.
#pragma once

#include "math/normal.h"
#include "math/philox.h"

namespace pygan {

// Division by a number that is the same for a whole tensor, as a product and a shift: for 64-bit
// integers a GPU calls a subroutine of a hundred instructions. With k = 64 + shift and m the
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

}  // namespace pygan
