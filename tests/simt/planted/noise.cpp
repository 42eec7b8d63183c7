// The noise kernels with planted bugs: `noise <number of the bug> <seed>`; 0 is none.
// Compiled with `-include bug.h`, which the patched kernels need.
#include "../cases/noise_grids.h"

int main(int argc, char** argv) {
  if (argc != 3) harness::fail("usage: noise <number of the bug> <seed>");
  planted_bug = std::atoi(argv[1]);
  noise_grids::check_small(std::strtoull(argv[2], nullptr, 10));
  noise_grids::check_huge();
  std::puts("clean");
}
