// What a call of a loss must give: the loss, the gradient and the statistics, in long double, from
// the definitions in reference.h.
#pragma once

#include <array>

#include "loss_problem.h"

namespace loss_problem {

using reference::Jet;
using reference::Sum;
using reference::Term;

// All logits of a kind.
struct Kind {
  Real count = 0;
  Sum plain, logit, probability, positive, negative;
  std::vector<Real> values;

  // decided: above 0 for real, below for fake.
  void add(Real x, bool is_real, Real decided) {
    const Jet logit_of_x = reference::variable(x);
    count += 1;
    values.push_back(x);
    plain.add(reference::softplus(is_real ? -logit_of_x : logit_of_x), 0, 1);
    logit.add(x);
    probability.add(reference::sigmoid(x));
    positive.add(decided > 0);
    negative.add(decided < 0);
  }
};

struct Expected {
  Sum loss;
  std::vector<Sum> parts;                               // of each tensor, or of each pair
  std::vector<std::vector<Sum>> grads;                  // [tensors][n]
  std::vector<std::array<Sum, pygan::kMeans>> of_mean;  // [scales], where the loss takes a mean
  Kind real, fake;
};

class Expectation {
 public:
  // aims: of each role, as the math type has it.
  Expectation(const Call& call, const std::array<Real, 4>& aims,
              const std::vector<const Logits*>& tensors)
      : call_(call), aims_(aims) {
    for (const Logits* x : tensors) {
      result.grads.emplace_back(x->size());
    }
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const std::size_t kinds = call.kinds(), first = t / kinds * kinds;
      count(*tensors[t], *tensors[first + (kinds - 1 - t % kinds)]);
    }
    for (std::size_t t = 0; t < tensors.size(); t += call.kinds()) {
      const auto* x = &tensors[t];
      auto* grads = &result.grads[t];
      switch (call.against()) {
        case Against::nothing:
          for (std::size_t k = 0; k < call.kinds(); ++k) add_alone(*x[k], grads[k]);
          break;
        case Against::paired:
          add_pairs(*x[0], *x[1], grads[0], grads[1]);
          break;
        case Against::mean:
          add_to_mean(*x[0], *x[1], grads[0], grads[1]);
          break;
      }
    }
  }

  Expected result;

 private:
  // What decides for neither kind is half way between the targets, or what the loss compares with.
  void count(const Logits& x, const Logits& other) {
    const bool paired = call_.against() == Against::paired;
    Real middle = 0;
    if (call_.against() == Against::mean) middle = mean_of(other).value;
    if (call_.loss.aims(false) && !call_.loss.aims_at_probability()) {
      middle = (Real(call_.targets.real) + Real(call_.targets.fake)) / 2;
    }
    Kind& kind = x.is_real() ? result.real : result.fake;
    for (int64_t i = 0; i < x.size(); ++i) {
      kind.add(x.values[i], x.is_real(), x.values[i] - (paired ? other.values[i] : middle));
    }
  }

  Term term_of(const Logits& x) const { return call_.definition().of(x.role); }

  void add_alone(const Logits& x, std::vector<Sum>& grad) {
    const Term term = term_of(x);
    Sum& part = result.parts.emplace_back();
    for (int64_t i = 0; i < x.size(); ++i) {
      const Jet by_x = term(reference::variable(x.values[i]), {}, aims_[static_cast<int>(x.role)]);
      result.loss.add(by_x, 0, x.factor());
      part.add(by_x, 0, x.part_factor());
      grad[i].add(by_x, 1, x.factor());
    }
  }

  void add_pairs(const Logits& x, const Logits& y, std::vector<Sum>& grad_x,
                 std::vector<Sum>& grad_y) {
    const Term term = term_of(x);
    Sum& part = result.parts.emplace_back();
    for (int64_t i = 0; i < x.size(); ++i) {
      const Jet by_x = term(reference::variable(x.values[i]), reference::exactly(y.values[i]), 0);
      part.add(by_x, 0, x.part_factor());
      const Jet by_y = term(reference::exactly(x.values[i]), reference::variable(y.values[i]), 0);
      result.loss.add(by_x, 0, x.factor());
      grad_x[i].add(by_x, 1, x.factor());
      grad_y[i].add(by_y, 1, x.factor());
    }
  }

  void add_to_mean(const Logits& x, const Logits& y, std::vector<Sum>& grad_x,
                   std::vector<Sum>& grad_y) {
    const Sum mean_x = mean_of(x), mean_y = mean_of(y);
    const Sum by_mean_y = add_against(x, mean_y, grad_x),
              by_mean_x = add_against(y, mean_x, grad_y);
    const Real through = call_.detached ? 0 : 1;
    for (Sum& one : grad_x) one.add(by_mean_x, through / Real(x.size()));
    for (Sum& one : grad_y) one.add(by_mean_y, through / Real(y.size()));
    std::array<Sum, pygan::kMeans> numbers;
    numbers[x.is_real() ? pygan::kMeanReal : pygan::kMeanFake] = mean_x;
    numbers[y.is_real() ? pygan::kMeanReal : pygan::kMeanFake] = mean_y;
    // A difference is compared: by the logit and by the mean the slope is the same but for the
    // sign.
    numbers[x.is_real() ? pygan::kSlopeReal : pygan::kSlopeFake].add(by_mean_y, -through);
    numbers[y.is_real() ? pygan::kSlopeReal : pygan::kSlopeFake].add(by_mean_x, -through);
    result.of_mean.push_back(numbers);
  }

  static Sum mean_of(const Logits& x) {
    Sum mean;
    for (int64_t i = 0; i < x.size(); ++i) mean.add(x.values[i] / x.size());
    return mean;
  }

  // The terms of x against the mean of the others; the derivative of their sum by that mean.
  Sum add_against(const Logits& x, const Sum& mean, std::vector<Sum>& grad) {
    const Term term = term_of(x);
    // Also its own error, of up to 16 additions.
    const Real magnitude = 2 * mean.magnitude;
    const Jet center = reference::constant(mean.value, magnitude);
    Jet variable_center = reference::variable(mean.value);
    variable_center.magnitude[0] = magnitude;
    Sum by_mean;
    Sum& part = result.parts.emplace_back();
    for (int64_t i = 0; i < x.size(); ++i) {
      const Jet by_x = term(reference::variable(x.values[i]), center, 0);
      part.add(by_x, 0, x.part_factor());
      result.loss.add(by_x, 0, x.factor());
      grad[i].add(by_x, 1, x.factor());
      by_mean.add(term(reference::exactly(x.values[i]), variable_center, 0), 1, x.factor());
    }
    return by_mean;
  }

  const Call& call_;
  const std::array<Real, 4> aims_;
};

template <class T>
Expected expect(const Problem<T>& problem) {
  std::vector<const Logits*> tensors;
  for (const auto& tensor : problem.tensors) tensors.push_back(&tensor);
  std::array<Real, 4> aims;
  for (int role = 0; role < 4; ++role) {
    aims[role] = problem.call.template aim<pygan::math_t<T>>(static_cast<Role>(role));
  }
  return Expectation(problem.call, aims, tensors).result;
}

}  // namespace loss_problem
