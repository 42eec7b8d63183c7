// The losses from their definitions, in long double, and what the kernels' results may differ by.
#pragma once

#include <cfloat>
#include <cmath>

#include "harness.h"
#include "math/gan_loss.h"

namespace reference {

using Real = long double;
using pygan::Loss;
using pygan::Role;

inline Real softplus(Real x) { return std::fmax(x, 0.0L) + std::log1p(std::exp(-std::fabs(x))); }
inline Real sigmoid(Real x) { return 1 / (1 + std::exp(-x)); }

// A sum and the sum of its terms' magnitudes, in proportion to which rounding errors grow.
struct Sum {
  Real value = 0, magnitude = 0;

  void add(Real term) { add(term, std::fabs(term)); }
  void add(Real term, Real term_magnitude) {
    value += term;
    magnitude += term_magnitude;
  }
};

// The term of one logit (order 0) or a derivative of it.
inline Sum term(Loss loss, Role role, int order, Real x, Real eps) {
  Sum sum;
  if (role == Role::real) {
    if (order == 0) sum.add((1 - eps) * softplus(-x)), sum.add(eps * softplus(x));
    if (order == 1) sum.add(eps), sum.add(-sigmoid(-x));
  } else if (role == Role::fake || loss == Loss::minimax) {
    const Real sign = role == Role::fake ? 1 : -1;  // minimax: the generator undoes log(1 - D)
    if (order == 0) sum.add(sign * softplus(x));
    if (order == 1) sum.add(sign * sigmoid(x));
    if (order == 2) sum.add(sign * sigmoid(x) * sigmoid(-x));
    return sum;
  } else {
    if (order == 0) sum.add(softplus(-x));
    if (order == 1) sum.add(-sigmoid(-x));
  }
  if (order == 2) sum.add(sigmoid(x) * sigmoid(-x));
  return sum;
}

template <class M>
constexpr Real epsilon = sizeof(M) == 8 ? DBL_EPSILON : FLT_EPSILON;

// What is computed in M: 16 additions in M at most, a few roundings, and polynomials good to 2.5
// ulp.
template <class M>
void check_sum(const char* what, M got, const Sum& expected) {
  if (simt::is_poison(got))
    harness::fail("%s: the result is the poison of uninitialised shared memory", what);
  const Real tolerance = 16 * epsilon<M> * expected.magnitude + 8 * epsilon<M> * epsilon<M>;
  if (!(std::fabs(got - expected.value) <= tolerance))
    harness::fail("%s: wrong result: %.17g instead of %.17Lg +- %.3Lg", what, double(got),
                  expected.value, tolerance);
}

// One element, computed in M and rounded once more to T.
template <class T, class M>
void check_element(const char* what, long long i, T got, const Sum& expected) {
  constexpr bool half = std::is_same_v<T, pygan::half_t>;
  constexpr Real unit = half ? 0x1p-11L : sizeof(T) == 2 ? 0x1p-8L : epsilon<M>;
  constexpr Real smallest = half ? 0x1p-24L : FLT_TRUE_MIN;
  const auto value = pygan::to_float(got);
  const Real tolerance =
      unit * std::fabs(expected.value) + 6 * epsilon<M> * expected.magnitude + smallest;
  if (!(std::fabs(value - expected.value) <= tolerance))
    harness::fail("%s: wrong element %lld: %.17g instead of %.17Lg +- %.3Lg", what, i,
                  double(value), expected.value, tolerance);
}

// A random logit; most are moderate, some extreme.
template <class T>
T random_logit(harness::Random& random) {
  const double range = random.bits() % 8 == 0 ? 60 : 6;
  return pygan::from_math<T>(static_cast<pygan::math_t<T>>(random.uniform(-range, range)));
}

}  // namespace reference
