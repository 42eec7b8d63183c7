// Philox words for many counters at once.
//
// The generator multiplies 32 x 32 -> 64 bits. The instruction for that (vpmuludq) takes the low
// half of each 64-bit lane; GCC 12 does not find it and falls back on vpmullq (3 micro-ops, a third
// of the speed), so the SIMD word type is spelled out: one counter per 64-bit lane, the even and
// the odd counters in two registers, merged at the end. A round then costs 6 instructions for 8
// counters with AVX-512. Measured on the whole generator, one core of a slow machine: 0.94 G
// normals/s against 0.40.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "math/philox.h"

namespace pygan::cpu::PYGAN_CPU_ISA {

// Until the last round the upper halves of the lanes are never read: multiply_low() takes the low
// ones, a shift drops the rest. merged_low(), merged_high(): the lower (upper) halves of the even
// counters' lanes, and beside each that of the odd ones'.
#if defined(__AVX512F__)
using Lanes = __m512i;
inline constexpr int kLanes = 8;
PYGAN_HD Lanes broadcast(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
PYGAN_HD Lanes plus(Lanes a, Lanes b) { return _mm512_add_epi64(a, b); }
PYGAN_HD Lanes every_other(int64_t i) {
  return _mm512_set_epi64(i + 14, i + 12, i + 10, i + 8, i + 6, i + 4, i + 2, i);
}
PYGAN_HD Lanes multiply_low(Lanes a, Lanes b) { return _mm512_mul_epu32(a, b); }
PYGAN_HD Lanes upper_half(Lanes a) { return _mm512_srli_epi64(a, 32); }
PYGAN_HD Lanes xor3(Lanes a, Lanes b, Lanes c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
PYGAN_HD Lanes merged_low(Lanes even, Lanes odd) {
  return _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
}
PYGAN_HD Lanes merged_high(Lanes even, Lanes odd) {
  return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}
PYGAN_HD void store(uint32_t* to, Lanes a) { _mm512_storeu_si512(to, a); }
#elif defined(__AVX2__)
using Lanes = __m256i;
inline constexpr int kLanes = 4;
PYGAN_HD Lanes broadcast(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
PYGAN_HD Lanes plus(Lanes a, Lanes b) { return _mm256_add_epi64(a, b); }
PYGAN_HD Lanes every_other(int64_t i) { return _mm256_set_epi64x(i + 6, i + 4, i + 2, i); }
PYGAN_HD Lanes multiply_low(Lanes a, Lanes b) { return _mm256_mul_epu32(a, b); }
PYGAN_HD Lanes upper_half(Lanes a) { return _mm256_srli_epi64(a, 32); }
PYGAN_HD Lanes xor3(Lanes a, Lanes b, Lanes c) {
  return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
PYGAN_HD Lanes merged_low(Lanes even, Lanes odd) {
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
PYGAN_HD Lanes merged_high(Lanes even, Lanes odd) {
  return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
PYGAN_HD void store(uint32_t* to, Lanes a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a);
}
#endif

#if defined(__AVX2__)
// Four registers advance together: a round is a chain of 7 cycles, in which they use the
// multipliers for 12; what else the generator does fills the gaps (noise.cpp).
inline constexpr int kPairs = 2;
struct Words {
  Lanes v[2 * kPairs];  // even and odd counters in turn
};
// The same in the order of the counters.
struct OrderedWords {
  Lanes v[kPairs];

  OrderedWords() = default;
  PYGAN_HD OrderedWords(const Words& w) {
    for (int k = 0; k < kPairs; ++k) v[k] = merged_low(w.v[2 * k], w.v[2 * k + 1]);
  }
};

struct Products {
  Words all;

  PYGAN_HD operator Product<Words>() const {
    Product<Words> product{{}, all};
    for (int k = 0; k < 2 * kPairs; ++k) product.high.v[k] = upper_half(all.v[k]);
    return product;
  }
  // The upper halves of the odd ones are in their places: ordering the words after the last round's
  // exclusive or, where both halves were brought down, took 4 instructions more for 16 counters.
  PYGAN_HD operator Product<OrderedWords>() const {
    Product<OrderedWords> product{{}, all};
    for (int k = 0; k < kPairs; ++k) {
      product.high.v[k] = merged_high(all.v[2 * k], all.v[2 * k + 1]);
    }
    return product;
  }
};
PYGAN_HD Products multiply(uint32_t a, const Words& b) {
  const Lanes m = broadcast(a);
  Products products;
  for (int k = 0; k < 2 * kPairs; ++k) products.all.v[k] = multiply_low(m, b.v[k]);
  return products;
}
template <class W>
PYGAN_HD W exclusive_or(W a, const W& b, Lanes key) {
  constexpr int count = sizeof(W) / sizeof(Lanes);
  for (int k = 0; k < count; ++k) a.v[k] = xor3(a.v[k], b.v[k], key);
  return a;
}

// The keys of the rounds as vectors in memory, where loading one costs nothing beside the
// arithmetic; made from a scalar they take the port that multiplies. In both halves of a lane.
class WordKeys {
 public:
  explicit WordKeys(PhiloxKey key) {
    for (int round = 0; round < kPhiloxRounds; ++round) {
      first_[round] = broadcast(kBoth * key.first(round));
      second_[round] = broadcast(kBoth * key.second(round));
    }
  }
  PYGAN_HD Lanes first(int round) const { return first_[round]; }
  PYGAN_HD Lanes second(int round) const { return second_[round]; }

 private:
  static constexpr uint64_t kBoth = 0x100000001;
  Lanes first_[kPhiloxRounds], second_[kPhiloxRounds];
};
#else
using WordKeys = PhiloxKey;
#endif

// w[k][i] = word k of counter first + i, for i < N. No carry may leave the counter's low 32 bits on
// the way: first is a multiple of N, a power of two. (So the high word, and all that depends only
// on it and the step, is the same for the whole block and computed once.)
template <int N>
PYGAN_HD void philox_words(uint64_t first, uint64_t step, const WordKeys& keys,
                           uint32_t (&w)[4][N]) {
#if defined(__AVX2__)
  for (int i = 0; i < N; i += 2 * kPairs * kLanes) {
    Words block[4];
    OrderedWords words[4];
    const Lanes counter = broadcast(first + i);
    for (int k = 0; k < 2 * kPairs; ++k) {
      block[0].v[k] = plus(counter, every_other(k / 2 * 2 * kLanes + k % 2));
      block[1].v[k] = broadcast(first >> 32);
      block[2].v[k] = broadcast(step);
      block[3].v[k] = broadcast(step >> 32);
    }
    philox4x32(block, words, keys);
    for (int k = 0; k < 4; ++k) {
      for (int pair = 0; pair < kPairs; ++pair) {
        store(&w[k][i + 2 * kLanes * pair], words[k].v[pair]);
      }
    }
  }
#else
  for (int i = 0; i < N; ++i) {
    uint32_t block[4] = {static_cast<uint32_t>(first) + i, static_cast<uint32_t>(first >> 32),
                         static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)};
    philox4x32(block, keys);
    for (int k = 0; k < 4; ++k) w[k][i] = block[k];
  }
#endif
}

}  // namespace pygan::cpu::PYGAN_CPU_ISA
