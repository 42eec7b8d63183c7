// Moving N neighbouring elements between memory and registers, in 16-byte pieces where the address
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

// Elements lo <= k < hi of the N at p; the others are left alone. `whole` says that these are all
// of them and p is aligned: the same for (nearly) all threads, so the branch costs little.
template <class T, int N>
__device__ __forceinline__ void load(Vector<T, N>& to, const T* p, int lo, int hi, bool whole) {
  if (whole) {
    to = *reinterpret_cast<const Vector<T, N>*>(p);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (k >= lo && k < hi) to.v[k] = p[k];
    }
  }
}

// The 16-byte stores are spelt out: nvcc 13 splits a plain vector store and merges the parts with
// the stores of the tail (seen in the machine code of sm_75 to sm_90).
template <class T, int N>
__device__ __forceinline__ void store(T* p, const Vector<T, N>& from, int lo, int hi, bool whole) {
  constexpr int kQuads = sizeof(T) * N / 16;
  static_assert(sizeof(T) * N == 16 * kQuads);
  if (whole) {
    uint4 quads[kQuads];
    memcpy(quads, from.v, sizeof(quads));
#pragma unroll
    for (int k = 0; k < kQuads; ++k) __stwb(reinterpret_cast<uint4*>(p) + k, quads[k]);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (k >= lo && k < hi) p[k] = from.v[k];
    }
  }
}

// Elements of a group of N from i that lie in [0, n), as a bound for k.
template <int N>
__device__ __forceinline__ int upper_bound(int64_t i, int64_t n) {
  return n - i < N ? static_cast<int>(n - i) : N;
}

}  // namespace pygan::cuda
