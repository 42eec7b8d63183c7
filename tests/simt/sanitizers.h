// What ASan and TSan must be told about fibers and about CUDA's memory ordering.
//
// SIMT_ASAN / SIMT_TSAN say which one the rest of the program is built with (this file is part of
// the uninstrumented runtime, so the compiler's own macros are not set).
#pragma once

#include <cstddef>

#ifdef SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIMT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace simt {

// A TSan identity: what TSan believes to be a thread, with a clock of its own.
using Identity = void*;

#ifdef SIMT_TSAN
inline Identity current_identity() { return __tsan_get_current_fiber(); }
inline Identity create_identity(const char* name) {
  Identity identity = __tsan_create_fiber(0);
  __tsan_set_fiber_name(identity, name);
  return identity;
}
// Without synchronization: that the emulator ran B after A is no reason for B to see what A wrote.
inline void become(Identity identity) {
  __tsan_switch_to_fiber(identity, __tsan_switch_to_fiber_no_sync);
}
inline void release(const void* key) { __tsan_release(const_cast<void*>(key)); }
inline void acquire(const void* key) { __tsan_acquire(const_cast<void*>(key)); }
#else
inline Identity current_identity() { return nullptr; }
inline Identity create_identity(const char*) { return nullptr; }
inline void become(Identity) {}
inline void release(const void*) {}
inline void acquire(const void*) {}
#endif

#ifdef SIMT_ASAN
inline void start_switch(void** save, const void* stack, std::size_t size) {
  __sanitizer_start_switch_fiber(save, stack, size);
}
inline void finish_switch(void* saved) { __sanitizer_finish_switch_fiber(saved, nullptr, nullptr); }
#else
inline void start_switch(void**, const void*, std::size_t) {}
inline void finish_switch(void*) {}
#endif

}  // namespace simt
