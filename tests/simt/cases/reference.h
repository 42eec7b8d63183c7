// The losses from their definitions (docs: the table of losses), in long double, and what the
// kernels' results may differ by.
//
// Nothing here comes from math/losses.h but the names: the terms are written as in the papers, and
// their derivatives, by the logit and by what it is compared with, follow from the chain rule.
#pragma once

#include <cfloat>
#include <cmath>
#include <string_view>

#include "harness.h"
#include "launch/loss.h"

namespace reference {

using Real = long double;
using pygan::Role;

// --- Functions of one variable, with their derivatives
// ---------------------------------------------

// The value and the first two derivatives; to each, the magnitude that its rounding errors are
// proportional to.
struct Jet {
  Real d[3] = {};
  Real magnitude[3] = {};
};

inline Jet variable(Real x) { return {{x, 1, 0}, {}}; }  // a logit: exact
inline Jet constant(Real c, Real magnitude) { return {{c, 0, 0}, {magnitude, 0, 0}}; }
inline Jet constant(Real c) { return constant(c, std::fabs(c)); }
inline Jet exactly(Real c) { return constant(c, 0); }

inline Jet operator+(const Jet& a, const Jet& b) {
  Jet sum;
  for (int k = 0; k < 3; ++k) {
    sum.d[k] = a.d[k] + b.d[k];
    sum.magnitude[k] = std::fmax(a.magnitude[k] + b.magnitude[k], std::fabs(sum.d[k]));
  }
  return sum;
}
// What has weight 0 is left out, infinite though it be.
inline Jet operator*(Real c, const Jet& a) {
  Jet product;
  for (int k = 0; k < 3 && c != 0; ++k) {
    product.d[k] = c * a.d[k];
    product.magnitude[k] = std::fabs(c) * a.magnitude[k];
  }
  return product;
}
inline Jet operator-(const Jet& a) { return Real(-1) * a; }
inline Jet operator-(const Jet& a, const Jet& b) { return a + -b; }

// f(t), from the derivatives of f there. t must be affine in the variable, and |f'''| <= |f''|.
inline Jet chain(const Jet& t, Real f, Real f1, Real f2) {
  const Real slope = t.d[1], error = t.magnitude[0];
  return {{f, f1 * slope, f2 * slope * slope},
          {std::fabs(f) + std::fabs(f1) * error,
           std::fabs(slope) * (std::fabs(f1) + std::fabs(f2) * error),
           slope * slope * std::fabs(f2) * (1 + error)}};
}

inline Real sigmoid(Real x) { return 1 / (1 + std::exp(-x)); }
inline Jet softplus(const Jet& t) {
  const Real x = t.d[0], u = std::exp(-std::fabs(x)), q = u / (1 + u), p = 1 / (1 + u);
  return chain(t, std::fmax(x, 0.0L) + std::log1p(u), x < 0 ? q : p, p * q);
}
inline Jet relu(const Jet& t) {  // as torch's, of NaN too
  const Real x = t.d[0];
  return chain(t, x < 0 ? 0 : x, x <= 0 ? 0 : 1, 0);
}
inline Jet square(const Jet& t) { return chain(t, t.d[0] * t.d[0], 2 * t.d[0], 2); }

// --- The losses
// --------------------------------------------------------------------------------------

// What logit x of one kind adds to the loss (before the mean and the weight); y is what it is
// compared with: the logit it is paired with, or the mean of the other kind. `aim` is the target of
// its role, which losses that compare do not ask for; of the logistic losses its distance from the
// role's own.
using Term = Jet (*)(const Jet& x, const Jet& y, Real aim);
enum class Against { nothing, paired, mean };

struct Definition {
  std::string_view name;
  Against against;
  // Of the discriminator's loss, then of the generator's; null: no terms of their own.
  Term real, fake, generator_fake, generator_real;
  bool is_minus_value = false;  // L_D = -V(D, G), which gives the bound of the divergence

  Term of(Role role) const {
    switch (role) {
      case Role::real:
        return real;
      case Role::fake:
        return fake;
      case Role::generator_fake:
        return generator_fake;
      case Role::generator_real:
        return generator_real;
    }
    return nullptr;
  }
};

#define TERM(formula)                                                                  \
  [](const Jet& x [[maybe_unused]], const Jet& y [[maybe_unused]],                     \
     Real aim [[maybe_unused]]) -> Jet { /* one, so that formulas read as they do */   \
                                         const Jet one [[maybe_unused]] = constant(1); \
                                         return formula;                               \
  }

#define CROSS_ENTROPY(x) TERM((1 - aim) * softplus(-(x)) + aim * softplus(x))

inline constexpr Definition kDefinitions[] = {
    {"non_saturating", Against::nothing, CROSS_ENTROPY(x), CROSS_ENTROPY(-x), CROSS_ENTROPY(x),
     nullptr, true},
    {"minimax", Against::nothing, CROSS_ENTROPY(x), CROSS_ENTROPY(-x), TERM(-softplus(x)), nullptr,
     true},
    {"hinge", Against::nothing, TERM(relu(constant(aim) - x)), TERM(relu(x - constant(aim))),
     TERM(-x), nullptr},
    {"clipped_hinge", Against::nothing, TERM(relu(constant(aim) - x)),
     TERM(relu(x - constant(aim))), TERM(relu(constant(aim) - x)), nullptr},
    {"least_squares", Against::nothing, TERM(0.5L * square(x - constant(aim))),
     TERM(0.5L * square(x - constant(aim))), TERM(0.5L * square(x - constant(aim))), nullptr},
    {"wasserstein", Against::nothing, TERM(-x), TERM(x), TERM(-x), nullptr},
    {"relativistic", Against::paired, TERM(softplus(-(x - y))), nullptr, TERM(softplus(-(x - y))),
     nullptr},
    {"relativistic_average", Against::mean, TERM(softplus(-(x - y))), TERM(softplus(x - y)),
     TERM(softplus(-(x - y))), TERM(softplus(x - y))},
    {"relativistic_hinge", Against::paired, TERM(relu(one - (x - y))), nullptr,
     TERM(relu(one - (x - y))), nullptr},
    {"relativistic_average_hinge", Against::mean, TERM(relu(one - (x - y))),
     TERM(relu(one + (x - y))), TERM(relu(one - (x - y))), TERM(relu(one + (x - y)))},
    {"relativistic_average_least_squares", Against::mean, TERM(0.5L * square((x - y) - one)),
     TERM(0.5L * square((x - y) + one)), TERM(0.5L * square((x - y) - one)),
     TERM(0.5L * square((x - y) + one))},
};
#undef CROSS_ENTROPY
#undef TERM

inline const Definition& definition_of(const char* name) {
  for (const Definition& one : kDefinitions)
    if (one.name == name) return one;
  harness::fail("reference.h does not define the loss %s", name);
}

// --- What results may differ by
// ----------------------------------------------------------------------

// A sum and the sum of its terms' magnitudes, in proportion to which rounding errors grow.
struct Sum {
  Real value = 0, magnitude = 0;

  void add(Real term) { add(term, std::fabs(term)); }
  void add(Real term, Real term_magnitude) {
    value += term;
    magnitude += std::fmax(term_magnitude, std::fabs(term));
  }
  void add(const Sum& other, Real factor = 1) {
    add(factor * other.value, std::fabs(factor) * other.magnitude);
  }
  void add(const Jet& term, int order, Real factor) {
    add(factor * term.d[order], std::fabs(factor) * term.magnitude[order]);
  }
};

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
  // Among subnormal numbers it is rounded by these steps, both times.
  constexpr Real step = half ? 0x1p-24L : sizeof(T) == 2 ? 0x1p-133L : 2 * FLT_TRUE_MIN;
  const auto value = pygan::to_float(got);
  const Real tolerance =
      unit * std::fabs(expected.value) + 6 * epsilon<M> * expected.magnitude + step;
  if (!(std::fabs(value - expected.value) <= tolerance))
    harness::fail("%s: wrong element %lld: %.17g instead of %.17Lg +- %.3Lg", what, i,
                  double(value), expected.value, tolerance);
}

// NaN, infinite (and which) or finite: what must agree where values cannot be compared.
template <class M>
void check_class(const char* what, M got, Real expected) {
  const bool same = std::isfinite(expected) ? std::isfinite(got)
                    : std::isnan(expected)  ? std::isnan(got)
                                            : Real(got) == expected;
  if (!same) harness::fail("%s: %g instead of %Lg", what, double(got), expected);
}

// A random logit; most are moderate, some extreme.
template <class T>
T random_logit(harness::Random& random) {
  const double range = random.bits() % 8 == 0 ? 60 : 6;
  return pygan::from_math<T>(static_cast<pygan::math_t<T>>(random.uniform(-range, range)));
}

}  // namespace reference
