// How TSan learns what __threadfence and relaxed atomics order. (GCC's TSan does not know fences.)
//
// An atomic alone orders nothing. A fence F, then an atomic write, seen by an atomic read, then a
// fence G: then what comes before F is ordered before what comes after G. Both fences are needed. F
// may be executed by another thread than the atomic write if a barrier lies between them, and so
// may G: __threadfence is a sequentially consistent fence, and PTX orders such fences totally and
// makes that order part of causality, in which G before F would contradict what the read saw.
//
// So the clock to pass on at an atomic is the one that was current at F, not the one at the atomic:
// what is written between the two is not ordered. In TSan only an identity can carry a clock from
// one key to another, hence the couriers:
//   sender    takes what was fenced to the address of the atomic;
//   receiver  takes what is found at the address to where a later fence picks it up.
// Each thread that does atomics has a pair, and each block has one for what happened before its
// last barrier. (That __syncwarp passes these clocks on, too, is left out: no kernel here needs
// it.)
#pragma once

#include "sanitizers.h"

namespace simt {

#ifdef SIMT_TSAN

struct Courier {
  Identity identity = nullptr;

  // Adds what was released to `from` to all that this courier holds, and releases that to `to`.
  void carry(const void* from, const void* to) {
    const Identity self = current_identity();
    if (identity == nullptr) identity = create_identity("courier of a fence");
    become(identity);
    acquire(from);
    release(to);
    become(self);
  }
};

struct FenceClocks {
  char fenced = 0, seen = 0;  // keys
  bool has_fenced = false, has_seen = false;
  Courier sender, receiver;
};

inline void fence(FenceClocks& thread, FenceClocks& block) {
  if (thread.has_seen) acquire(&thread.seen);
  if (block.has_seen) acquire(&block.seen);
  release(&thread.fenced);
  thread.has_fenced = true;
}

inline void before_atomic(FenceClocks& thread, const void* address) {
  thread.receiver.carry(address, &thread.seen);
  thread.has_seen = true;
}

inline void after_atomic(FenceClocks& thread, FenceClocks& block, const void* address) {
  if (thread.has_fenced) thread.sender.carry(&thread.fenced, address);
  if (block.has_fenced) block.sender.carry(&block.fenced, address);
}

// A barrier opens: what this thread fenced or saw so far counts for the whole block.
inline void share_at_barrier(FenceClocks& thread, FenceClocks& block) {
  if (thread.has_fenced) {
    block.sender.carry(&thread.fenced, &block.fenced);
    block.has_fenced = true;
    thread.has_fenced = false;
  }
  if (thread.has_seen) {
    block.receiver.carry(&thread.seen, &block.seen);
    block.has_seen = true;
    thread.has_seen = false;
  }
}

#else

struct FenceClocks {};
inline void fence(FenceClocks&, FenceClocks&) {}
inline void before_atomic(FenceClocks&, const void*) {}
inline void after_atomic(FenceClocks&, FenceClocks&, const void*) {}
inline void share_at_barrier(FenceClocks&, FenceClocks&) {}

#endif

}  // namespace simt
