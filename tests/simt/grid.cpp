// Grids and blocks: launches, which blocks are resident, and their shared memory.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "scheduler.h"

namespace simt {

dim3 block_dim, grid_dim;

namespace {

constexpr std::size_t kMaxSharedBytes = 48 * 1024;
// A NaN as half, bfloat16, float and double, and recognisable afterwards.
constexpr std::uint16_t kPoison = 0xfff5;

struct Grid {
  void (*kernel)(const void*) = nullptr;
  const void* call = nullptr;
  std::vector<unsigned> waiting;  // blocks not yet started; the last one is the next
  std::vector<void*> shared;      // freed when the grid is done
  unsigned live_blocks = 0;
  bool running = false;
};

Grid grid;
Block slots[kResidentBlocks];
std::vector<unsigned> only_blocks;
char launch_key, finish_key;
unsigned launch_count = 0;

void start_block(Block& block, unsigned index) {
  block.index = index;
  block.exited = block.at_barrier = 0;
  block.shared.clear();
  unsigned priority = 0;
  for (Thread* thread : block.threads) {
    if (thread->index % 32 == 0) priority = random_below(1u << 16);
    thread->priority = priority;
    wake(*thread);
  }
}

// The running thread has left the kernel: its block may be done, and then the grid.
void retire() {
  Block& block = *self().block;
  check_not_expected_in_warp_operation("leaves the kernel");
  if (block.at_barrier > 0)
    fail("divergent barrier", "leaves the kernel while %u threads wait at the barrier %s:%d",
         block.at_barrier, block.barrier_site.file, block.barrier_site.line);
  exit_thread();
  if (++block.exited == block.threads.size()) {
    if (!grid.waiting.empty()) {
      const unsigned next = grid.waiting.back();
      grid.waiting.pop_back();
      start_block(block, next);
    } else if (--grid.live_blocks == 0) {
      return resume(host_thread());
    }
  }
  resume_any();
}

void fiber_main() {
  begin_thread();
  for (;;) {
    acquire(&launch_key);
    grid.kernel(grid.call);
    release(&finish_key);
    retire();
  }
}

// The threads a slot has for this block size; those it ever had are kept for reuse.
void prepare_slot(unsigned slot, unsigned block_size) {
  static std::vector<Thread*> pools[kResidentBlocks];
  auto& pool = pools[slot];
  while (pool.size() < block_size)
    pool.push_back(create_thread(slot, static_cast<unsigned>(pool.size()), fiber_main));
  Block& block = slots[slot];
  block.threads.assign(pool.begin(), pool.begin() + block_size);
  block.warps.assign((block_size + 31) / 32, Warp{});
  for (Thread* thread : block.threads) thread->block = &block;
}

[[noreturn]] void bad_launch(const char* what, unsigned long long got, Site site) {
  std::fprintf(stderr, "simt: bad launch at %s:%d: %s, got %llu\n", site.file, site.line, what,
               got);
  std::abort();
}

void choose_blocks(unsigned count) {
  grid.waiting.clear();
  if (only_blocks.empty()) {
    for (unsigned i = 0; i < count; ++i) grid.waiting.push_back(i);
  } else {
    for (unsigned i : only_blocks)
      if (i < count) grid.waiting.push_back(i);
  }
  for (std::size_t i = grid.waiting.size(); i > 1; --i)
    std::swap(grid.waiting[i - 1], grid.waiting[random_below(i)]);
}

}  // namespace

void print_waiting_threads() {
  for (const Block& block : slots) {
    for (const Thread* thread : block.threads) {
      if (thread->state == State::exited) continue;
      std::fprintf(stderr, "  block %u, thread %u %s at %s:%d\n", block.index, thread->index,
                   describe(thread->state), thread->site.file, thread->site.line);
      break;
    }
  }
}

void* shared_array(const void* declaration, std::size_t bytes, std::size_t alignment,
                   const char* name) {
  Block& block = *self().block;
  void* data = nullptr;
  for (const SharedArray& array : block.shared)
    if (array.declaration == declaration) data = array.data;
  if (data == nullptr) {
    if (bytes > kMaxSharedBytes)
      fail("bad launch", "shared array %s has %zu bytes, more than %zu", name, bytes,
           kMaxSharedBytes);
    // The host allocates: its clock holds nothing that a thread did, so that no thread becomes
    // ordered after another one by finding the array there.
    become(host_thread().identity);
    if (posix_memalign(&data, alignment < 16 ? 16 : alignment, bytes) != 0) std::abort();
    const std::uint16_t pattern = kPoison;
    for (std::size_t i = 0; i < bytes; ++i)
      static_cast<char*>(data)[i] = reinterpret_cast<const char*>(&pattern)[i % 2];
    block.shared.push_back({declaration, data});
    grid.shared.push_back(data);
    release(&launch_key);
    become(self().identity);
  }
  acquire(&launch_key);
  return data;
}

void run_grid(unsigned grid_size, unsigned block_size, void (*kernel)(const void*),
              const void* call, Site site) {
  if (grid.running) bad_launch("a launch from inside a kernel", grid_size, site);
  if (grid_size < 1 || grid_size > 0x7fffffffu)
    bad_launch("the grid must have 1 to 2^31 - 1 blocks", grid_size, site);
  if (block_size < 1 || block_size > 1024)
    bad_launch("the block must have 1 to 1024 threads", block_size, site);
  ++launch_count;
  host_thread();
  choose_policy();
  grid.kernel = kernel;
  grid.call = call;
  grid.running = true;
  grid_dim = dim3(grid_size);
  block_dim = dim3(block_size);
  choose_blocks(grid_size);
  release(&launch_key);
  grid.live_blocks = 0;
  while (grid.live_blocks < kResidentBlocks && !grid.waiting.empty()) {
    const unsigned slot = grid.live_blocks++;
    prepare_slot(slot, block_size);
    start_block(slots[slot], grid.waiting.back());
    grid.waiting.pop_back();
  }
  if (grid.live_blocks > 0) resume_any();
  acquire(&finish_key);
  for (void* data : grid.shared) std::free(data);
  grid.shared.clear();
  for (Block& block : slots) block.threads.clear();
  grid.running = false;
}

unsigned launches() { return launch_count; }

void run_only_blocks(std::initializer_list<unsigned> blocks) { only_blocks = blocks; }

bool is_poison(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  // Arithmetic sets the quiet bit and may flip the sign; the rest of the payload survives. The
  // second pattern is the payload of a poisoned double that was rounded to float.
  return value != value && ((bits & 0xffff) == kPoison || (bits & 0x3fffff) == 0x2fffaf);
}

bool is_poison(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return value != value && ((bits & 0xffff) == kPoison || is_poison(static_cast<float>(value)));
}

}  // namespace simt
