// Two standard normals from two random words: Box & Muller (1958), exactly specified.
//
//   u = (w0 + 1/2) / 2^32 in (0, 1],   r = sqrt(-2 ln u),   theta = 2 pi w1 / 2^32
//   z0 = r cos(theta),   z1 = r sin(theta)
//
// Only +, -, x, fma, sqrt and integer operations, all exactly rounded, so every device gives the
// same bits. All 32 bits of w0 count: |z| reaches sqrt(-2 ln 2^-33) = 6.76. The polynomials are
// minimax in relative error (tools/minimax.py): 1.7e-7 for the logarithm (halved by the square
// root), 3.2e-9 and 3.9e-8 for sine and cosine.
#pragma once

#include "math/hd.h"

namespace pygan {

// -2 ln((w + 1/2) / 2^32)
PYGAN_HD float minus_two_log_uniform(uint32_t w) {
  const float u = fma_(static_cast<float>(w), 0x1p-32f, 0x1p-33f);
  // u = m 2^e with m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) leaves e in the
  // exponent field; e is used as e * 2^23, the field in place, which saves the shift down.
  const uint32_t e_field = (bits_of(u) - 0x3f3504f3u) & 0xff800000u;
  const float f = float_of(bits_of(u) - e_field) - 1.0f;
  const float over_f =
      polynomial(f, -0x1.fffffep+0f, 0x1.00007ap+0f, -0x1.5559dcp-1f, 0x1.ff6238p-2f,
                 -0x1.978e2ap-2f, 0x1.614c08p-2f, -0x1.4c3d22p-2f, 0x1.9dfaaap-3f);
  const float e = static_cast<float>(static_cast<int32_t>(e_field));
  return fma_(f, over_f, e * -0x1.62e43p-23f);  // -2 ln 2 / 2^23
}

struct NormalPair {
  float z0, z1;
};

PYGAN_HD NormalPair normal_pair_of_radius(float squared, uint32_t w1) {
  const float r = square_root(squared);
  // theta = (q + y) quarter turns, q = 0..3 the nearest and y in [-1/2, 1/2): y comes from the low
  // 30 bits read as signed, q from the top two bits after rounding.
  const float y = static_cast<float>(static_cast<int32_t>(w1 << 2)) * 0x1p-32f;
  const float y2 = y * y;
  const float sin_y =
      r * (y * polynomial(y2, 0x1.921fb6p+0f, -0x1.4abbbap-1f, 0x1.465e92p-4f, -0x1.2d9302p-8f));
  const float cos_y = r * polynomial(y2, 1.0f, -0x1.3bd39cp+0f, 0x1.03b09p-2f, -0x1.4e844cp-6f);
  // Bit 31 of q: lower half plane; bit 30: sine and cosine are swapped, by exclusive or.
  const uint32_t q = w1 + 0x20000000u, up = q << 1;
  const uint32_t swap = static_cast<uint32_t>(static_cast<int32_t>(up) >> 31);
  const uint32_t difference = (bits_of(sin_y) ^ bits_of(cos_y)) & swap;
  return {float_of(bits_of(cos_y) ^ difference ^ ((q ^ up) & 0x80000000u)),
          float_of(bits_of(sin_y) ^ difference ^ (q & 0x80000000u))};
}

PYGAN_HD NormalPair normal_pair(uint32_t w0, uint32_t w1) {
  return normal_pair_of_radius(minus_two_log_uniform(w0), w1);
}

}  // namespace pygan
