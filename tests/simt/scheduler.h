// The runtime's own state: fibers, warps, blocks, and the functions by which they hand over
// control.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <vector>

#include "fences.h"
#include "runtime.h"
#include "sanitizers.h"

namespace simt {

// Blocks in flight at once, which can race with each other.
constexpr unsigned kResidentBlocks = 3;

enum class State { runnable, at_barrier, in_warp_operation, exited };

struct Block;

// One CUDA thread: a fiber and a TSan identity. Both are reused by later blocks in the same slot.
struct Thread {
  void* registers[5];  // to go on with, see exchange()
  Block* block = nullptr;
  unsigned index = 0;  // threadIdx.x
  State state = State::exited;
  unsigned run_slot = 0;          // its position in the list of runnable threads
  unsigned priority = 0;          // of its warp in this block; see pick()
  unsigned long long result = 0;  // of its last warp operation
  Site site{"", 0};               // where it waits
  void* stack = nullptr;
  std::size_t stack_size = 0;
  void* asan_stack = nullptr;
  Identity identity = nullptr;
  FenceClocks fences;
  bool has_begun = false;
  // To begin with (or to go on). Last, so that what is needed all the time lies together.
  ucontext_t context{};
};

// A warp operation that some of its lanes have reached.
struct PendingWarpOp {
  unsigned mask = 0, arrived = 0;  // arrived == 0: nothing pending
  WarpOp op{};
  Site site{"", 0};
  char sync_key = 0;
  unsigned long long values[32];
  int lanes[32], widths[32];
};

struct Warp {
  PendingWarpOp pending[32];  // more cannot be: each holds a lane
  unsigned open = 0;          // which of them have lanes that wait
};

struct SharedArray {
  const void* declaration;
  void* data;
};

// A resident block. The object is a slot: when a block is done, the next one of the grid moves in.
struct Block {
  unsigned index = 0;  // blockIdx.x
  unsigned exited = 0, at_barrier = 0;
  Site barrier_site{"", 0};  // where those at_barrier wait
  char barrier_key = 0;
  FenceClocks fences;
  std::vector<Thread*> threads;
  std::vector<Warp> warps;
  std::vector<SharedArray> shared;
};

// --- scheduler.cpp

// The thread that runs, and the one that launches grids.
Thread& self();
Thread& host_thread();

// A fiber that will run main(), which begins with begin_thread() and never returns.
Thread* create_thread(unsigned slot, unsigned index, void (*main)());
void begin_thread();

// Gives the processor to another runnable thread; the caller's state says whether it may be resumed
// before somebody wakes it. Reports a deadlock when nobody can run.
void suspend(State state, Site site);
void wake(Thread& thread);
// The running thread is no more to be resumed; one of the other two must follow.
void exit_thread();
void resume(Thread& thread);
void resume_any();

// How this grid is to be interleaved.
void choose_policy();
unsigned random_below(std::size_t n);

// Orders what released `key` before what `thread`, which waits, will do. Done for all waiting
// threads at the moment their barrier opens: were it done by each as it goes on, one that has
// meanwhile arrived at the next barrier would seem ordered before it.
void acquire_for(Thread& thread, const void* key);

// Reports misuse by the running thread and aborts.
[[noreturn]] void fail(const char* cause, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
const char* describe(State state);

// --- warp.cpp

// The running thread goes to a barrier or leaves: no pending warp operation may count on it.
void check_not_expected_in_warp_operation(const char* instead);

// --- grid.cpp

// To stderr: one thread of each resident block, and where it is.
void print_waiting_threads();

}  // namespace simt
