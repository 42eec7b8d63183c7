// One call of a loss: which, over which lists of logits, with which weights and reduction.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "reference.h"

namespace loss_problem {

using harness::Buffer;
using harness::Random;
using pygan::Role;
using reference::Against;
using reference::Real;

struct Call {
  const pygan::Loss& loss;
  bool discriminator;
  std::vector<int64_t> sizes;  // of the first tensor of each scale; the second may differ
  pygan::Targets targets = loss.targets();
  bool mean = true;
  bool weighted = false;
  bool detached = false;  // the means that the loss compares with

  const reference::Definition& definition() const { return reference::definition_of(loss.name); }
  Against against() const { return definition().against; }
  // What the definition's terms call so, as the math type has it.
  template <class M>
  Real aim(Role role) const {
    const bool logistic = loss.aims_at_probability();
    if (role == Role::real) return M(logistic ? targets.eps : targets.real);
    if (role == Role::fake) return M(targets.fake);
    return M(logistic ? 1 - targets.generator : targets.generator);
  }
  // Tensors of a scale: the generator sees real logits only where the loss compares.
  std::size_t kinds() const { return discriminator || against() != Against::nothing ? 2 : 1; }
};

// NaN, whatever the type: what is not written shows.
template <class T>
void spoil(Buffer<T>& x) {
  if (x.size() > 0) std::memset(x.data(), 0xff, x.size() * sizeof(T));
}

// A tensor of logits, as the definitions see it.
struct Logits {
  Role role;
  double weight, share;      // of its terms in the loss: the share is 1 / n for a mean
  std::vector<Real> values;  // exact

  int64_t size() const { return static_cast<int64_t>(values.size()); }
  bool is_real() const { return role == Role::real || role == Role::generator_real; }
  Real part_factor() const { return share == 1 ? 1 : 1 / Real(size()); }
  Real factor() const { return Real(weight) * part_factor(); }
};

// The same in memory, and the gradient by it.
template <class T>
struct Tensor : Logits {
  std::unique_ptr<Buffer<T>> logits, grad;

  Tensor(Role role, int64_t n, double weight, bool mean, Random& random)
      : Logits{role, weight, mean ? 1.0 / double(n) : 1.0, {}} {
    for (int64_t i = 0; i < n; ++i)
      values.push_back(pygan::to_float(reference::random_logit<T>(random)));
  }

  // To other addresses, aligned or not; the gradient is not there yet.
  void place(Random& random) {
    logits = std::make_unique<Buffer<T>>(values.size(), random.bits() % 5);
    grad = std::make_unique<Buffer<T>>(values.size(), random.bits() % 2 * (random.bits() % 5));
    for (std::size_t i = 0; i < values.size(); ++i)
      (*logits)[i] = pygan::from_math<T>(pygan::math_t<T>(values[i]));
    spoil(*grad);
  }
};

template <class T>
struct Problem {
  const Call call;
  std::vector<Tensor<T>> tensors;  // the scales one after the other, each of call.kinds()

  Problem(const Call& given, Random& random) : call(given) {
    for (const int64_t n : call.sizes) {
      const double weight = call.weighted ? random.uniform(-2, 2) : 1;
      const int64_t unlike = call.against() == Against::paired || n == 0 ? n : n / 2 + 1;
      tensors.emplace_back(call.discriminator ? Role::real : Role::generator_fake, n, weight,
                           call.mean, random);
      if (call.kinds() == 1) continue;
      tensors.emplace_back(call.discriminator ? Role::fake : Role::generator_real, unlike, weight,
                           call.mean, random);
    }
    place(random);
  }

  void place(Random& random) {
    for (auto& tensor : tensors) tensor.place(random);
  }
  std::vector<std::vector<T>> grads() {
    std::vector<std::vector<T>> copies;
    for (auto& tensor : tensors)
      copies.emplace_back(tensor.grad->data(), tensor.grad->data() + tensor.size());
    return copies;
  }
};

}  // namespace loss_problem
