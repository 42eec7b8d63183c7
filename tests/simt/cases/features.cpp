// Feature matching through its launchers: `features <seed> [brief]`.
#include <cstdio>
#include <cstring>

#include "feature_problem.h"

namespace {

using namespace feature_problem;

constexpr std::size_t kTile = 8192;

template <class T>
void check_type(Random& random, bool brief) {
  const bool wide = std::is_same_v<T, double>;
  for (const Distance distance : {Distance::l1, Distance::l2}) {
    for (const bool relative : {false, true}) {
      if (brief && relative != (distance == Distance::l1)) continue;
      for (const unsigned misaligned : {0u, unsigned{kOut}, unsigned{kSigns}, unsigned{kEach}}) {
        if (brief && (misaligned == kOut || misaligned == kSigns)) continue;
        const bool signs = distance == Distance::l1;
        const Settings s{distance, relative, signs, wide};
        check_sizes<T>({1, 3, 255, 4096}, s, misaligned, random);
        check_sizes<T>({kTile + 17, 2 * kTile, 5}, s, misaligned, random);
        check_sizes<T>({3 * kTile + 1, kTile, 3},
                       {distance, true, signs, wide, pygan::cuda::kMaxMaps, 2}, misaligned, random);
        // Several launches for one loss.
        check_sizes<T>({7, kTile, 1, 300, 12}, {distance, relative, signs, wide, 2}, misaligned,
                       random);
      }
    }
  }
  check_sizes<T>({kTile + 5}, {Distance::l1, false, false, wide}, 0, random);
  if (!wide) check_sizes<T>({100, 9}, {Distance::l1, true, true, true}, 0, random);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) harness::fail("usage: features <seed> [brief]");
  const bool brief = argc > 2 && std::strcmp(argv[2], "brief") == 0;
  Random random(std::strtoull(argv[1], nullptr, 10));
  check_type<float>(random, brief);
  check_type<pygan::bfloat16_t>(random, brief);
  if (!brief) {
    check_type<double>(random, brief);
    check_type<pygan::half_t>(random, brief);
  }
  std::puts("clean");
}
