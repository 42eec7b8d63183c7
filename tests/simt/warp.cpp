// What threads do together: barriers, warp operations, fences and atomics; and the checks that they
// really do it together.
#include "scheduler.h"

namespace simt {

namespace {

bool same(Site a, Site b) {
  return a.line == b.line && (a.file == b.file || __builtin_strcmp(a.file, b.file) == 0);
}

unsigned lane_of(const Thread& thread) { return thread.index % 32; }
Warp& warp_of(const Thread& thread) { return thread.block->warps[thread.index / 32]; }

const char* name_of(WarpOp op) {
  switch (op) {
    case WarpOp::shuffle:
      return "shuffle";
    case WarpOp::shuffle_up:
      return "shuffle up";
    case WarpOp::shuffle_down:
      return "shuffle down";
    case WarpOp::shuffle_xor:
      return "shuffle xor";
    case WarpOp::ballot:
      return "ballot";
    case WarpOp::sync:
      return "__syncwarp";
  }
  return "";
}

// Every lane of the mask must exist and must still be able to come.
void check_mask(unsigned mask, WarpOp op, Site site) {
  const Thread& me = self();
  if ((mask >> lane_of(me) & 1) == 0)
    fail("bad mask", "calls a %s at %s:%d with mask 0x%08x, which lacks its own lane %u",
         name_of(op), site.file, site.line, mask, lane_of(me));
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const unsigned index = me.index / 32 * 32 + lane;
    if (index >= me.block->threads.size())
      fail("bad mask", "calls a %s at %s:%d with mask 0x%08x, but the block has no thread %u",
           name_of(op), site.file, site.line, mask, index);
    const Thread& other = *me.block->threads[index];
    if (other.state == State::exited)
      fail("divergent warp operation",
           "calls a %s at %s:%d with mask 0x%08x, but lane %u (thread %u) has left the kernel",
           name_of(op), site.file, site.line, mask, lane, index);
    if (other.state == State::at_barrier)
      fail("divergent warp operation",
           "calls a %s at %s:%d with mask 0x%08x, but lane %u (thread %u) waits at the barrier "
           "%s:%d",
           name_of(op), site.file, site.line, mask, lane, index, other.site.file, other.site.line);
  }
}

// The operation that the running lane takes part in: one that waits for it, or a new one. A lane
// may be named by other pending operations and come to them later, unless their lanes are needed
// here.
PendingWarpOp& join(unsigned mask, WarpOp op, Site site) {
  Thread& me = self();
  Warp& warp = warp_of(me);
  PendingWarpOp* own = nullptr;
  for (unsigned open = warp.open; open != 0 && own == nullptr; open &= open - 1) {
    PendingWarpOp& other = warp.pending[__builtin_ctz(open)];
    if ((other.mask >> lane_of(me) & 1) == 0) continue;
    if (other.mask == mask && other.op == op && same(other.site, site)) {
      own = &other;
      continue;
    }
    if ((other.arrived & mask) == 0) continue;
    if (other.mask != mask)
      fail("bad mask",
           "calls a %s at %s:%d with mask 0x%08x while lanes wait for it at %s:%d with mask 0x%08x",
           name_of(op), site.file, site.line, mask, other.site.file, other.site.line, other.mask);
    fail("divergent warp operation",
         "calls a %s at %s:%d while lanes of its mask wait in a %s at %s:%d", name_of(op),
         site.file, site.line, name_of(other.op), other.site.file, other.site.line);
  }
  if (own == nullptr) {
    check_mask(mask, op, site);  // once: later, whoever leaves is told that he is waited for
    const int slot = __builtin_ctz(~warp.open);
    warp.open |= 1u << slot;
    own = &warp.pending[slot];
    own->mask = mask;
    own->op = op;
    own->site = site;
    own->arrived = 0;
  }
  own->arrived |= 1u << lane_of(me);
  return *own;
}

unsigned long long result_of(const PendingWarpOp& pending, int lane) {
  if (pending.op == WarpOp::sync) return 0;
  if (pending.op == WarpOp::ballot) {
    unsigned ballot = 0;
    for (int i = 0; i < 32; ++i)
      if ((pending.mask >> i & 1) != 0 && pending.values[i] != 0) ballot |= 1u << i;
    return ballot;
  }
  const int width = pending.widths[lane], argument = pending.lanes[lane];
  if (width < 1 || width > 32 || (width & (width - 1)) != 0)
    fail("bad mask", "shuffles at %s:%d with width %d, which is no power of two up to 32",
         pending.site.file, pending.site.line, width);
  const int first = lane / width * width, last = first + width - 1;
  int source = lane;
  switch (pending.op) {
    case WarpOp::shuffle:
      source = first + (argument & (width - 1));
      break;
    case WarpOp::shuffle_up:
      source = lane - argument < first ? lane : lane - argument;
      break;
    case WarpOp::shuffle_down:
      source = lane + argument > last ? lane : lane + argument;
      break;
    default:
      source = (lane ^ argument) > last ? lane : lane ^ argument;
      break;
  }
  if (source < 0 || (pending.mask >> source & 1) == 0)
    fail("bad mask", "completes a shuffle at %s:%d where lane %d reads lane %d, not in mask 0x%08x",
         pending.site.file, pending.site.line, lane, source, pending.mask);
  return pending.values[source];
}

}  // namespace

void check_not_expected_in_warp_operation(const char* instead) {
  const Thread& me = self();
  const Warp& warp = warp_of(me);
  for (unsigned open = warp.open; open != 0; open &= open - 1) {
    const PendingWarpOp& pending = warp.pending[__builtin_ctz(open)];
    if ((pending.mask >> lane_of(me) & 1) != 0)
      fail("divergent warp operation",
           "%s, but lanes of its warp wait for it in a %s at %s:%d with mask 0x%08x", instead,
           name_of(pending.op), pending.site.file, pending.site.line, pending.mask);
  }
}

void barrier(Site site) {
  Thread& me = self();
  Block& block = *me.block;
  check_not_expected_in_warp_operation("waits at a barrier");
  if (block.exited > 0)
    fail("divergent barrier", "waits at the barrier %s:%d, but %u threads have left the kernel",
         site.file, site.line, block.exited);
  if (block.at_barrier > 0 && !same(block.barrier_site, site))
    fail("divergent barrier", "waits at the barrier %s:%d while %u threads wait at %s:%d",
         site.file, site.line, block.at_barrier, block.barrier_site.file, block.barrier_site.line);
  block.barrier_site = site;
  release(&block.barrier_key);
  if (++block.at_barrier < block.threads.size()) {
    suspend(State::at_barrier, site);
    return;
  }
  block.at_barrier = 0;
  for (Thread* other : block.threads) {
    acquire_for(*other, &block.barrier_key);
    share_at_barrier(other->fences, block.fences);
    if (other != &me) wake(*other);
  }
  yield(site);
}

unsigned long long warp_operation(WarpOp op, unsigned mask, unsigned long long value, int lane,
                                  int width, Site site) {
  Thread& me = self();
  PendingWarpOp& pending = join(mask, op, site);
  const unsigned my_lane = lane_of(me);
  pending.values[my_lane] = value;
  pending.lanes[my_lane] = lane;
  pending.widths[my_lane] = width;
  // Only __syncwarp orders memory; a shuffle or a ballot does not.
  if (op == WarpOp::sync) release(&pending.sync_key);
  if (pending.arrived != mask) {
    suspend(State::in_warp_operation, site);
    return me.result;
  }
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1) == 0) continue;
    Thread& other = *me.block->threads[me.index / 32 * 32 + unsigned(i)];
    other.result = result_of(pending, i);
    if (op == WarpOp::sync) acquire_for(other, &pending.sync_key);
    if (&other != &me) wake(other);
  }
  Warp& warp = warp_of(me);
  warp.open &= ~(1u << (&pending - warp.pending));
  yield(site);
  return me.result;
}

void device_fence(Site site) {
  yield(site);
  fence(self().fences, self().block->fences);
}

void atomic_enter(const void* address, Site site) {
  yield(site);
  before_atomic(self().fences, address);
}

void atomic_leave(const void* address) {
  after_atomic(self().fences, self().block->fences, address);
}

}  // namespace simt
