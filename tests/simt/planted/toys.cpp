// Runs one planted bug: `toys <bug> <seed>`. With `none`, all kernels at many sizes and grids.
#include "toys.cuh"

#include <cmath>
#include <string>

#include "../cases/harness.h"

namespace {

using harness::Buffer;
using planted::Bug;
using pygan::cuda::launch;

template <Bug bug>
void run_affine(std::size_t n, std::size_t offset, unsigned grid, unsigned block) {
  Buffer<float> x(n, offset), out(n, offset);
  for (std::size_t i = 0; i < n; ++i) x[i] = float(i);
  launch(planted::affine<bug>, grid, block, nullptr, x.data(), out.data(), n, offset % 4 == 0);
  for (std::size_t i = 0; i < n; ++i)
    if (out[i] != 2 * float(i) + 1) harness::fail("affine: wrong result at %zu of %zu", i, n);
}

template <Bug bug>
void run_negate(unsigned n, unsigned block) {
  Buffer<float> x(n), out(n);
  for (unsigned i = 0; i < n; ++i) x[i] = float(i);
  launch(planted::negate<bug>, (n + block - 1) / block, block, nullptr, x.data(), out.data(), n);
  for (unsigned i = 0; i < n; ++i)
    if (out[i] != -float(i)) harness::fail("negate: wrong result at %u of %u", i, n);
}

// Twice with the same counter: the kernel must leave it at zero.
template <Bug bug>
void run_sum(unsigned n, unsigned grid, unsigned block, decltype(planted::sum<bug>)* kernel) {
  Buffer<float> x(n), partials(grid * block), total(1);
  Buffer<unsigned> counter(1);
  counter[0] = 0;
  for (int round = 0; round < 2; ++round) {
    for (unsigned i = 0; i < n; ++i) x[i] = float(i % 7 + round);
    float expected = 0;
    for (unsigned i = 0; i < n; ++i) expected += x[i];
    total[0] = -1;
    launch(kernel, grid, block, nullptr, x.data(), n, partials.data(), counter.data(),
           total.data());
    if (simt::is_poison(total[0]))
      harness::fail("sum: the result is the poison of uninitialized shared memory");
    if (total[0] != expected)
      harness::fail("sum: wrong result for n = %u: %g instead of %g", n, total[0], expected);
  }
}

// 2^31 + 5 elements, of which only what block 0 and the last block do is run.
template <Bug bug>
void run_huge() {
  constexpr long long n = (1ll << 31) + 5;
  constexpr unsigned block = 256, grid = (n / 4 + block - 1) / block;
  harness::VirtualBuffer<float> x(n), out(n);
  simt::run_only_blocks({0, grid - 1});
  launch(planted::affine<bug>, grid, block, nullptr, x.data(), out.data(), n, true);
  simt::run_only_blocks({});
  for (long long i : {0ll, 1023ll, n - 5, n - 1})
    if (out.data()[i] != 1) harness::fail("affine: element %lld of %lld not computed", i, n);
}

void run_correct(std::uint64_t seed) {
  for (std::size_t n : {0, 1, 3, 4, 5, 31, 32, 33, 255, 256, 257, 1001})
    for (std::size_t offset : {0, 1})
      for (unsigned grid : {1u, 3u}) run_affine<Bug::none>(n, offset, grid, 64);
  for (unsigned n : {1, 63, 64, 65}) run_negate<Bug::none>(n, 64);
  for (unsigned n : {0u, 1u, 33u, 255u, 1001u})
    for (unsigned grid : {1u, 2u, 7u})
      for (unsigned block : {32u, 96u}) {
        simt::set_seed(seed++);
        run_sum<Bug::none>(n, grid, block, planted::sum<Bug::none>);
        run_sum<Bug::none>(n, grid, block, planted::sum_columns<Bug::none>);
      }
  run_huge<Bug::none>();
}

template <Bug bug>
void sum() {
  run_sum<bug>(1001, 3, 96, planted::sum<bug>);
}
template <Bug bug>
void sum_columns() {
  run_sum<bug>(1001, 3, 96, planted::sum_columns<bug>);
}

struct Plant {
  const char* name;
  void (*run)();
};

constexpr Plant kPlants[] = {
    {"tail_out_of_bounds", [] { run_affine<Bug::tail_out_of_bounds>(257, 0, 3, 64); }},
    {"tail_guard_missing", [] { run_negate<Bug::tail_guard_missing>(65, 64); }},
    {"barrier_missing", sum<Bug::barrier_missing>},
    {"barrier_in_branch", sum<Bug::barrier_in_branch>},
    {"shuffle_in_branch", sum<Bug::shuffle_in_branch>},
    {"shared_uninitialized", sum<Bug::shared_uninitialized>},
    {"fence_missing", sum<Bug::fence_missing>},
    {"reader_fence_missing", sum<Bug::reader_fence_missing>},
    {"fence_too_early", sum<Bug::fence_too_early>},
    {"column_fence_missing", sum_columns<Bug::fence_missing>},
    {"column_reader_fence_missing", sum_columns<Bug::reader_fence_missing>},
    {"counter_plain_reset", sum<Bug::counter_plain_reset>},
    {"misaligned_vector", [] { run_affine<Bug::misaligned_vector>(257, 1, 3, 64); }},
    {"index_overflow", run_huge<Bug::index_overflow>},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) harness::fail("usage: toys <bug> <seed>");
  const std::uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  simt::set_seed(seed);
  if (std::string(argv[1]) == "none") {
    run_correct(seed);
    std::puts("clean");
    return 0;
  }
  for (const Plant& plant : kPlants) {
    if (std::string(argv[1]) != plant.name) continue;
    plant.run();
    std::puts("not noticed");
    return 0;
  }
  harness::fail("unknown bug %s", argv[1]);
}
