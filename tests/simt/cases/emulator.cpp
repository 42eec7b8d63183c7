// The emulator itself: `emulator semantics <seed>` checks what each operation does;
// `emulator <misuse> <seed>` commits one misuse, which must abort with a message that names it.
#include <string>

#include "harness.h"
#include "simt.h"

namespace {

using harness::Buffer;
using pygan::cuda::launch;

constexpr unsigned kFull = 0xffffffffu;

__global__ void shuffles(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  unsigned* row = out + threadIdx.x * 8;
  row[0] = __shfl_sync(kFull, lane, 5);
  row[1] = __shfl_up_sync(kFull, lane, 3);
  row[2] = __shfl_down_sync(kFull, lane, 3, 8);
  row[3] = __shfl_xor_sync(kFull, lane, 16);
  row[4] = __ballot_sync(kFull, lane % 3 == 0);
  row[5] = unsigned(__any_sync(kFull, lane == 7)) + 2 * unsigned(__all_sync(kFull, lane < 7));
  // Lanes of one warp in two groups, each with a mask and a line of its own.
  if (lane < 16) {
    row[6] = __shfl_down_sync(0x0000ffffu, lane, 1, 16);
  } else {
    row[6] = __shfl_down_sync(0xffff0000u, lane, 2, 16);
  }
  row[7] = unsigned(__shfl_xor_sync(kFull, 0.5 * lane, 1) * 2);
}

void check_shuffles() {
  Buffer<unsigned> out(64 * 8);
  launch(shuffles, 1, 64, nullptr, out.data());
  for (unsigned i = 0; i < 64; ++i) {
    const unsigned lane = i % 32, within = lane % 16, step = lane < 16 ? 1 : 2;
    const unsigned expected[8] = {5,
                                  lane < 3 ? lane : lane - 3,
                                  lane % 8 + 3 > 7 ? lane : lane + 3,
                                  lane ^ 16,
                                  0x49249249u,
                                  1,
                                  within + step > 15 ? lane : lane + step,
                                  lane ^ 1};
    for (unsigned k = 0; k < 8; ++k)
      if (out[i * 8 + k] != expected[k])
        harness::fail("shuffle %u: lane %u got %u instead of %u", k, lane, out[i * 8 + k],
                      expected[k]);
  }
}

__global__ void atomics(unsigned* counters, unsigned long long* wide, int* exchanged) {
  atomicAdd(&counters[0], 3u);
  atomicInc(&counters[1], 9);
  atomicAdd(wide, 1ull << 33);
  if (atomicCAS(&counters[2], 0, blockIdx.x + 1) == 0) atomicAdd(&counters[3], 1u);
  if (atomicExch(exchanged, 1) == 0) atomicAdd(&counters[4], 1u);
}

void check_atomics() {
  Buffer<unsigned> counters(5);
  Buffer<unsigned long long> wide(1);
  Buffer<int> exchanged(1);
  std::memset(counters.data(), 0, 5 * sizeof(unsigned));
  wide[0] = 0;
  exchanged[0] = 0;
  launch(atomics, 7, 33, nullptr, counters.data(), wide.data(), exchanged.data());
  if (counters[0] != 3 * 231 || counters[1] != 231 % 10 || wide[0] != 231ull << 33 ||
      counters[3] != 1 || counters[4] != 1)
    harness::fail("atomics: wrong result");
}

template <int tag>
__device__ unsigned* array_of_instance() {
  PYGAN_SHARED(unsigned, array, 4);
  return array;
}

// Neighbors exchange values through shared memory, ordered by __syncwarp; arrays are distinct.
__global__ void shared_memory(unsigned* bad) {
  PYGAN_SHARED(unsigned, values, 64);
  const unsigned i = threadIdx.x;
  for (unsigned round = 0; round < 3; ++round) {
    values[i] = 100 * round + i;
    __syncwarp();
    if (values[i ^ 1] != 100 * round + (i ^ 1)) atomicAdd(bad, 1u);
    __syncwarp();
  }
  if (array_of_instance<1>() == array_of_instance<2>()) atomicAdd(bad, 1u);
  PYGAN_SHARED(float, never_written, 2);
  if (never_written[1] == never_written[1]) atomicAdd(bad, 1u);
  if (!simt::is_poison(never_written[0] * -2.0f) || !simt::is_poison(double(never_written[1])))
    atomicAdd(bad, 1u);
}

void check_shared_memory() {
  Buffer<unsigned> bad(1);
  bad[0] = 0;
  launch(shared_memory, 5, 64, nullptr, bad.data());
  if (bad[0] != 0) harness::fail("shared memory: %u surprises", bad[0]);
}

// The order in which threads arrive must depend on the seed and on nothing else.
__global__ void order(unsigned* count, unsigned* arrivals) {
  arrivals[atomicAdd(count, 1u)] = blockIdx.x * blockDim.x + threadIdx.x;
}

std::uint64_t order_for(std::uint64_t seed) {
  Buffer<unsigned> count(1), arrivals(96);
  count[0] = 0;
  simt::set_seed(seed);
  launch(order, 3, 32, nullptr, count.data(), arrivals.data());
  std::uint64_t hash = 0;
  for (unsigned i = 0; i < 96; ++i) hash = hash * 1099511628211u + arrivals[i];
  return hash;
}

void check_semantics(std::uint64_t first_seed) {
  for (std::uint64_t seed = first_seed; seed < first_seed + 5; ++seed) {
    simt::set_seed(seed);
    check_shuffles();
    check_atomics();
    check_shared_memory();
  }
  if (order_for(1) != order_for(1)) harness::fail("the same seed gave another interleaving");
  if (order_for(1) == order_for(2)) harness::fail("two seeds gave the same interleaving");
}

__global__ void nothing() {}
__global__ void exits_before_barrier() {
  if (threadIdx.x > 0) __syncthreads();
}
__global__ void two_barriers() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void lane_not_in_mask() { __shfl_sync(0x1u, 1, 0); }
__global__ void lane_not_in_block() { __ballot_sync(kFull, 1); }
__global__ void reads_outside_mask() {
  if (threadIdx.x < 2) __shfl_sync(0x3u, 1, 7);
}
__global__ void different_masks() {
  if (threadIdx.x == 0) {
    __syncwarp(0x3u);
  } else {
    __syncwarp(0x7u);
  }
}
__global__ void different_operations() {
  if (threadIdx.x < 16) {
    __shfl_sync(kFull, 1, 0);
  } else {
    __ballot_sync(kFull, 1);
  }
}
// Each lane waits for the next one in another operation.
__global__ void cyclic_wait() {
  const unsigned lane = threadIdx.x;
  if (lane < 3) __syncwarp(1u << lane | 1u << (lane + 1) % 3);
}
// Only the block that is started last would let the others go on.
__global__ void waits_for_all_blocks(unsigned* count) {
  atomicAdd(count, 1u);
  while (atomicAdd(count, 0u) < gridDim.x) {
  }
}
__global__ void too_much_shared() {
  PYGAN_SHARED(float, large, 12289);
  large[0] = 0;
}
__global__ void beyond_shared(float* out, unsigned i) {
  PYGAN_SHARED(float, array, 32);
  array[0] = 0;
  const float* p = array;
  out[0] = p[i];
}

void spin() {
  Buffer<unsigned> count(1);
  count[0] = 0;
  launch(waits_for_all_blocks, 20, 1, nullptr, count.data());
}
void read_beyond_shared() {
  Buffer<float> out(1);
  launch(beyond_shared, 1, 1, nullptr, out.data(), 32);
}

struct Misuse {
  const char* name;
  void (*commit)();
};

constexpr Misuse kMisuses[] = {
    {"block_too_large", [] { launch(nothing, 1, 1025, nullptr); }},
    {"block_empty", [] { launch(nothing, 1, 0, nullptr); }},
    {"grid_empty", [] { launch(nothing, 0, 32, nullptr); }},
    {"grid_too_large", [] { launch(nothing, 0x80000000u, 32, nullptr); }},
    {"too_much_shared", [] { launch(too_much_shared, 1, 32, nullptr); }},
    {"beyond_shared", read_beyond_shared},
    {"exits_before_barrier", [] { launch(exits_before_barrier, 2, 64, nullptr); }},
    {"two_barriers", [] { launch(two_barriers, 2, 64, nullptr); }},
    {"lane_not_in_mask", [] { launch(lane_not_in_mask, 1, 32, nullptr); }},
    {"lane_not_in_block", [] { launch(lane_not_in_block, 1, 31, nullptr); }},
    {"reads_outside_mask", [] { launch(reads_outside_mask, 1, 32, nullptr); }},
    {"different_masks", [] { launch(different_masks, 1, 3, nullptr); }},
    {"different_operations", [] { launch(different_operations, 1, 32, nullptr); }},
    {"cyclic_wait", [] { launch(cyclic_wait, 1, 32, nullptr); }},
    {"spin", spin},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) harness::fail("usage: emulator semantics|<misuse> <seed>");
  const std::uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  simt::set_seed(seed);
  if (std::string(argv[1]) == "semantics") {
    check_semantics(seed);
    std::puts("clean");
    return 0;
  }
  for (const Misuse& misuse : kMisuses) {
    if (std::string(argv[1]) != misuse.name) continue;
    misuse.commit();
    std::puts("not noticed");
    return 0;
  }
  harness::fail("unknown misuse %s", argv[1]);
}
