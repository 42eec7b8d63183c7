// Launcher of the sums: the loss, with its gradient and its statistics.
#include <algorithm>

#include "cuda/loss_sums_kernels.cuh"

namespace pygan::cuda {

unsigned loss_blocks(const LossPiece* pieces, int count) {
  int64_t tiles = 0;
  for (int p = 0; p < count; ++p) tiles += tiles_of(pieces[p]);
  return static_cast<unsigned>(std::clamp<int64_t>(tiles, 1, kMaxBlocks));
}

void loss_sums(const LossPiece* pieces, int count, const LossOptions& options,
               const LossScratch& scratch, Stream stream) {
  const unsigned blocks = loss_blocks(pieces, count);
  const LossLaunch a = describe(pieces, count, options, blocks);
  // The kernel without gradients has no registers left for the parts.
  const bool parts = scratch.out.parts != nullptr;
  const bool grads = parts || std::any_of(pieces, pieces + count, [](const LossPiece& piece) {
                       return piece.out != nullptr;
                     });
  with_floating_type(options.dtype, [&](auto type) {
    using T = decltype(type);
    const auto kernel = options.statistics ? gan_loss_sums_kernel<T, With::statistics>
                        : grads            ? gan_loss_sums_kernel<T, With::grads>
                                           : gan_loss_sums_kernel<T, With::nothing>;
    launch(kernel, blocks, kThreads, stream, a, scratch);
  });
}

}  // namespace pygan::cuda
