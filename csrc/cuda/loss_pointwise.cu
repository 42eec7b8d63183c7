// Launcher of the pointwise kernels: the gradient, and the terms with their derivatives. A file
// apart from the sums, for the time to compile: 6 s an architecture, and 11 for the sums.
#include <algorithm>

#include "cuda/loss_pointwise_kernels.cuh"

namespace pygan::cuda {

void loss_pointwise(const LossPiece* pieces, int count, const LossOptions& options, Stream stream) {
  if (std::all_of(pieces, pieces + count, [](const LossPiece& piece) { return piece.n == 0; })) {
    return;
  }
  const unsigned blocks = loss_blocks(pieces, count);
  const LossLaunch a = describe(pieces, count, options, blocks);
  with_floating_type(options.dtype, [&](auto type) {
    using T = decltype(type);
    launch(options.out_is_math ? gan_loss_terms_kernel<T> : gan_loss_grad_kernel<T>, blocks,
           kThreads, stream, a);
  });
}

}  // namespace pygan::cuda
