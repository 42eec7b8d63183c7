// The GAN losses: every formula of the library, once.
//
// A *term* is what one logit contributes: its value and its first two derivatives, on adjacent
// lines, as functions of the logit x and of eps, the one-sided label smoothing (Salimans et al.
// 2016). What the logistic ones share is handed to them, so that a kernel evaluates it once for the
// loss, the gradient and the statistics: u = exp(-|x|) to the value, q = sigmoid(-|x|) to the
// derivatives. A *loss* is three terms: for the discriminator on real and on fake logits, for the
// generator on fake logits. To add a loss, write its terms and add its line to PYGAN_LOSSES:
// kernels, Python names, tests, benchmarks and documentation all iterate that list.
#pragma once

#include <type_traits>

#include "math/elementary.h"

namespace pygan {

// -(1 - eps) log D - eps log(1 - D) with D = sigmoid(x): (1 - eps) softplus(-x) + eps softplus(x).
// With eps = 0, -log D(G(z)): the non-saturating generator (Goodfellow et al. 2014, section 3).
struct LogisticReal {
  template <class T>
  static PYGAN_HD T value(T x, T u, T eps) {
    // Both softplus share log1p(exp(-|x|)). A linear part of weight 0 must not turn an infinite
    // logit into NaN.
    const T weight = x < T(0) ? T(1) - eps : eps;
    const T linear = weight == T(0) ? T(0) : weight * absolute(x);
    return add_log1p(linear, u);
  }
  template <class T>
  static PYGAN_HD T d1(T x, T q, T eps) {
    return eps - sigmoid_of_minus(x, q);
  }
  template <class T>
  static PYGAN_HD T d2(T, T q, T) {
    return sigmoid_slope(q);
  }
};

// -log(1 - D)
struct LogisticFake {
  template <class T>
  static PYGAN_HD T value(T x, T u, T) {
    return softplus(x, u);
  }
  template <class T>
  static PYGAN_HD T d1(T x, T q, T) {
    return sigmoid(x, q);
  }
  template <class T>
  static PYGAN_HD T d2(T, T q, T) {
    return sigmoid_slope(q);
  }
};

// log(1 - D): the generator of the minimax game, which saturates where D rejects its samples.
struct Saturating {
  template <class T>
  static PYGAN_HD T value(T x, T u, T) {
    return -softplus(x, u);
  }
  template <class T>
  static PYGAN_HD T d1(T x, T q, T) {
    return -sigmoid(x, q);
  }
  template <class T>
  static PYGAN_HD T d2(T, T q, T) {
    return -sigmoid_slope(q);
  }
};

// X(name, discriminator on real, discriminator on fake, generator on fake)
#define PYGAN_LOSSES(X)                                       \
  X(non_saturating, LogisticReal, LogisticFake, LogisticReal) \
  X(minimax, LogisticReal, LogisticFake, Saturating)

enum class Loss : int {
#define PYGAN_LOSS_ENUM(name, ...) name,
  PYGAN_LOSSES(PYGAN_LOSS_ENUM)
#undef PYGAN_LOSS_ENUM
};

inline constexpr const char* kLossNames[] = {
#define PYGAN_LOSS_NAME(name, ...) #name,
    PYGAN_LOSSES(PYGAN_LOSS_NAME)
#undef PYGAN_LOSS_NAME
};
inline constexpr int kLosses = sizeof(kLossNames) / sizeof(kLossNames[0]);

template <Loss loss>
struct Terms;
#define PYGAN_LOSS_TERMS(name, real, fake, generator) \
  template <>                                         \
  struct Terms<Loss::name> {                          \
    using Real = real;                                \
    using Fake = fake;                                \
    using Generator = generator;                      \
  };
PYGAN_LOSSES(PYGAN_LOSS_TERMS)
#undef PYGAN_LOSS_TERMS

// What a tensor of logits is to the loss.
enum class Role : int { real, fake, generator };

// Calls f with the term that logits of this role contribute, as an object.
template <Loss loss, class F>
PYGAN_HD void with_term(Role role, F&& f) {
  using T = Terms<loss>;
  if (role == Role::fake) return f(typename T::Fake{});
  if constexpr (!std::is_same_v<typename T::Real, typename T::Generator>) {
    if (role == Role::generator) return f(typename T::Generator{});
  }
  f(typename T::Real{});
}

// Calls f with std::integral_constant<Loss, loss>.
template <class F>
void with_loss(Loss loss, F&& f) {
  switch (loss) {
#define PYGAN_LOSS_CASE(name, ...) \
  case Loss::name:                 \
    return f(std::integral_constant<Loss, Loss::name>{});
    PYGAN_LOSSES(PYGAN_LOSS_CASE)
#undef PYGAN_LOSS_CASE
  }
}

}  // namespace pygan
