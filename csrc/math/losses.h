// The GAN losses: every formula of the library, once.
//
// A *form* is what one logit contributes, as a function of how real it looks: the value, the first
// and the second derivative on adjacent lines, falling as x, the logit, rises; eps moves the target
// away from "certainly real". What the logistic form needs is evaluated once for the loss, the
// gradient and the statistics: u = exp(-|x|), of which the value is base + log(1 + u), so that a
// sum takes the logarithm of many logits at once; and q = sigmoid(-|x|) for the derivatives.
//
// A *loss* says which form the discriminator and the generator use, and how fake logits see it: to
// add a loss, write its form if it is new, and its line in PYGAN_LOSSES. Kernels, Python names,
// tests, benchmarks and documentation all iterate that list.
#pragma once

#include <type_traits>

#include "math/elementary.h"

namespace pygan {

// -(1 - eps) log D - eps log(1 - D) with D = sigmoid(x): (1 - eps) softplus(-x) + eps softplus(x).
// Goodfellow et al. 2014 (equation 1; section 3 for the generator), Salimans et al. 2016 for eps.
struct Logistic {
  static constexpr bool kExponential = true;  // log(1 + u) belongs to the value, q is read
  template <class T>
  static PYGAN_HD T base(T x, T eps) {
    // A weight of 0 must not turn an infinite logit into NaN.
    const T weight = x < T(0) ? T(1) - eps : eps;
    return weight == T(0) ? T(0) : weight * absolute(x);
  }
  template <class T>
  static PYGAN_HD T base(T x) {  // with an eps of 0, which takes fewer instructions
    return positive_part(-x);
  }
  template <class T>
  static PYGAN_HD T d1(T x, T q, T eps) {
    return x < T(0) ? (eps - T(1)) + q : eps - q;
  }
  template <class T>
  static PYGAN_HD T d2(T, T q, T) {
    return q * (T(1) - q);
  }
};

// max(0, 1 - x): Lim and Ye 2017, Miyato et al. 2018 (equation 16). Derivatives as torch.relu has
// them: 0 at the kink.
struct Hinge {
  static constexpr bool kExponential = false;
  template <class T>
  static PYGAN_HD T base(T x, T) {
    return positive_part(T(1) - x);
  }
  template <class T>
  static PYGAN_HD T d1(T x, T, T) {
    return x >= T(1) ? T(0) : T(-1);
  }
  template <class T>
  static PYGAN_HD T d2(T, T, T) {
    return T(0);
  }
};

// (x - (1 - eps))^2 / 2: Mao et al. 2017 (equation 2, labels 0 and 1).
struct Square {
  static constexpr bool kExponential = false;
  template <class T>
  static PYGAN_HD T base(T x, T eps) {
    const T d = x - (T(1) - eps);
    return T(0.5) * d * d;
  }
  template <class T>
  static PYGAN_HD T d1(T x, T, T eps) {
    return x - (T(1) - eps);
  }
  template <class T>
  static PYGAN_HD T d2(T, T, T) {
    return T(1);
  }
};

// -x: Arjovsky et al. 2017 (equation 2).
struct Linear {
  static constexpr bool kExponential = false;
  template <class T>
  static PYGAN_HD T base(T x, T) {
    return -x;
  }
  template <class T>
  static PYGAN_HD T d1(T, T, T) {
    return T(-1);
  }
  template <class T>
  static PYGAN_HD T d2(T, T, T) {
    return T(0);
  }
};

// Whether a form has something simpler for an eps of 0, and the base for one.
template <class F>
inline constexpr bool kHasPlain = requires { F::base(0.0f); };
template <class F, class T>
PYGAN_HD T plain_base(T x) {
  if constexpr (kHasPlain<F>) {
    return F::base(x);
  } else {
    return F::base(x, T(0));
  }
}

// The value of a form.
template <class F, class T>
PYGAN_HD T value_of(T x, T u, T eps) {
  const T base = F::base(x, eps);
  return F::kExponential ? add_log1p(base, u) : base;
}

#define PYGAN_FORMS(X) X(Logistic) X(Hinge) X(Square) X(Linear)

// What a logit is compared with before the form sees it: nothing, the logit of the same sample of
// the other kind, or the mean of the other kind (Jolicoeur-Martineau 2018).
enum class Compared : int { alone, paired, to_mean };

// How the discriminator looks at a fake logit f: form(-f), or form(f) with target 0 (eps = 1).
enum class Fake : int { mirrored, target_zero };

// What the generator minimises: its form of f, as if f were real, or minus what D minimises.
enum class Generator : int { as_real, minus_fake };

// X(name, discriminator's form, compared, fake logits, generator's form, generator)
#define PYGAN_LOSSES(X)                                           \
  X(non_saturating, Logistic, alone, mirrored, Logistic, as_real) \
  X(minimax, Logistic, alone, mirrored, Logistic, minus_fake)     \
  X(hinge, Hinge, alone, mirrored, Linear, as_real)               \
  X(least_squares, Square, alone, target_zero, Square, as_real)   \
  X(wasserstein, Linear, alone, mirrored, Linear, as_real)        \
  X(relativistic, Logistic, paired, mirrored, Logistic, as_real)  \
  X(relativistic_average, Logistic, to_mean, mirrored, Logistic, as_real)

enum class Form : int {
#define PYGAN_FORM_ENUM(name) name,
  PYGAN_FORMS(PYGAN_FORM_ENUM)
#undef PYGAN_FORM_ENUM
};

struct Loss {
  const char* name;
  Form discriminator;
  Compared compared;
  Fake fake;
  Form generator;
  Generator generator_wants;

  constexpr bool smooths() const {
    return compared == Compared::alone &&
           (discriminator == Form::Logistic || discriminator == Form::Square);
  }
  // The logit that decides for neither kind: half way between the targets.
  constexpr double undecided(double label_smoothing) const {
    return fake == Fake::target_zero ? (1 - label_smoothing) / 2 : 0;
  }
  // Whether log 2 - L / 2 bounds the Jensen-Shannon divergence: L is -V(D, G).
  constexpr bool bounds_jsd() const {
    return compared == Compared::alone && discriminator == Form::Logistic;
  }
};

inline constexpr Loss kLosses[] = {
#define PYGAN_LOSS_ROW(name, d, compared, fake, g, generator) \
  {#name, Form::d, Compared::compared, Fake::fake, Form::g, Generator::generator},
    PYGAN_LOSSES(PYGAN_LOSS_ROW)
#undef PYGAN_LOSS_ROW
};
inline constexpr int kLossCount = sizeof(kLosses) / sizeof(kLosses[0]);

// What a tensor of logits is: the discriminator's loss sees real and fake, the generator's fake
// and, where the loss compares the two, real.
enum class Role : int { real, fake, generator_fake, generator_real };
PYGAN_HD bool is_real(Role role) { return role == Role::real || role == Role::generator_real; }

// A form as one tensor of logits sees it: sign * form(mirror * x) with this eps.
struct Term {
  Form form;
  int mirror, sign;
  double eps;
};

// The generator of a loss that compares plays the discriminator's game with the parts exchanged.
constexpr Term term_of(const Loss& loss, Role role, double label_smoothing) {
  if (role == Role::real) return {loss.discriminator, 1, 1, label_smoothing};
  if (role == Role::generator_fake && loss.generator_wants == Generator::as_real) {
    return {loss.generator, 1, 1, 0};
  }
  const int sign = role == Role::generator_fake ? -1 : 1;
  if (loss.fake == Fake::target_zero) return {loss.discriminator, 1, sign, 1};
  return {loss.discriminator, -1, sign, 0};
}

// Calls f with the form, as an object.
template <class F>
PYGAN_HD void with_form(Form form, F&& f) {
  switch (form) {
#define PYGAN_FORM_CASE(name) \
  case Form::name:            \
    return f(name{});
    PYGAN_FORMS(PYGAN_FORM_CASE)
#undef PYGAN_FORM_CASE
  }
}

}  // namespace pygan
