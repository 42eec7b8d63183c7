// A form of loss as loops over a block of logits: values, derivatives, sums. Each instantiated for
// what it depends on (form, math type, smoothing), not for every combination with what is around
// it: that took about four times as long to compile. Internal to the files that are compiled once
// per instruction set.
#pragma once

#include "cpu/loss_blocks.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// What is asked for beside value and gradient: also q, and also the sum of the first derivatives.
enum Wants : int { kNoMore, kQ, kSlopes };

// A form for one math type, at t = sign * x; u and q are as in losses.h.
template <class M>
struct FormFunctions {
  bool exponential;
  // v[k] = factor * value for k < count, and on to the end of the last strip.
  void (*values)(const M* x, const M* u, M* v, int64_t count, M sign, M aim, M factor);
  // The same for the derivatives of order 1, 2.
  void (*derivatives[2])(const M* x, const M* q, M* v, int64_t count, M sign, M aim, M factor);
  // lanes += the values at x[0..count), whole strips and at most a block of them.
  void (*add_strips)(const M* x, const M* u, int64_t count, Lanes& lanes, M sign, M aim);
  // The same, and g[k] = factor * first derivative: the divider works beside the rest. By Wants.
  void (*add_strips_with_grad[3])(const M* x, const M* u, int64_t count, Lanes& lanes, M sign,
                                  M aim, M factor, M* g, M* q, Lanes& slopes);
};

template <class F, class M>
void form_values(const M* x, const M* u, M* v, int64_t count, M sign, M aim, M factor) {
  for_each_lane(count, [&](int64_t k) { v[k] = factor * value_of<F>(sign * x[k], u[k], aim); });
}

template <class F, class M, int order>
void form_derivatives(const M* x, const M* q, M* v, int64_t count, M sign, M aim, M factor) {
  for_each_lane(count, [&](int64_t k) {
    const M t = sign * x[k];
    v[k] = factor * (order == 1 ? F::d1(t, q[k], aim) : F::d2(t, q[k], aim));
  });
}

// What the lanes of a block add up in the math type, before they join the fp64 ones: a fraction of
// the conversions, and of the logarithms. plain: aim is 0.
template <class F, class M, bool plain>
struct BlockSum {
  alignas(64) M base[kStrip] = {}, product[kStrip] = {};

  PYGAN_HD void add(int k, M t, M u, M aim) {
    base[k] += plain ? plain_base<F>(t) : F::base(t, aim);
    if constexpr (F::kExponential) product[k] = times_one_plus(product[k], u);
  }
  PYGAN_HD void flush_to(Lanes& lanes) {
    for (int k = 0; k < kStrip; ++k) {
      if constexpr (F::kExponential) base[k] = add_log1p_of_product(base[k], product[k]);
      lanes[k] += static_cast<double>(base[k]);
    }
  }
};

template <class F, class M, bool plain>
void add_form_strips(const M* x, const M* u, int64_t count, Lanes& lanes, M sign, M aim) {
  BlockSum<F, M, plain> sum;
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) sum.add(k, sign * x[strip + k], u[strip + k], aim);
  }
  sum.flush_to(lanes);
}

template <class F, class M, bool plain, Wants wants>
void add_form_strips_with_grad(const M* x, const M* u, int64_t count, Lanes& lanes, M sign, M aim,
                               M factor, M* g, M* q, Lanes& slopes) {
  BlockSum<F, M, plain> sum;
  alignas(64) M slope[kStrip] = {};
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) {
      const int64_t i = strip + k;
      const M t = sign * x[i];
      sum.add(k, t, u[i], aim);
      const M share = F::kExponential ? sigmoid_minus_abs(u[i]) : M(0);
      const M d1 = F::d1(t, share, plain ? M(0) : aim);
      if constexpr (wants != kNoMore && F::kExponential) q[i] = share;
      if constexpr (wants == kSlopes) slope[k] += d1;
      g[i] = factor * d1;
    }
  }
  sum.flush_to(lanes);
  if constexpr (wants == kSlopes) {
    for (int k = 0; k < kStrip; ++k) slopes[k] += static_cast<double>(slope[k]);
  }
}

template <class F, class M, bool plain>
constexpr FormFunctions<M> functions_of_form() {
  return {
      F::kExponential,
      form_values<F, M>,
      {form_derivatives<F, M, 1>, form_derivatives<F, M, 2>},
      add_form_strips<F, M, plain>,
      {add_form_strips_with_grad<F, M, plain, kNoMore>, add_form_strips_with_grad<F, M, plain, kQ>,
       add_form_strips_with_grad<F, M, plain, kSlopes>}};
}

template <class M>
FormFunctions<M> form_functions(const LossPiece& piece) {
  FormFunctions<M> functions{};
  with_form(piece.form, [&](auto form) {
    using F = decltype(form);
    if constexpr (kHasPlain<F>) {
      if (piece.aim == 0) {
        functions = functions_of_form<F, M, true>();
        return;
      }
    }
    functions = functions_of_form<F, M, false>();
  });
  return functions;
}

}  // namespace
}  // namespace pygan::cpu::PYGAN_CPU_ISA
