// Philox4x32-10: a counter-based random number generator (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011). A pure function of (counter, key): nothing to store, nothing to
// synchronise, any element of the stream at any time on any device.
//
//   uint32_t w[4] = {c0, c1, c2, c3};
//   pygan::philox4x32(w, key0, key1);      // w now holds four random words
#pragma once

#include "math/hd.h"

namespace pygan {

// The two operations that the generator needs of a word. cpu/words.h gives them to a SIMD type.
template <class Word>
struct Product {
  Word high, low;
};

PYGAN_HD Product<uint32_t> multiply(uint32_t a, uint32_t b) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
}

PYGAN_HD uint32_t exclusive_or(uint32_t a, uint32_t b, uint32_t key) { return a ^ b ^ key; }

template <class Word>
PYGAN_HD void philox4x32(Word (&w)[4], uint32_t key0, uint32_t key1) {
  PYGAN_UNROLL
  for (int round = 0; round < 10; ++round) {
    const Product<Word> p0 = multiply(0xD2511F53u, w[0]);
    const Product<Word> p1 = multiply(0xCD9E8D57u, w[2]);
    w[0] = exclusive_or(p1.high, w[1], key0);
    w[1] = p1.low;
    w[2] = exclusive_or(p0.high, w[3], key1);
    w[3] = p0.low;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

}  // namespace pygan
