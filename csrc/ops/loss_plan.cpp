// The data of a call of a loss op: the pieces that the kernels work on, and the results.
#include "ops/loss.h"

namespace pygan::ops {
namespace {

// How many losses of tensors, or of pairs, are reported.
int64_t parts_of(at::TensorList logits, const LossArgs& args) {
  const auto tensors = static_cast<int64_t>(logits.size());
  return args.info().compared == Compared::paired ? tensors / 2 : tensors;
}

}  // namespace

c10::SmallVector<Compare, 2> comparisons(const LossArgs& args) {
  const auto real = args.indices_of(true), fake = args.indices_of(false);
  const auto weight = [&](size_t k) { return args.weights.empty() ? 1.0 : args.weights[k]; };
  c10::SmallVector<Compare, 2> all;
  if (args.info().compared != Compared::alone) {
    for (size_t k = 0; k < fake.size(); ++k) {
      const auto [first, second] =
          args.discriminator() ? std::pair(real[k], fake[k]) : std::pair(fake[k], real[k]);
      all.push_back({first, second, weight(k)});
    }
    return all;
  }
  for (size_t k = 0; k < real.size(); ++k) all.push_back({real[k], -1, weight(k)});
  for (size_t k = 0; k < fake.size(); ++k) all.push_back({fake[k], -1, weight(k)});
  return all;
}

LossPlan::LossPlan(at::TensorList tensors, const LossArgs& args) {
  for (const at::Tensor& x : tensors) logits.push_back(dense(x));
  const auto add = [&](int64_t i, int64_t other, double weight) {
    const auto role = static_cast<Role>(args.roles[i]);
    const Term term = term_of(args.info(), role, args.aims());
    const int64_t n = logits[i].numel();
    const double share = args.reduction == kMean ? 1.0 / static_cast<double>(n) : 1.0;
    pieces.push_back({logits[i].const_data_ptr(),
                      other < 0 ? nullptr : logits[other].const_data_ptr(), nullptr, nullptr, n,
                      term.sign * weight * share, term.sign * share, term.aim, term.form,
                      term.mirror, role});
    indices_.emplace_back(i, other);
  };
  for (const auto& [first, second, weight] : comparisons(args)) {
    if (args.info().compared == Compared::paired) {
      if (logits[first].strides() != logits[second].strides()) {
        logits[first] = logits[first].contiguous();
        logits[second] = logits[second].contiguous();
        reordered_ = true;
      }
      add(first, second, weight);
    } else {
      add(first, -1, weight);
      if (second >= 0) add(second, -1, weight);
    }
  }
}

LossPlan LossPlan::of_terms(at::TensorList tensors, const LossArgs& args) {
  LossPlan plan;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto role = static_cast<Role>(args.roles[i]);
    const Term term = term_of(args.info(), role, args.aims());
    plan.logits.push_back(dense(tensors[i]));
    plan.pieces.push_back({plan.logits[i].const_data_ptr(), nullptr, nullptr, nullptr,
                           plan.logits[i].numel(), static_cast<double>(term.sign), 1, term.aim,
                           term.form, term.mirror, role});
    plan.indices_.emplace_back(i, -1);
  }
  return plan;
}

std::vector<at::Tensor> LossPlan::allocate_outs(at::ScalarType type) {
  std::vector<at::Tensor> outs;
  for (const at::Tensor& x : logits) outs.push_back(empty_as(x, type));
  for (size_t p = 0; p < pieces.size(); ++p) {
    const auto [i, other] = indices_[p];
    pieces[p].out = outs[i].mutable_data_ptr();
    if (other >= 0) pieces[p].other_out = outs[other].mutable_data_ptr();
  }
  return outs;
}

void LossPlan::restore_layout(at::TensorList tensors, std::vector<at::Tensor>& outs) const {
  for (size_t i = 0; reordered_ && i < outs.size(); ++i) {
    outs[i] = at::empty_like(tensors[i]).copy_(outs[i]);
  }
}

const void* LossPlan::first_logit(bool real) const {
  for (const LossPiece& piece : pieces) {
    if (piece.n == 0) continue;
    if (is_real(piece.role) == real) return piece.logits;
    if (piece.other != nullptr) return piece.other;
  }
  return nullptr;
}

void LossPlan::count(size_t first, size_t last, double& real, double& fake) const {
  real = fake = 0;
  for (size_t p = first; p < last; ++p) {
    const auto n = static_cast<double>(pieces[p].n);
    const bool paired = pieces[p].other != nullptr;
    if (is_real(pieces[p].role) || paired) real += n;
    if (!is_real(pieces[p].role) || paired) fake += n;
  }
}

std::tuple<at::Tensor, at::Tensor> allocate_results(at::TensorList logits, const LossArgs& args,
                                                    LossWants wants) {
  const auto type = math_type(logits[0].scalar_type());
  int64_t numbers = wants.statistics ? int64_t{kStatistics} : 0;
  numbers += means_of(logits, args);
  if (wants.parts) numbers += parts_of(logits, args);
  return {empty_on(logits[0], {}, {}, type), empty_on(logits[0], {numbers}, {1}, type)};
}

at::Tensor means_in(const at::Tensor& numbers, at::TensorList logits, const LossArgs& args,
                    LossWants wants) {
  if (!wants.statistics && !wants.parts) return numbers;
  const int64_t first = wants.statistics ? kStatistics : 0;
  return numbers.slice(0, first, first + means_of(logits, args));
}

}  // namespace pygan::ops
