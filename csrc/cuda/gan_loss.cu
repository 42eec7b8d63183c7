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

template <class F>
void with_loss_and_type(const LossOptions& options, F&& f) {
  with_loss(options.loss, [&](auto loss) {
    with_floating_type(options.dtype, [&](auto type) { f(loss, type); });
  });
}

}  // namespace

unsigned loss_blocks(const LossPiece* pieces, int count) {
  int64_t tiles = 0;
  for (int p = 0; p < count; ++p) tiles += (pieces[p].n + kTile - 1) / kTile;
  return static_cast<unsigned>(std::clamp<int64_t>(tiles, 1, kMaxBlocks));
}

void loss_sums(const LossPiece* pieces, int count, const LossOptions& options,
               const LossOutputs& out, unsigned slot, Stream stream) {
  const LossLaunch a = describe(pieces, count, options);
  const unsigned blocks = loss_blocks(pieces, count);
  with_loss_and_type(options, [&](auto loss, auto type) {
    using T = decltype(type);
    constexpr Loss kLoss = decltype(loss)::value;
    const auto kernel = options.statistics ? gan_loss_sums_kernel<kLoss, T, true>
                                           : gan_loss_sums_kernel<kLoss, T, false>;
    launch(kernel, blocks, kThreads, stream, a, out, slot);
  });
}

void loss_pointwise(const LossPiece* pieces, int count, const LossOptions& options, Stream stream) {
  const LossLaunch a = describe(pieces, count, options);
  if (a.tiles() == 0) return;
  // No sum, so no partition to keep: a block a tile.
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(a.tiles(), 0x7fffffff));
  with_loss_and_type(options, [&](auto loss, auto type) {
    launch(gan_loss_pointwise_kernel<decltype(loss)::value, decltype(type)>, blocks, kThreads,
           stream, a);
  });
}

}  // namespace pygan::cuda
