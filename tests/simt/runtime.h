// What the emulator's runtime offers to simt.h (device side) and to the test drivers (host side).
//
// The runtime itself is compiled without sanitizers, because TSan would otherwise take the
// emulator's own bookkeeping for races between the emulated threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "vector_types.h"

namespace simt {

struct Site {
  const char* file;
  int line;
};

enum class WarpOp { shuffle, shuffle_up, shuffle_down, shuffle_xor, ballot, sync };

// --- Device side: of the thread that runs now
// ---------------------------------------------------------

extern uint3 thread_index, block_index;
extern dim3 block_dim, grid_dim;

// Lets any other resident thread run first.
void yield(Site site);
// Waits for every thread of the block; the same line must be reached by all of them.
void barrier(Site site);
// Waits for every lane of `mask` at the same line; returns this lane's result.
unsigned long long warp_operation(WarpOp op, unsigned mask, unsigned long long value, int lane,
                                  int width, Site site);
// The block's array of this declaration, poisoned (see is_poison) before the first use.
void* shared_array(const void* declaration, std::size_t bytes, std::size_t alignment,
                   const char* name);
// __threadfence, and the two halves of a relaxed atomic on `address`; see fences.h for what they
// order.
void device_fence(Site site);
void atomic_enter(const void* address, Site site);
void atomic_leave(const void* address);

// --- Host side
// ------------------------------------------------------------------------------------------

// Runs kernel(call) once per thread of a 1-D grid. Aborts with a message on any misuse.
void run_grid(unsigned grid, unsigned block, void (*kernel)(const void*), const void* call,
              Site site);

// Grids that were run so far.
unsigned launches();

// The interleaving: the same seed gives the same run. Starts as 1.
void set_seed(std::uint64_t seed);
// Later launches execute only these blocks of their grid (those that exist); an empty list: all of
// them. For index arithmetic on problems too large to run in full.
void run_only_blocks(std::initializer_list<unsigned> blocks);

// Whether a result carries the NaN payload that shared memory holds before it is first written.
bool is_poison(float value);
bool is_poison(double value);

}  // namespace simt
