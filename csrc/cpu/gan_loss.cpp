// The GAN losses on the CPU: sums over logits, and pointwise derivatives. Compiled once per
// instruction set; the compiler vectorises the loops over strips of 64 logits.
//
// A block of logits goes through short loops over arrays in the first-level cache: to the math
// type, exp(-|x|), values and derivatives. Short ones, because a loop over everything at once is
// one long chain of dependent instructions, of which few iterations fit into a core's scheduler
// (docs/decisions.md, "Short loops"). And each is instantiated for what it depends on (type, or
// form), not for every combination: that took about four times as long to compile.
#include <algorithm>

#include "cpu/blocks.h"
#include "cpu/isa.h"
#include "cpu/statistic_lanes.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// A form for one math type; x is what it sees, u and q are as in losses.h.
template <class M>
struct FormFunctions {
  bool exponential;
  // v[k] = factor * value for k < count, and on to the end of the last strip.
  void (*values)(const M* x, const M* u, M* v, int64_t count, M eps, M factor);
  // The same for the derivatives of order 1, 2.
  void (*derivatives[2])(const M* x, const M* q, M* v, int64_t count, M eps, M factor);
  // lanes += the values at x[0..count), whole strips and at most a block of them.
  void (*add_strips)(const M* x, const M* u, int64_t count, double (&lanes)[kStrip], M eps);
  // The same, and q from u, and g[k] = factor * first derivative: the divider works beside the
  // rest.
  void (*add_strips_with_grad)(const M* x, const M* u, M* q, int64_t count, double (&lanes)[kStrip],
                               M eps, M factor, M* g);
};

template <class F, class M>
void form_values(const M* x, const M* u, M* v, int64_t count, M eps, M factor) {
  for_each_lane(count, [&](int64_t k) { v[k] = factor * value_of<F>(x[k], u[k], eps); });
}

template <class F, class M, int order>
void form_derivatives(const M* x, const M* q, M* v, int64_t count, M eps, M factor) {
  for_each_lane(count, [&](int64_t k) {
    v[k] = factor * (order == 1 ? F::d1(x[k], q[k], eps) : F::d2(x[k], q[k], eps));
  });
}

// What the lanes of a block add up in the math type, before they join the fp64 ones: a fraction of
// the conversions, and of the logarithms.
template <class F, class M>
struct BlockSum {
  alignas(64) M base[kStrip] = {}, product[kStrip] = {};

  PYGAN_HD void add(int k, M x, M u, M eps) {
    base[k] += F::base(x, eps);
    if constexpr (F::kExponential) product[k] = times_one_plus(product[k], u);
  }
  PYGAN_HD void flush_to(double (&lanes)[kStrip]) {
    for (int k = 0; k < kStrip; ++k) {
      if constexpr (F::kExponential) base[k] = add_log1p_of_product(base[k], product[k]);
      lanes[k] += static_cast<double>(base[k]);
    }
  }
};

template <class F, class M>
void add_form_strips(const M* x, const M* u, int64_t count, double (&lanes)[kStrip], M eps) {
  BlockSum<F, M> sum;
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) sum.add(k, x[strip + k], u[strip + k], eps);
  }
  sum.flush_to(lanes);
}

template <class F, class M>
void add_form_strips_with_grad(const M* x, const M* u, M* q, int64_t count, double (&lanes)[kStrip],
                               M eps, M factor, M* g) {
  BlockSum<F, M> sum;
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) {
      const int64_t i = strip + k;
      sum.add(k, x[i], u[i], eps);
      if constexpr (F::kExponential) q[i] = sigmoid_minus_abs(u[i]);
      g[i] = factor * F::d1(x[i], q[i], eps);
    }
  }
  sum.flush_to(lanes);
}

template <class M>
FormFunctions<M> form_functions(Form form) {
  FormFunctions<M> functions{};
  with_form(form, [&](auto object) {
    using F = decltype(object);
    functions = {F::kExponential,
                 form_values<F, M>,
                 {form_derivatives<F, M, 1>, form_derivatives<F, M, 2>},
                 add_form_strips<F, M>,
                 add_form_strips_with_grad<F, M>};
  });
  return functions;
}

// What the form sees of a block: mirror * (logits - other - center), and the logits as they are.
template <class T>
struct Seen {
  using M = math_t<T>;
  const M *x, *logits, *other;

  Seen(const LossPiece& piece, const LossOptions& o)
      : logits_(static_cast<const T*>(piece.logits)),
        other_(static_cast<const T*>(piece.other)),
        center_(center_of<M>(piece, o)),
        mirror_(static_cast<M>(piece.mirror)),
        as_it_is_(piece.other == nullptr && o.means == nullptr) {}

  bool as_it_is() const { return as_it_is_; }  // |x| is |logits|

  void load(int64_t i, int64_t count) {
    logits = x = converted(logits_ + i, count, logit_buffer_);
    if (other_ != nullptr) {
      other = converted(other_ + i, count, other_buffer_);
      for_each_lane(count, [&](int64_t k) { seen_[k] = mirror_ * (logits[k] - other[k]); });
    } else if (!as_it_is_ || mirror_ != M(1)) {
      for_each_lane(count, [&](int64_t k) { seen_[k] = mirror_ * (logits[k] - center_); });
    } else {
      return;
    }
    x = seen_;
  }

 private:
  const T *logits_, *other_;
  M center_, mirror_;
  bool as_it_is_;
  alignas(64) M logit_buffer_[kBlock], other_buffer_[kBlock], seen_[kBlock];
};

// [2 kSums]: of the piece, and of what it is paired with.
template <class T, bool statistics>
void sums_of_range(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end,
                   double* sums) {
  using M = math_t<T>;
  const FormFunctions<M> form = form_functions<M>(piece.form);
  const M eps = static_cast<M>(piece.eps), factor = factor_of<M>(piece, 1);
  auto* grad = static_cast<T*>(piece.out);
  auto* other_grad = static_cast<T*>(piece.other_out);
  Seen<T> seen(piece, o);
  alignas(64) double lanes[kStrip] = {}, slopes[kStrip] = {}, plain[kStrip] = {};
  alignas(64) M u[kBlock], q[kBlock], v[kBlock];
  std::conditional_t<statistics, StatisticLanes, std::nullptr_t> own{}, others{};
  const auto add_statistics = [&](auto& to, const M* logits, int64_t count) {
    exponentials(logits, u, count);
    sigmoids(u, q, count);
    to.add(logits, q, count);
  };
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    seen.load(i, count);
    const M* x = seen.x;
    if (form.exponential) exponentials(x, u, count);
    M* g = grad == nullptr ? nullptr : destination(grad + i, count, v);
    // The values of whole strips, and of what is left.
    const int64_t whole = count / kStrip * kStrip, rest = count - whole;
    if (grad != nullptr) {
      form.add_strips_with_grad(x, u, q, whole, lanes, eps, factor, g);
      if (form.exponential) sigmoids(u + whole, q + whole, rest);
      form.derivatives[0](x + whole, q + whole, g + whole, rest, eps, factor);
    } else {
      form.add_strips(x, u, whole, lanes, eps);
      if (form.exponential && statistics) sigmoids(u, q, count);
    }
    if (rest != 0) {
      alignas(64) M values[kStrip];
      form.values(x + whole, u + whole, values, rest, eps, M(1));
      add_to_lanes(lanes, values, rest);
    }
    if (grad != nullptr) {
      if (other_grad != nullptr) deliver_minus(g, other_grad + i, count);
      deliver(g, grad + i, count);
    }
    if constexpr (statistics) {
      if (eps != 0 && o.bounds_jsd) {
        form.values(x, u, v, count, M(0), M(1));
        add_to_lanes(plain, v, count);
      }
      if (o.means != nullptr) {
        form.derivatives[0](x, q, v, count, eps, M(1));
        add_to_lanes(slopes, v, count);
      }
      // Otherwise a second exponential a logit, of what the loss itself does not look at.
      if (o.slopes_alone) continue;
      if (form.exponential && seen.as_it_is()) {
        own.add(seen.logits, q, count);
      } else {
        add_statistics(own, seen.logits, count);
      }
      if (piece.other != nullptr) add_statistics(others, seen.other, count);
    }
  }
  std::fill(sums, sums + 2 * kSums, 0.0);
  sums[kSumValue] = sum_of_lanes(lanes);
  if constexpr (statistics) {
    own.sum_into(sums);
    others.sum_into(sums + kSums);
    sums[kSumSlope] = sum_of_lanes(slopes);
    sums[kSumPlain] = eps == 0 ? sums[kSumValue] : sum_of_lanes(plain);
  }
}

// The first pass of relativistic_average.
template <class T>
void logits_of_range(const LossPiece& piece, int64_t begin, int64_t end, double* sums) {
  using M = math_t<T>;
  const auto* logits = static_cast<const T*>(piece.logits);
  alignas(64) double lanes[kStrip] = {};
  alignas(64) M buffer[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    add_to_lanes(lanes, converted(logits + i, count, buffer), count);
  }
  std::fill(sums, sums + 2 * kSums, 0.0);
  sums[kSumLogit] = sum_of_lanes(lanes);
}

template <class T, class Out>
void pointwise_range(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end) {
  using M = math_t<T>;
  auto* out = static_cast<Out*>(piece.out);
  auto* other_out = static_cast<Out*>(piece.other_out);
  const FormFunctions<M> form = form_functions<M>(piece.form);
  const M grad = o.grad == nullptr ? M(1) : *static_cast<const M*>(o.grad);
  const M eps = static_cast<M>(piece.eps), factor = factor_of<M>(piece, o.order) * grad;
  const M shift = grad * shift_of<M>(piece, o);
  Seen<T> seen(piece, o);
  alignas(64) M u[kBlock], q[kBlock], v[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    seen.load(i, count);
    M* to = destination(out + i, count, v);
    if (form.exponential) exponentials(seen.x, u, count);
    if (o.order == 0) {
      form.values(seen.x, u, to, count, eps, factor);
    } else {
      if (form.exponential) sigmoids(u, q, count);
      form.derivatives[o.order - 1](seen.x, q, to, count, eps, factor);
    }
    if (o.means != nullptr) for_each_lane(count, [&](int64_t k) { to[k] -= shift; });
    if (other_out != nullptr) deliver_minus(to, other_out + i, count);
    deliver(to, out + i, count);
  }
}

void loss_sums(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end,
               double* sums) {
  with_floating_type(o.dtype, [&](auto type) {
    using T = decltype(type);
    if (o.sums == Sums::means) return logits_of_range<T>(piece, begin, end, sums);
    if (o.statistics) return sums_of_range<T, true>(piece, o, begin, end, sums);
    sums_of_range<T, false>(piece, o, begin, end, sums);
  });
}

void loss_pointwise(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end) {
  with_floating_type(o.dtype, [&](auto type) {
    using T = decltype(type);
    if (o.out_is_math) return pointwise_range<T, math_t<T>>(piece, o, begin, end);
    pointwise_range<T, T>(piece, o, begin, end);
  });
}

}  // namespace

void add_loss_kernels(Kernels& kernels) {
  kernels.loss_sums = loss_sums;
  kernels.loss_pointwise = loss_pointwise;
}

}  // namespace pygan::cpu::PYGAN_CPU_ISA
