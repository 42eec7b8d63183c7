// Moving N neighboring elements between memory and registers, in 16-byte pieces where the address
// allows it.
#pragma once

#include <cstring>

#include "cuda/launch.cuh"
#include "math/dtype.h"

namespace pygan::cuda {

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vector {
  T v[N];
};

// Whether a whole Vector<T, N> can be moved at p, and at every multiple of its size from there.
template <class T, int N>
__host__ __device__ __forceinline__ bool aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(Vector<T, N>) == 0;
}

template <class T, int N>
__device__ __forceinline__ Vector<T, N> load(const T* p) {
  return *reinterpret_cast<const Vector<T, N>*>(p);
}

template <class T, int N>
__device__ __forceinline__ void to_math(math_t<T> (&to)[N], const Vector<T, N>& from) {
  if constexpr (std::is_same_v<T, bfloat16_t>) {
    // Both halves of a word by one operation each; ptxas takes a number of 16 bits out first.
    uint32_t words[N / 2];
    memcpy(words, from.v, sizeof(words));
#pragma unroll
    for (int k = 0; k < N / 2; ++k) {
      to[2 * k] = float_of(words[k] << 16);
      to[2 * k + 1] = float_of(words[k] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = to_float(from.v[k]);
  }
}

// The 16-byte stores are spelled out: nvcc 13 splits a plain vector store and merges the parts with
// the stores of the tail (seen in the machine code of sm_75 to sm_90).
template <class T, int N>
__device__ __forceinline__ void store(T* p, const Vector<T, N>& from) {
  constexpr int kQuads = sizeof(T) * N / 16;
  static_assert(sizeof(T) * N == 16 * kQuads);
  uint4 quads[kQuads];
  memcpy(quads, from.v, sizeof(quads));
#pragma unroll
  for (int k = 0; k < kQuads; ++k) __stwb(reinterpret_cast<uint4*>(p) + k, quads[k]);
}

// Less than 16 bytes, as one word.
template <class T, int N>
__device__ __forceinline__ void store_word(T* p, const Vector<T, N>& from) {
  using Word = std::conditional_t<sizeof(from) == 8, uint2,
                                  std::conditional_t<sizeof(from) == 4, unsigned, uint16_t>>;
  static_assert(sizeof(Word) == sizeof(from));
  Word word;
  memcpy(&word, from.v, sizeof(word));
  *reinterpret_cast<Word*>(p) = word;
}

}  // namespace pygan::cuda
