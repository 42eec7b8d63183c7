// Fibers and their random interleaving.
//
// One OS thread runs everything. Each CUDA thread is a fiber that goes on until it reaches a point
// where the hardware could run another one (atomic, barrier, warp operation, fence); then a random
// runnable thread of any resident block continues. Nothing else is random, so that the seed
// decides.
#include "scheduler.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace simt {

uint3 thread_index, block_index;

namespace {

constexpr std::size_t kStackBytes = 256 * 1024, kGuardBytes = 4096;
// So many switches without a thread that leaves or is woken: everybody spins.
constexpr unsigned kMaxIdleSwitches = 5'000'000;

Thread host;
Thread* current = &host;
std::vector<Thread*> runnable;
std::uint64_t random_state = 1;
unsigned candidates = 1, idle_switches = 0;

#if defined(__x86_64__)
// swapcontext asks the kernel for the signal mask, and half of all the time went there. These
// builtins only move registers, and no sanitizer intercepts them. Elsewhere they are less well
// tried.
[[noreturn]] __attribute__((noinline)) void leave_for(Thread& next) {
  if (next.has_begun) __builtin_longjmp(next.registers, 1);
  next.has_begun = true;
  setcontext(&next.context);
  std::abort();
}

__attribute__((noinline)) void exchange(Thread& previous, Thread& next) {
  if (__builtin_setjmp(previous.registers) == 0) leave_for(next);
}
#else
void exchange(Thread& previous, Thread& next) { swapcontext(&previous.context, &next.context); }
#endif

void switch_to(Thread* next) {
  Thread* const previous = current;
  current = next;
  thread_index.x = next->index;
  block_index.x = next->block != nullptr ? next->block->index : 0;
  if (next == previous) return;
  start_switch(&previous->asan_stack, next->stack, next->stack_size);
  become(next->identity);
  exchange(*previous, *next);
  finish_switch(previous->asan_stack);
}

void remove_from_runnable(Thread& thread) {
  runnable.back()->run_slot = thread.run_slot;
  runnable[thread.run_slot] = runnable.back();
  runnable.pop_back();
}

[[noreturn]] void report_deadlock(const char* why) {
  std::fprintf(stderr, "simt: deadlock: %s; one thread of each resident block:\n", why);
  print_waiting_threads();
  std::abort();
}

Thread* pick() {
  if (runnable.empty()) report_deadlock("no thread can run");
  if (++idle_switches > kMaxIdleSwitches)
    report_deadlock("every thread waits for one that cannot come (a block not yet started?)");
  // In every other launch each warp has a random priority, and the most urgent of a few candidates
  // runs: chance alone keeps the warps abreast, and what goes wrong when one is far behind never
  // shows.
  Thread* chosen = runnable[random_below(runnable.size())];
  for (unsigned other = 1; other < candidates; ++other) {
    Thread* candidate = runnable[random_below(runnable.size())];
    if (candidate->priority > chosen->priority) chosen = candidate;
  }
  return chosen;
}

}  // namespace

Thread& self() { return *current; }

Thread& host_thread() {
  if (host.stack == nullptr) {
    host.identity = current_identity();
    host.has_begun = true;
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &host.stack, &host.stack_size);
    pthread_attr_destroy(&attributes);
    // Never grown by a thread: TSan would see one thread's allocation freed by another.
    runnable.reserve(std::size_t{kResidentBlocks} * 1024);
  }
  return host;
}

Thread* create_thread(unsigned slot, unsigned index, void (*main)()) {
  auto* thread = new Thread;
  auto* memory = static_cast<char*>(mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (memory == MAP_FAILED) {
    std::perror("simt: stack of a thread");
    std::abort();
  }
  mprotect(memory, kGuardBytes, PROT_NONE);
  thread->stack = memory + kGuardBytes;
  thread->stack_size = kStackBytes;
  thread->index = index;
  char name[48];
  std::snprintf(name, sizeof name, "CUDA thread %u, resident block %u", index, slot);
  thread->identity = create_identity(name);
  getcontext(&thread->context);
  thread->context.uc_stack.ss_sp = thread->stack;
  thread->context.uc_stack.ss_size = thread->stack_size;
  makecontext(&thread->context, main, 0);
  // ASan's swapcontext would wipe the red zones of the whole stack it finds here, at each switch.
  thread->context.uc_stack.ss_size = 0;
  return thread;
}

void begin_thread() { finish_switch(nullptr); }

void set_seed(std::uint64_t seed) { random_state = seed; }

// splitmix64, scaled to n without a division; the slight bias does not matter here.
unsigned random_below(std::size_t n) {
  std::uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<unsigned>(((z ^ (z >> 31)) >> 32) * n >> 32);
}

void choose_policy() { candidates = random_below(2) == 0 ? 1 : 4; }

void wake(Thread& thread) {
  idle_switches = 0;
  thread.state = State::runnable;
  thread.run_slot = static_cast<unsigned>(runnable.size());
  runnable.push_back(&thread);
}

void suspend(State state, Site site) {
  current->state = state;
  current->site = site;
  if (state != State::runnable) remove_from_runnable(*current);
  switch_to(pick());
}

void yield(Site site) { suspend(State::runnable, site); }

void exit_thread() {
  current->state = State::exited;
  idle_switches = 0;
  remove_from_runnable(*current);
}

void resume(Thread& thread) { switch_to(&thread); }

void resume_any() { switch_to(pick()); }

void acquire_for(Thread& thread, const void* key) {
  become(thread.identity);
  acquire(key);
  become(current->identity);
}

const char* describe(State state) {
  switch (state) {
    case State::runnable:
      return "runs, last seen";
    case State::at_barrier:
      return "waits at the barrier";
    case State::in_warp_operation:
      return "waits in the warp operation";
    case State::exited:
      return "has left the kernel";
  }
  return "";
}

void fail(const char* cause, const char* format, ...) {
  std::fprintf(stderr, "simt: %s: block %u, thread %u ", cause, current->block->index,
               current->index);
  std::va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::abort();
}

}  // namespace simt
