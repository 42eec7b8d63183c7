// The loss kernels with planted bugs: `loss <number of the bug> <seed>`; 0 is none.
// Compiled with `-include bug.h`, which the patched kernels need.
#include "../cases/loss_grids.h"

int main(int argc, char** argv) {
  if (argc != 3) harness::fail("usage: loss <number of the bug> <seed>");
  planted_bug = std::atoi(argv[1]);
  loss_grids::check_small(std::strtoull(argv[2], nullptr, 10));
  loss_grids::check_huge();
  std::puts("clean");
}
