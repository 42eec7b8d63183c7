// The GAN losses on the CPU: sums over logits, and pointwise derivatives. Compiled once per
// instruction set; the compiler vectorises the loops over strips of 64 logits.
//
// A block of logits goes through short loops over arrays in the first-level cache: to the math
// type, exp(-|x|), values and derivatives. Short ones, because a loop over everything at once is
// one long chain of dependent instructions, of which few iterations fit into a core's scheduler
// (docs/decisions.md, "Short loops").
#include <algorithm>

#include "cpu/isa.h"
#include "cpu/loss_forms.h"
#include "cpu/loss_statistics.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

// What the form sees of a block, but for the sign: logits - other - center, and the logits as they
// are.
template <class T>
struct FormInput {
  using M = math_t<T>;
  const M *x, *logits, *other;

  FormInput(const LossPiece& piece, const LossOptions& o)
      : logits_(static_cast<const T*>(piece.logits)),
        other_(static_cast<const T*>(piece.other)),
        center_(center_of<M>(piece, o)),
        as_it_is_(piece.other == nullptr && o.means == nullptr) {}

  bool as_it_is() const { return as_it_is_; }  // |x| is |logits|

  void load(int64_t i, int64_t count) {
    logits = x = converted(logits_ + i, count, logit_buffer_);
    if (as_it_is_) return;
    if (other_ != nullptr) {
      other = converted(other_ + i, count, other_buffer_);
      for_each_lane(count, [&](int64_t k) { input_buffer_[k] = logits[k] - other[k]; });
    } else {
      for_each_lane(count, [&](int64_t k) { input_buffer_[k] = logits[k] - center_; });
    }
    x = input_buffer_;
  }

 private:
  const T *logits_, *other_;
  M center_;
  bool as_it_is_;
  alignas(64) M logit_buffer_[kBlock], other_buffer_[kBlock], input_buffer_[kBlock];
};

// [2 kSums]: of the piece, and of what it is paired with. all: statistics, or slopes.
template <class T, bool all>
void sums_of_range(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end,
                   double* sums) {
  using M = math_t<T>;
  const FormFunctions<M> form = form_functions<M>(piece);
  const M sign = static_cast<M>(piece.mirror);
  const M aim = static_cast<M>(piece.aim), factor = factor_of<M>(piece, 1);
  auto* grad = static_cast<T*>(piece.out);
  auto* other_grad = static_cast<T*>(piece.other_out);
  const bool wants_slopes = all && o.means != nullptr;
  [[maybe_unused]] const M undecided = static_cast<M>(o.undecided);
  const bool real = is_real(piece.role);
  [[maybe_unused]] const M pivots[] = {pivot_of<T>(pivot_at(o, real)),
                                       pivot_of<T>(pivot_at(o, !real))};
  const Wants wants = wants_slopes ? kSlopes : all ? kQ : kNoMore;
  FormInput<T> input(piece, o);
  alignas(64) double lanes[kStrip] = {}, slopes[kStrip] = {}, plain[kStrip] = {};
  alignas(64) M u[kBlock], q[kBlock], v[kBlock], rest_of[kStrip];
  // Of the piece, and of what it is paired with.
  [[maybe_unused]] std::conditional_t<all, StatisticLanes, std::nullptr_t> statistics[2] = {};
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    input.load(i, count);
    const M* x = input.x;
    if (form.exponential) exponentials(x, u, count);
    // The values of whole strips, and of what is left.
    const int64_t whole = count / kStrip * kStrip, rest = count - whole;
    if (grad != nullptr || wants_slopes) {
      M* g = grad == nullptr ? v : destination(grad + i, count, v);
      form.add_strips_with_grad[wants](x, u, whole, lanes, sign, aim, factor, g, q, slopes);
      if (rest != 0) {
        if (form.exponential) sigmoids(u + whole, q + whole, rest);
        form.derivatives[0](x + whole, q + whole, g + whole, rest, sign, aim, factor);
        if (wants_slopes) {
          form.derivatives[0](x + whole, q + whole, rest_of, rest, sign, aim, M(1));
          add_to_lanes(slopes, rest_of, rest);
        }
      }
      if (other_grad != nullptr) deliver_minus(g, other_grad + i, count);
      if (grad != nullptr) deliver(g, grad + i, count);
    } else {
      form.add_strips(x, u, whole, lanes, sign, aim);
      if (form.exponential && all) sigmoids(u, q, count);
    }
    if (rest != 0) {
      form.values(x + whole, u + whole, rest_of, rest, sign, aim, M(1));
      add_to_lanes(lanes, rest_of, rest);
    }
    if constexpr (all) {
      // Otherwise a second exponential a logit, of what the loss itself does not look at.
      if (o.slopes_alone) continue;
      if (aim != 0 && o.bounds_jsd) {
        form.values(x, u, v, count, sign, M(0), M(1));
        add_to_lanes(plain, v, count);
      }
      // One call for both: add() is inlined, and so large that it decides how long this file takes
      // to compile.
      for (int k = 0; k < (piece.other == nullptr ? 1 : 2); ++k) {
        const M* logits = k == 0 ? input.logits : input.other;
        if (!form.exponential || !input.as_it_is()) {
          exponentials(logits, u, count);
          sigmoids(u, q, count);
        }
        statistics[k].add(logits, q, x, undecided, pivots[k], count);
      }
    }
  }
  std::fill(sums, sums + 2 * kSums, 0.0);
  sums[kSumValue] = sum_of_lanes(lanes);
  if constexpr (all) {
    statistics[0].sum_into(sums, false);
    statistics[1].sum_into(sums + kSums, true);
    sums[kSumSlope] = sum_of_lanes(slopes);
    sums[kSumPlain] = aim == 0 ? sums[kSumValue] : sum_of_lanes(plain);
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
  const FormFunctions<M> form = form_functions<M>(piece);
  const M grad = o.grad == nullptr ? M(1) : *static_cast<const M*>(o.grad);
  const M sign = static_cast<M>(piece.mirror), aim = static_cast<M>(piece.aim);
  const M factor = factor_of<M>(piece, o.order) * grad;
  const M shift = grad * shift_of<M>(piece, o);
  FormInput<T> input(piece, o);
  alignas(64) M u[kBlock], q[kBlock], v[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    input.load(i, count);
    M* to = destination(out + i, count, v);
    if (form.exponential) exponentials(input.x, u, count);
    if (o.order == 0) {
      form.values(input.x, u, to, count, sign, aim, factor);
    } else {
      if (form.exponential) sigmoids(u, q, count);
      form.derivatives[o.order - 1](input.x, q, to, count, sign, aim, factor);
    }
    if (o.means != nullptr) for_each_lane(count, [&](int64_t k) { to[k] -= shift; });
    if (other_out != nullptr) deliver_minus(to, other_out + i, count);
    deliver(to, out + i, count);
  }
}

// The last pass of relativistic_average over gradients that the second one left without the share
// that comes through the mean.
template <class M>
void shift_range(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end) {
  auto* out = static_cast<M*>(piece.out);
  const M shift = shift_of<M>(piece, o);
  for (int64_t i = begin; i < end; ++i) out[i] -= shift;
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

void loss_shift(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end) {
  if (o.dtype == Dtype::float64) return shift_range<double>(piece, o, begin, end);
  shift_range<float>(piece, o, begin, end);
}

}  // namespace

void add_loss_kernels(Kernels& kernels) {
  kernels.loss_sums = loss_sums;
  kernels.loss_pointwise = loss_pointwise;
  kernels.loss_shift = loss_shift;
}

}  // namespace pygan::cpu::PYGAN_CPU_ISA
