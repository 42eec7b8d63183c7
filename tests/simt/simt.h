// The CUDA face of the emulator: the names that kernels and launchers use, for g++ instead of nvcc.
//
// csrc/cuda/launch.cuh includes this file when PYGAN_SIMT is defined. Everything a kernel can wait
// in (barrier, warp operation, atomic, fence) passes its call site to the runtime (runtime.h),
// which interleaves the threads and reports misuse by file and line.
#pragma once

#include <cstddef>
#include <cstring>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime.h"
#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)

// A real array type, so that UBSan checks constant bounds; the storage is one heap block per thread
// block and declaration, so that ASan has red zones around it. The tag's address identifies the
// declaration: as in CUDA, each instantiation of a template has an array of its own.
#define PYGAN_SHARED(type, name, count)              \
  static char name##_simt_tag;                       \
  type(&name)[count] = *static_cast<type(*)[count]>( \
      ::simt::shared_array(&name##_simt_tag, sizeof(type[count]), alignof(type), #name))

using cudaStream_t = struct CUstream_st*;  // always null: there is one stream

inline constexpr int warpSize = 32;
inline const uint3& threadIdx = ::simt::thread_index;
inline const uint3& blockIdx = ::simt::block_index;
inline const dim3& blockDim = ::simt::block_dim;
inline const dim3& gridDim = ::simt::grid_dim;

namespace simt {

using Location = std::source_location;

constexpr Site site_of(const Location& at) { return {at.file_name(), static_cast<int>(at.line())}; }

// A grid size that remembers which line asked for it.
struct GridSize {
  unsigned value;
  Site site;
  GridSize(unsigned blocks, Location at = Location::current()) : value(blocks), site(site_of(at)) {}
};

template <class T>
T warp_exchange(WarpOp op, unsigned mask, T value, int lane, int width, const Location& at) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4, "CUDA has no shuffle of this type");
  unsigned long long bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_operation(op, mask, bits, lane, width, site_of(at));
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Atomics are relaxed, as CUDA's are: alone they order nothing. Only one fiber runs at a time and
// none is switched inside, so a load and a store make a read-modify-write; that they are written as
// relaxed C++ atomics is for TSan, which then flags plain accesses to the same word.
template <class T, class Next>
T atomic_update(T* address, const Location& at, Next next) {
  atomic_enter(address, site_of(at));
  const T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  __atomic_store_n(address, next(old), __ATOMIC_RELAXED);
  atomic_leave(address);
  return old;
}

}  // namespace simt

// --- Barriers and fences
// ----------------------------------------------------------------------------

inline void __syncthreads(simt::Location at = simt::Location::current()) {
  simt::barrier(simt::site_of(at));
}
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::Location at = simt::Location::current()) {
  simt::warp_operation(simt::WarpOp::sync, mask, 0, 0, 32, simt::site_of(at));
}
inline void __threadfence(simt::Location at = simt::Location::current()) {
  simt::device_fence(simt::site_of(at));
}
// Weaker than the real one (it orders nothing here): no kernel may rely on it alone.
inline void __threadfence_block(simt::Location at = simt::Location::current()) {
  simt::yield(simt::site_of(at));
}

// --- Warp operations
// --------------------------------------------------------------------------------

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              simt::Location at = simt::Location::current()) {
  return simt::warp_exchange(simt::WarpOp::shuffle, mask, value, lane, width, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 simt::Location at = simt::Location::current()) {
  return simt::warp_exchange(simt::WarpOp::shuffle_up, mask, value, int(delta), width, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   simt::Location at = simt::Location::current()) {
  return simt::warp_exchange(simt::WarpOp::shuffle_down, mask, value, int(delta), width, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  simt::Location at = simt::Location::current()) {
  return simt::warp_exchange(simt::WarpOp::shuffle_xor, mask, value, lane_mask, width, at);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              simt::Location at = simt::Location::current()) {
  return unsigned(
      simt::warp_operation(simt::WarpOp::ballot, mask, predicate != 0, 0, 32, simt::site_of(at)));
}
inline int __any_sync(unsigned mask, int predicate, simt::Location at = simt::Location::current()) {
  return simt::warp_operation(simt::WarpOp::ballot, mask, predicate != 0, 0, 32,
                              simt::site_of(at)) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Location at = simt::Location::current()) {
  return simt::warp_operation(simt::WarpOp::ballot, mask, predicate != 0, 0, 32,
                              simt::site_of(at)) == mask;
}
// Only the calling lane: the programming guide promises no convergence, so nothing may count on
// more.
inline unsigned __activemask() { return 1u << (threadIdx.x % 32); }

// --- Atomics
// ----------------------------------------------------------------------------------------

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value,
            simt::Location at = simt::Location::current()) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned> ||
                    std::is_same_v<T, unsigned long long>,
                "integers only: the project allows no float atomics");
  return simt::atomic_update(address, at, [=](T old) {
    using Unsigned = std::make_unsigned_t<T>;  // CUDA's atomicAdd wraps
    return static_cast<T>(static_cast<Unsigned>(old) + static_cast<Unsigned>(value));
  });
}
inline unsigned atomicInc(unsigned* address, unsigned limit,
                          simt::Location at = simt::Location::current()) {
  return simt::atomic_update(address, at, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value,
             simt::Location at = simt::Location::current()) {
  return simt::atomic_update(address, at, [=](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> desired,
            simt::Location at = simt::Location::current()) {
  return simt::atomic_update(address, at, [=](T old) { return old == expected ? desired : old; });
}

// --- Loads and stores with a cache hint: the hint means nothing here
// ---------------------------------

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
void __stwb(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}

// --- Launch
// -----------------------------------------------------------------------------------------

namespace pygan::cuda {

// Runs the whole grid and returns when it is done. Each thread gets its own copy of the parameters.
template <class... P, class... A>
void launch(void (*kernel)(P...), simt::GridSize grid, unsigned block, cudaStream_t, A&&... args) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> params;
  } call{kernel, {std::forward<A>(args)...}};
  simt::run_grid(
      grid.value, block,
      [](const void* opaque) {
        const Call& own = *static_cast<const Call*>(opaque);
        std::apply(own.kernel, own.params);
      },
      &call, grid.site);
}

}  // namespace pygan::cuda
