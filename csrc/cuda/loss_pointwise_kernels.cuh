// The pointwise kernels of the GAN losses: the gradient, and the terms with their derivatives.
#pragma once

#include "cuda/loss_tiles.cuh"

namespace pygan::cuda {

// The gradient: of the logits' type, and of order 1.
template <class T>
__global__ void __launch_bounds__(kThreads, kLossMinBlocks<T, With::grads>)
    gan_loss_grad_kernel(const __grid_constant__ LossLaunch a) {
  using M = math_t<T>;
  const M grad = a.options.grad == nullptr ? M(1) : *static_cast<const M*>(a.options.grad);
  for_each_piece(a, [&](const LossPiece& piece, const Tiles& tiles) {
    const FormInput<M> form_input(piece, a.options);
    const M factor = factor_of<M>(piece, 1) * grad, shift = grad * shift_of<M>(piece, a.options);
    with_target(piece, [&](auto form, auto plain) {
      const M aim = plain ? M(0) : static_cast<M>(piece.aim);
      for_each_logit<T, T, kLossVectors<T, With::nothing>, Paired::maybe>(
          piece, tiles,
          [&](M difference, M, M) {
            return factor * form_of_order<decltype(form)>(1, form_input(difference), aim) - shift;
          },
          [] {});
    });
  });
}

// The terms of the loss, or their derivatives of any order, in the math type.
template <class T>
__global__ void __launch_bounds__(kThreads, kMinBlocks<math_t<T>>)
    gan_loss_terms_kernel(const __grid_constant__ LossLaunch a) {
  using M = math_t<T>;
  for_each_piece(a, [&](const LossPiece& piece, const Tiles& tiles) {
    const FormInput<M> form_input(piece, a.options);
    const M factor = factor_of<M>(piece, a.options.order);
    const M aim = static_cast<M>(piece.aim);
    with_form(piece.form, [&](auto form) {
      using F = decltype(form);
      for_each_logit<T, M, 1, Paired::maybe>(
          piece, tiles,
          [&](M difference, M, M) {
            return factor * form_of_order<F>(a.options.order, form_input(difference), aim);
          },
          [] {});
    });
  });
}

}  // namespace pygan::cuda
