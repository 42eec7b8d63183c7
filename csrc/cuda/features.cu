// Launchers of the feature-matching kernels.
#include <algorithm>

#include "cuda/features_kernels.cuh"

namespace pygan::cuda {
namespace {

unsigned grid_for(const FeatureMap* maps, int count) {
  int64_t tiles = 0;
  for (int m = 0; m < count; ++m) tiles += tiles_of(maps[m]);
  return static_cast<unsigned>(std::clamp<int64_t>(tiles, 1, kMaxBlocks));
}

}  // namespace

int64_t feature_partials(const FeatureMap* maps, int count) {
  const unsigned blocks = grid_for(maps, count);
  int64_t partials = 0;
  for (int m = 0; m < count; ++m) partials += blocks_of(maps[m], blocks);
  return partials;
}

void feature_sums(const FeatureMap* maps, int count, const FeatureOptions& options,
                  const FeatureOutputs& out, double* partials, unsigned slot, Stream stream) {
  const unsigned blocks = grid_for(maps, count);
  const FeatureLaunch a = describe(maps, count, options, blocks);
  with_floating_type(options.dtype, [&](auto type) {
    using T = decltype(type);
    const bool l1 = options.distance == Distance::l1;
    const auto kernel = l1 ? (options.relative ? feature_sums_kernel<T, Distance::l1, true>
                                               : feature_sums_kernel<T, Distance::l1, false>)
                           : (options.relative ? feature_sums_kernel<T, Distance::l2, true>
                                               : feature_sums_kernel<T, Distance::l2, false>);
    launch(kernel, blocks, kThreads, stream, a, out, partials, slot);
  });
}

void feature_gradient(const FeatureMap* maps, int count, const FeatureOptions& options,
                      const FeatureGradient& by, Stream stream) {
  const unsigned blocks = grid_for(maps, count);
  const FeatureLaunch a = describe(maps, count, options, blocks);
  with_floating_type(options.dtype, [&](auto type) {
    launch(feature_gradient_kernel<decltype(type)>, blocks, kThreads, stream, a, by);
  });
}

}  // namespace pygan::cuda
