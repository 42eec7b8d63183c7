// Philox4x32-10: a counter-based random number generator (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011). A pure function of (counter, key): nothing to store, nothing to
// synchronise, any element of the stream at any time on any device.
//
//   uint32_t w[4] = {c0, c1, c2, c3};
//   pygan::philox4x32(w, pygan::PhiloxKey{key0, key1});      // w now holds four random words
#pragma once

#include "math/hd.h"

namespace pygan {

// The two operations that the generator needs of a word. cpu/noise_words.h gives them to a SIMD type.
template <class Word>
struct Product {
  Word high, low;
};

PYGAN_HD Product<uint32_t> multiply(uint32_t a, uint32_t b) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
#if defined(__CUDA_ARCH__)
  // Taken apart by name: of a shift by 32 ptxas 13.0 makes an addition of zero to the upper half,
  // 20 of them a counter.
  uint32_t high, low;
  asm("mov.b64 {%0, %1}, %2;" : "=r"(low), "=r"(high) : "l"(product));
  return {high, low};
#else
  return {static_cast<uint32_t>(product >> 32), static_cast<uint32_t>(product)};
#endif
}

PYGAN_HD uint32_t exclusive_or(uint32_t a, uint32_t b, uint32_t key) { return a ^ b ^ key; }

// The keys of the rounds.
struct PhiloxKey {
  uint32_t key0, key1;

  PYGAN_HD uint32_t first(int round) const { return key0 + round * 0x9E3779B9u; }
  PYGAN_HD uint32_t second(int round) const { return key1 + round * 0xBB67AE85u; }
};

inline constexpr int kPhiloxRounds = 10;

// One round. It may hand its words on as another type than it took them: cpu/noise_words.h puts them in
// place in the last one.
template <class Word, class Next, class Key>
PYGAN_HD void philox_round(const Word (&w)[4], Next (&next)[4], const Key& key, int round) {
  const Product<Next> p0 = multiply(0xD2511F53u, w[0]);
  const Product<Next> p1 = multiply(0xCD9E8D57u, w[2]);
  const Next w1 = w[1], w3 = w[3];
  next[0] = exclusive_or(p1.high, w1, key.first(round));
  next[1] = p1.low;
  next[2] = exclusive_or(p0.high, w3, key.second(round));
  next[3] = p0.low;
}

template <class Word, class Last, class Key>
PYGAN_HD void philox4x32(Word (&w)[4], Last (&last)[4], const Key& key) {
  PYGAN_UNROLL
  for (int round = 0; round < kPhiloxRounds - 1; ++round) philox_round(w, w, key, round);
  philox_round(w, last, key, kPhiloxRounds - 1);
}
template <class Word, class Key>
PYGAN_HD void philox4x32(Word (&w)[4], const Key& key) {
  philox4x32(w, w, key);
}

}  // namespace pygan
