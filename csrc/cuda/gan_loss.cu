// Launchers of the GAN loss kernels.
#include <algorithm>

#include "cuda/gan_loss.cuh"

namespace pygan::cuda {
namespace {

// Enough blocks to fill the largest GPU of today twice over; more only lengthen the last block's
// sum.
constexpr int64_t kMaxBlocks = 1024;

LossLaunch describe(const LossPiece* pieces, int count, const LossOptions& options) {
  LossLaunch launch;
  launch.count = count;
  launch.options = options;
  int64_t tiles = 0;
  for (int p = 0; p < count; ++p) {
    launch.pieces[p] = pieces[p];
    launch.tile_end[p] = tiles += (pieces[p].n + kTile - 1) / kTile;
  }
  return launch;
}

}  // namespace

unsigned loss_blocks(const LossPiece* pieces, int count) {
  int64_t tiles = 0;
  for (int p = 0; p < count; ++p) tiles += (pieces[p].n + kTile - 1) / kTile;
  return static_cast<unsigned>(std::clamp<int64_t>(tiles, 1, kMaxBlocks));
}

void loss_sums(const LossPiece* pieces, int count, const LossOptions& options,
               const LossScratch& scratch, Stream stream) {
  const LossLaunch a = describe(pieces, count, options);
  const unsigned blocks = loss_blocks(pieces, count);
  const bool grads = std::any_of(pieces, pieces + count,
                                 [](const LossPiece& piece) { return piece.out != nullptr; });
  with_floating_type(options.dtype, [&](auto type) {
    using T = decltype(type);
    const auto kernel = options.statistics ? grads ? gan_loss_sums_kernel<T, With::both>
                                                   : gan_loss_sums_kernel<T, With::statistics>
                        : grads            ? gan_loss_sums_kernel<T, With::grads>
                                           : gan_loss_sums_kernel<T, With::nothing>;
    launch(kernel, blocks, kThreads, stream, a, scratch);
  });
}

void loss_pointwise(const LossPiece* pieces, int count, const LossOptions& options, Stream stream) {
  const LossLaunch a = describe(pieces, count, options);
  if (a.tiles() == 0) return;
  // No sum, so no partition to keep: a block a tile.
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(a.tiles(), 0x7fffffff));
  with_floating_type(options.dtype, [&](auto type) {
    launch(gan_loss_pointwise_kernel<decltype(type)>, blocks, kThreads, stream, a);
  });
}

}  // namespace pygan::cuda
