// The GAN losses: every formula of the library, once.
//
// A *form* is what one logit contributes, as a function of how real it looks: the value, the first
// and the second derivative on adjacent lines, falling as x, the logit, rises. `aim` says where to:
// eps, by which the target is away from "certainly real", for Logistic; the target itself for
// Square, the margin for Hinge. What the logistic form needs is evaluated once for the loss, the
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

// max(0, margin - x), the margin being 1: Lim and Ye 2017, Miyato et al. 2018 (equation 16).
// Derivatives as torch.relu has them: 0 at the kink.
struct Hinge {
  static constexpr bool kExponential = false;
  template <class T>
  static PYGAN_HD T base(T x, T margin) {
    return positive_part(margin - x);
  }
  template <class T>
  static PYGAN_HD T d1(T x, T, T margin) {
    return x >= margin ? T(0) : T(-1);
  }
  template <class T>
  static PYGAN_HD T d2(T, T, T) {
    return T(0);
  }
};

// (x - target)^2 / 2: Mao et al. 2017 (equation 2, labels 0 and 1).
struct Square {
  static constexpr bool kExponential = false;
  template <class T>
  static PYGAN_HD T base(T x, T target) {
    const T d = x - target;
    return T(0.5) * d * d;
  }
  template <class T>
  static PYGAN_HD T d1(T x, T, T target) {
    return x - target;
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

// Whether a form has something simpler for an aim of 0, and the base for one.
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
PYGAN_HD T value_of(T x, T u, T aim) {
  const T base = F::base(x, aim);
  return F::kExponential ? add_log1p(base, u) : base;
}

// The value (order 0) or a derivative (1, 2) of a form.
template <class F, class M>
PYGAN_HD M form_of_order(int order, M x, M aim) {
  const M u = exp_minus_abs(x);
  if (order == 0) return value_of<F>(x, u, aim);
  const M q = sigmoid_minus_abs(u);
  return order == 1 ? F::d1(x, q, aim) : F::d2(x, q, aim);
}

#define PYGAN_FORMS(X) X(Logistic) X(Hinge) X(Square) X(Linear)

// What a logit is compared with before the form sees it: nothing, the logit of the same sample of
// the other kind, or the mean of the other kind (Jolicoeur-Martineau 2018).
enum class Compared : int { alone, paired, to_mean };

// How the discriminator looks at a fake logit f: form(-f), or form(f) with a target of its own.
enum class Fake : int { mirrored, target_zero };

// What the generator minimises: its form of f, as if f were real, or minus what D minimises.
enum class Generator : int { as_real, minus_fake };

// X(name, discriminator's form, compared, fake logits, generator's form, generator)
#define PYGAN_LOSSES(X)                                                   \
  X(non_saturating, Logistic, alone, mirrored, Logistic, as_real)         \
  X(minimax, Logistic, alone, mirrored, Logistic, minus_fake)             \
  X(hinge, Hinge, alone, mirrored, Linear, as_real)                       \
  X(clipped_hinge, Hinge, alone, mirrored, Hinge, as_real)                \
  X(least_squares, Square, alone, target_zero, Square, as_real)           \
  X(wasserstein, Linear, alone, mirrored, Linear, as_real)                \
  X(relativistic, Logistic, paired, mirrored, Logistic, as_real)          \
  X(relativistic_average, Logistic, to_mean, mirrored, Logistic, as_real) \
  X(relativistic_hinge, Hinge, paired, mirrored, Hinge, as_real)          \
  X(relativistic_average_hinge, Hinge, to_mean, mirrored, Hinge, as_real) \
  X(relativistic_average_least_squares, Square, to_mean, mirrored, Square, as_real)

enum class Form : int {
#define PYGAN_FORM_ENUM(name) name,
  PYGAN_FORMS(PYGAN_FORM_ENUM)
#undef PYGAN_FORM_ENUM
};

// What a tensor of logits is: the discriminator's loss sees real and fake, the generator's fake
// and, where the loss compares the two, real.
enum class Role : int { real, fake, generator_fake, generator_real };
PYGAN_HD bool is_real(Role role) { return role == Role::real || role == Role::generator_real; }

// What the logits of each role aim at: a probability for the logistic losses, a logit for
// least_squares, a margin for the hinges. eps is 1 - real, which label smoothing gives exactly.
struct Targets {
  double real, fake, generator, eps;
};

struct Loss {
  const char* name;
  Form discriminator;
  Compared compared;
  Fake fake;
  Form generator;
  Generator generator_wants;

  // Whether a player has targets that can be chosen, and whether they are probabilities.
  constexpr bool aims(bool generates) const {
    if (compared != Compared::alone) return false;
    return generates ? generator != Form::Linear && generator_wants == Generator::as_real
                     : discriminator != Form::Linear;
  }
  constexpr bool aims_at_probability() const { return discriminator == Form::Logistic; }
  constexpr bool smooths() const {
    return compared == Compared::alone &&
           (discriminator == Form::Logistic || discriminator == Form::Square);
  }
  constexpr Targets targets(double label_smoothing = 0) const {
    return {1 - label_smoothing, discriminator == Form::Hinge ? -1.0 : 0.0, 1, label_smoothing};
  }
  // The logit that decides for neither kind: half way between the targets.
  constexpr double undecided(const Targets& targets) const {
    const bool at_logits = aims(false) && !aims_at_probability();
    return at_logits ? (targets.real + targets.fake) / 2 : 0;
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

// A form as one tensor of logits sees it: sign * form(mirror * x) with this aim.
struct Term {
  Form form;
  int mirror, sign;
  double aim;
};

// The generator of a loss that compares plays the discriminator's game with the parts exchanged.
constexpr Term term_of(const Loss& loss, Role role, const Targets& targets) {
  const bool real = role == Role::real;
  if (real || (role == Role::generator_fake && loss.generator_wants == Generator::as_real)) {
    const Form form = real ? loss.discriminator : loss.generator;
    const double target = real ? targets.real : targets.generator;
    const double eps = real ? targets.eps : 1 - target;
    return {form, 1, 1, form == Form::Logistic ? eps : target};
  }
  const int sign = role == Role::generator_fake ? -1 : 1;
  if (loss.fake == Fake::target_zero) return {loss.discriminator, 1, sign, targets.fake};
  // Mirrored, a target is one of the opposite sign; where losses compare, that of a real logit.
  const bool logistic = loss.discriminator == Form::Logistic;
  const double mirrored = loss.compared == Compared::alone ? -targets.fake : 1;
  return {loss.discriminator, -1, sign, logistic ? targets.fake : mirrored};
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
