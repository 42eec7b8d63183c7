// The GAN losses on the CPU: sums over logits, and pointwise derivatives. Compiled once per
// instruction set; the compiler vectorises the loops over strips of 64 logits.
//
// A block of logits is converted to the math type, the term evaluated, the result summed or stored:
// three loops over arrays in the first-level cache, each instantiated for what it depends on (type,
// or term), not for every combination: that took about four times as long to compile.
#include <algorithm>
#include <cstddef>

#include "cpu/isa.h"

namespace pygan::cpu::PYGAN_CPU_ISA {
namespace {

constexpr int kStrip = kLanesOfSums;
constexpr int kBlock = 4 * kStrip;

// A term for one math type.
template <class M>
struct TermFunctions {
  // v[k] = derivative of order 0, 1, 2 at x[k] for k < count, and on to the end of the last strip.
  void (*pointwise[3])(const M* x, M* v, int64_t count, M eps);
  // lanes += the values at x[0..kBlock).
  void (*add_block)(const M* x, double (&lanes)[kStrip], M eps);
  // The same, and g[k] = factor * first derivative, from one exponential.
  void (*add_block_with_grad)(const M* x, double (&lanes)[kStrip], M eps, M factor, M* g);
};

template <class Term, class M, int order>
void term_block(const M* x, M* v, int64_t count, M eps) {
  for (int64_t strip = 0; strip < count; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) v[strip + k] = term_of_order<Term>(order, x[strip + k], eps);
  }
}

// Four values are added in the math type before they join an fp64 lane: a quarter of the
// conversions.
template <class Term, class M>
void add_term_block(const M* x, double (&lanes)[kStrip], M eps) {
#pragma GCC ivdep
  for (int k = 0; k < kStrip; ++k) {
    // In the order of add_term_block_with_grad: asking for the gradient must not change the loss.
    M sum = Term::value(x[k], eps);
    sum += Term::value(x[k + kStrip], eps);
    sum += Term::value(x[k + 2 * kStrip], eps);
    sum += Term::value(x[k + 3 * kStrip], eps);
    lanes[k] += static_cast<double>(sum);
  }
}

template <class Term, class M>
void add_term_block_with_grad(const M* x, double (&lanes)[kStrip], M eps, M factor, M* g) {
  alignas(64) M sum[kStrip] = {};
  for (int strip = 0; strip < kBlock; strip += kStrip) {
#pragma GCC ivdep
    for (int k = 0; k < kStrip; ++k) {
      sum[k] += Term::value(x[strip + k], eps);
      g[strip + k] = factor * Term::d1(x[strip + k], eps);
    }
  }
  for (int k = 0; k < kStrip; ++k) lanes[k] += static_cast<double>(sum[k]);
}

template <class M>
TermFunctions<M> term_functions(const LossPiece& piece, const LossOptions& options) {
  TermFunctions<M> functions;
  with_loss(options.loss, [&](auto loss) {
    with_term<decltype(loss)::value>(piece.role, [&](auto term) {
      using Term = decltype(term);
      functions = {{term_block<Term, M, 0>, term_block<Term, M, 1>, term_block<Term, M, 2>},
                   add_term_block<Term, M>,
                   add_term_block_with_grad<Term, M>};
    });
  });
  return functions;
}

// The math-typed logits [0, count), then zeros to the end of the strip: the logits themselves where
// nothing has to be converted or filled up, else in `buffer`.
template <class T, class M>
const M* converted(const T* logits, int64_t count, M* buffer) {
  if constexpr (std::is_same_v<T, M>) {
    if (count % kStrip == 0) return logits;
  }
  for (int64_t k = 0; k < count; ++k) buffer[k] = to_float(logits[k]);
  std::fill(buffer + count, buffer + (count + kStrip - 1) / kStrip * kStrip, M(0));
  return buffer;
}

template <class M>
void add_to_lanes(double (&lanes)[kStrip], const M* v, int64_t count) {
  int64_t strip = 0;
  for (; strip + kStrip <= count; strip += kStrip) {
    for (int k = 0; k < kStrip; ++k) lanes[k] += static_cast<double>(v[strip + k]);
  }
  for (int64_t k = strip; k < count; ++k) lanes[k - strip] += static_cast<double>(v[k]);
}

// The sums of the logits themselves.
struct StatisticLanes {
  alignas(64) double plain[kStrip] = {}, logit[kStrip] = {}, probability[kStrip] = {};
  alignas(64) int32_t positive[kStrip] = {}, negative[kStrip] = {}, nonfinite[kStrip] = {};

  template <class M>
  void add(const M* x, int64_t count) {
    alignas(64) M p[kBlock];
    for (int64_t strip = 0; strip < count; strip += kStrip) {
      for (int k = 0; k < kStrip; ++k) p[strip + k] = sigmoid(x[strip + k]);
    }
    add_to_lanes(logit, x, count);
    add_to_lanes(probability, p, count);
    for (int64_t strip = 0; strip < count; strip += kStrip) {
      for (int k = 0; k < kStrip; ++k) {  // the zeros beyond count are none of the three
        const M logit_k = x[strip + k];
        positive[k] += logit_k > M(0);
        negative[k] += logit_k < M(0);
        nonfinite[k] += !(absolute(logit_k) <= largest_finite(M{}));
      }
    }
  }

  void sum_into(double* sums) {
    sums[kSumLogit] = sum_of_lanes(logit);
    sums[kSumProbability] = sum_of_lanes(probability);
    for (int k = 0; k < kStrip; ++k) {
      sums[kSumPositive] += positive[k];
      sums[kSumNegative] += negative[k];
      sums[kSumNonfinite] += nonfinite[k];
    }
  }
};

template <class T, bool statistics>
void sums_of_range(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end,
                   double* sums) {
  using M = math_t<T>;
  const auto* logits = static_cast<const T*>(piece.logits);
  const TermFunctions<M> term = term_functions<M>(piece, o);
  const M eps = static_cast<M>(o.eps);
  alignas(64) double lanes[kStrip] = {};
  alignas(64) M buffer[kBlock], v[kBlock];
  std::conditional_t<statistics, StatisticLanes, std::nullptr_t> own{};
  auto* grad = static_cast<T*>(piece.out);
  const M factor = static_cast<M>(piece.coefficient);
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    const M* x = converted(logits + i, count, buffer);
    if (count < kBlock) {
      term.pointwise[0](x, v, count, eps);
      add_to_lanes(lanes, v, count);
      if (grad != nullptr) {
        term.pointwise[1](x, v, count, eps);
        for (int64_t k = 0; k < count; ++k) grad[i + k] = from_math<T>(factor * v[k]);
      }
    } else if (grad == nullptr) {
      term.add_block(x, lanes, eps);
    } else if constexpr (std::is_same_v<T, M>) {
      term.add_block_with_grad(x, lanes, eps, factor, grad + i);
    } else {
      term.add_block_with_grad(x, lanes, eps, factor, v);
#pragma GCC ivdep
      for (int k = 0; k < kBlock; ++k) grad[i + k] = from_math<T>(v[k]);
    }
    if constexpr (statistics) {
      own.add(x, count);
      if (eps != 0) {
        term.pointwise[0](x, v, count, M(0));
        add_to_lanes(own.plain, v, count);
      }
    }
  }
  std::fill(sums, sums + kSums, 0.0);
  sums[kSumValue] = sum_of_lanes(lanes);
  if constexpr (statistics) {
    own.sum_into(sums);
    sums[kSumPlain] = eps == 0 ? sums[kSumValue] : sum_of_lanes(own.plain);
  }
}

template <class T, class Out>
void pointwise_range(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end) {
  using M = math_t<T>;
  const auto* logits = static_cast<const T*>(piece.logits);
  auto* out = static_cast<Out*>(piece.out);
  const auto term = term_functions<M>(piece, o).pointwise[o.order];
  const M eps = static_cast<M>(o.eps), factor = common_factor<M>(piece, o);
  alignas(64) M buffer[kBlock], v[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t count = std::min<int64_t>(kBlock, end - i);
    term(converted(logits + i, count, buffer), v, count, eps);
#pragma GCC ivdep
    for (int64_t k = 0; k < count; ++k) out[i + k] = from_math<Out>(factor * v[k]);
  }
}

void loss_sums(const LossPiece& piece, const LossOptions& o, int64_t begin, int64_t end,
               double* sums) {
  with_floating_type(o.dtype, [&](auto type) {
    if (o.statistics) return sums_of_range<decltype(type), true>(piece, o, begin, end, sums);
    sums_of_range<decltype(type), false>(piece, o, begin, end, sums);
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
