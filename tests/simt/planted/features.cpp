// The feature-matching kernels with planted bugs: `features <number of the bug> <seed>`; 0 is none.
// Compiled with `-include bug.h`, which the patched kernels need.

#include "cuda/features.cu"

#include <cstdio>

#include "../cases/feature_problem.h"

int main(int argc, char** argv) {
  if (argc != 3) harness::fail("usage: features <number of the bug> <seed>");
  planted_bug = std::atoi(argv[1]);
  harness::Random random(std::strtoull(argv[2], nullptr, 10));
  using namespace feature_problem;
  for (const unsigned misaligned : {0u, unsigned{kOut}, unsigned{kSigns}, unsigned{kFake}}) {
    for (const Distance distance : {Distance::l1, Distance::l2}) {
      const Settings s{distance, true, distance == Distance::l1, false, 3, 3};
      check_sizes<float>({17, 3 * 8192 + 17, 8192, 3, 8192}, s, misaligned, random);
    }
  }
  std::puts("clean");
}
