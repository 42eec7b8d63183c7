// The gan_loss ops: allocation, and the launches on the three backends (CPU, CUDA, meta).
#include "cpu/kernels.h"
#include "ops/chunks.h"
#include "ops/loss.h"

namespace pygan::ops {
namespace {

LossOptions options_of(const at::Tensor& logits, const LossArgs& args) {
  LossOptions options{};
  options.dtype = dtype_of(logits.scalar_type());
  options.bounds_jsd = args.info().bounds_jsd();
  options.undecided = args.info().undecided(args.aims());
  return options;
}

// --- the two kernels, per device ---

using Pieces = c10::ArrayRef<LossPiece>;

using LossChunks = Chunks<kLossChunk, LossPiece>;

template <int N, class M>
void sums_cpu(Pieces pieces, const LossOptions& options, const LossOutputs& out) {
  const LossChunks chunks{pieces};
  std::vector<std::array<double, 2 * kSums>> partial(chunks.count());
  const cpu::Kernels& kernels = cpu::kernels();
  chunks.for_each([&](const LossPiece& piece, int64_t c, int64_t begin, int64_t end) {
    kernels.loss_sums(piece, options, begin, end, partial[c].data());
  });
  double totals[N] = {};
  auto next = partial.begin();
  auto* part = static_cast<M*>(out.parts);
  for (const LossPiece& piece : pieces) {
    double sums[2 * kSums] = {};
    for (int64_t c = LossChunks::of(piece); c > 0; --c, ++next) {
      for (int k = 0; k < 2 * kSums; ++k) sums[k] += (*next)[k];
    }
    if (part != nullptr) *part++ = static_cast<M>(piece.share * sums[kSumValue]);
    add_to_totals(totals, sums, piece, false, piece.coefficient);
    if (piece.other != nullptr) add_to_totals(totals, sums + kSums, piece, true, 0.0);
  }
  if (!finish_loss<N, M>(totals, options, out)) return;
  with_floating_type(options.dtype, [&](auto type) {
    using T = decltype(type);
    for (int k = 0; k < kStatistics; ++k) write_statistic<T>(k, totals, options, out);
  });
}

void sums(Pieces pieces, const LossOptions& options, const LossOutputs& out,
          const at::Tensor& like) {
  if (!like.is_cpu()) return sums_cuda(pieces, options, out, like);
  const bool wide = like.scalar_type() == at::kDouble;
  if (options.statistics) {
    return wide ? sums_cpu<kTotals, double>(pieces, options, out)
                : sums_cpu<kTotals, float>(pieces, options, out);
  }
  wide ? sums_cpu<1, double>(pieces, options, out) : sums_cpu<1, float>(pieces, options, out);
}

void each_on_cpu(Pieces pieces, const LossOptions& options, decltype(cpu::Kernels::loss_shift) f) {
  LossChunks{pieces}.for_each([&](const LossPiece& piece, int64_t, int64_t begin, int64_t end) {
    f(piece, options, begin, end);
  });
}

void pointwise(Pieces pieces, const LossOptions& options, const at::Tensor& like) {
  if (!like.is_cpu()) return pointwise_cuda(pieces, options, like);
  each_on_cpu(pieces, options, cpu::kernels().loss_pointwise);
}

void shift(Pieces pieces, const LossOptions& options, const at::Tensor&) {
  each_on_cpu(pieces, options, cpu::kernels().loss_shift);
}

// --- several launches, where one cannot take everything ---

// Pieces that one launch takes: those of one comparison with a mean, or as many as fit.
size_t group_size(const LossPlan& plan, const LossArgs& args) {
  if (args.to_mean()) return 2;
  return plan.logits[0].is_cpu() ? plan.pieces.size() : cuda::kMaxPieces;
}

// numbers: as LossWants says.
void run_sums(const LossPlan& plan, const LossArgs& args, LossWants wants, const at::Tensor& loss,
              const at::Tensor& numbers) {
  const at::Tensor& like = plan.logits[0];
  const size_t size = group_size(plan, args), count = plan.pieces.size();
  auto* const data = static_cast<char*>(numbers.mutable_data_ptr());
  const auto at_index = [&](size_t i) { return data + i * numbers.element_size(); };
  LossOptions options = options_of(like, args);
  options.statistics = wants.statistics || args.to_mean();
  options.slopes_alone = !wants.statistics;
  options.real_pivot = plan.first_logit(true);
  options.fake_pivot = plan.first_logit(false);
  const size_t means_at = wants.statistics ? size_t{kStatistics} : 0;
  const size_t parts_at = numbers.numel() - count;
  LossOutputs out{};
  out.loss = loss.mutable_data_ptr();
  out.statistics = wants.statistics ? data : nullptr;
  out.detached = args.detach_means;
  out.discriminator = args.discriminator();
  double real, fake;
  plan.count(0, count, real, fake);
  at::Tensor carry;
  if (count > size) {
    carry = at::empty({kTotals}, like.options().dtype(at::kDouble));
    out.carry = carry.mutable_data_ptr<double>();
  }
  for (size_t first = 0; first < count; first += size) {
    const size_t last = std::min(first + size, count);
    const Pieces pieces(plan.pieces.data() + first, last - first);
    if (args.to_mean()) {
      out.means = at_index(means_at + first / 2 * kMeans);
      out.parts = nullptr;
      plan.count(first, last, out.real, out.fake);
      options.sums = Sums::means;
      options.means = nullptr;
      sums(pieces, options, out, like);
      options.sums = Sums::loss;
      options.means = out.means;
    }
    out.real = real;
    out.fake = fake;
    out.parts = wants.parts ? at_index(parts_at + first) : nullptr;
    out.first = first == 0;
    out.last = last == count;
    sums(pieces, options, out, like);
  }
}

// f: pointwise or shift. means: of every comparison, where the loss compares with them.
void run_groups(const LossPlan& plan, const LossArgs& args, LossOptions options,
                const at::Tensor& means, decltype(pointwise) f) {
  const size_t size = group_size(plan, args), count = plan.pieces.size();
  for (size_t first = 0; first < count; first += size) {
    if (means.defined()) {
      options.means = static_cast<const char*>(means.const_data_ptr()) +
                      first / 2 * kMeans * means.element_size();
    }
    f({plan.pieces.data() + first, std::min(size, count - first)}, options, plan.logits[0]);
  }
}

// --- the ops, CPU and CUDA alike ---

using Numbers = std::tuple<at::Tensor, at::Tensor>;
using NumbersAndGrads = std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>>;

Numbers allocate(at::TensorList logits, const LossArgs& args, LossWants wants) {
  const auto type = math_type(logits[0].scalar_type());
  int64_t numbers = wants.statistics ? int64_t{kStatistics} : 0;
  numbers += means_of(logits, args);
  if (wants.parts) numbers += parts_of(logits, args);
  return {empty_on(logits[0], {}, {}, type), empty_on(logits[0], {numbers}, {1}, type)};
}

Numbers gan_loss(at::TensorList logits, at::IntArrayRef roles, int64_t loss, double label_smoothing,
                 c10::ArrayRef<double> weights, int64_t reduction, bool statistics,
                 c10::ArrayRef<double> targets, bool detach_means, bool parts) {
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  const LossWants wants{statistics, parts};
  check_loss(logits, args);
  const KeepSubnormals keep;
  const LossPlan plan(logits, args);
  const auto [value, numbers] = allocate(logits, args, wants);
  run_sums(plan, args, wants, value, numbers);
  return {value, numbers};
}

NumbersAndGrads gan_loss_and_grad(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                  double label_smoothing, c10::ArrayRef<double> weights,
                                  int64_t reduction, bool statistics, c10::ArrayRef<double> targets,
                                  bool detach_means, bool parts) {
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  const LossWants wants{statistics, parts};
  check_loss(logits, args);
  const KeepSubnormals keep;
  LossPlan plan(logits, args);
  const auto [value, numbers] = allocate(logits, args, wants);
  const at::Tensor& like = plan.logits[0];
  const auto type = like.scalar_type();
  // What goes through the means is known after the pass over the slopes. On the CPU, which is bound
  // by the exponential, a last pass takes it away from the gradients of the second: not in 16 bits,
  // where they would be rounded twice.
  const bool shifts = args.to_mean() && like.is_cpu() && type == math_type(type);
  std::vector<at::Tensor> grads;
  if (!args.to_mean() || shifts) grads = plan.allocate_outs(type);
  run_sums(plan, args, wants, value, numbers);
  if (shifts) {
    run_groups(plan, args, options_of(like, args), means_in(numbers, logits, args, wants), shift);
  } else if (args.to_mean()) {
    grads = plan.allocate_outs(type);
    LossOptions options = options_of(like, args);
    options.order = 1;
    run_groups(plan, args, options, means_in(numbers, logits, args, wants), pointwise);
  }
  plan.restore_layout(logits, grads);
  return {value, numbers, std::move(grads)};
}

std::vector<at::Tensor> gan_loss_backward(const at::Tensor& grad, at::TensorList logits,
                                          const at::Tensor& means, at::IntArrayRef roles,
                                          int64_t loss, double label_smoothing,
                                          c10::ArrayRef<double> weights, int64_t reduction,
                                          c10::ArrayRef<double> targets, bool detach_means) {
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  check_backward(grad, logits, means, args);
  const KeepSubnormals keep;
  LossPlan plan(logits, args);
  LossOptions options = options_of(logits[0], args);
  options.order = 1;
  options.grad = grad.const_data_ptr();
  auto grads = plan.allocate_outs(logits[0].scalar_type());
  run_groups(plan, args, options, args.to_mean() ? means : at::Tensor(), pointwise);
  plan.restore_layout(logits, grads);
  return grads;
}

std::vector<at::Tensor> gan_loss_terms(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                       double label_smoothing, int64_t order,
                                       c10::ArrayRef<double> targets) {
  const LossArgs args{roles, loss, label_smoothing, {}, kSum, targets};
  check_terms(logits, args, order);
  const KeepSubnormals keep;
  LossPlan plan = LossPlan::of_terms(logits, args);
  LossOptions options = options_of(logits[0], args);
  options.order = static_cast<int>(order);
  options.out_is_math = true;
  auto terms = plan.allocate_outs(math_type(logits[0].scalar_type()));
  run_groups(plan, args, options, {}, pointwise);
  return terms;
}

}  // namespace

int64_t parts_of(at::TensorList logits, const LossArgs& args) {
  const auto tensors = static_cast<int64_t>(logits.size());
  return args.info().compared == Compared::paired ? tensors / 2 : tensors;
}

at::Tensor means_in(const at::Tensor& numbers, at::TensorList logits, const LossArgs& args,
                    LossWants wants) {
  if (!wants.statistics && !wants.parts) return numbers;
  const int64_t first = wants.statistics ? kStatistics : 0;
  return numbers.slice(0, first, first + means_of(logits, args));
}

int64_t linear_loss() {
  constexpr auto is_linear = [](const Loss& loss) {
    return loss.compared == Compared::alone && loss.generator == Form::Linear;
  };
  static const int64_t index =
      std::find_if(std::begin(kLosses), std::end(kLosses), is_linear) - std::begin(kLosses);
  return index;
}

std::vector<at::Tensor> scaled(at::TensorList grads, double factor) {
  const std::vector<int64_t> roles(grads.size(), static_cast<int64_t>(Role::generator_fake));
  const LossArgs args{roles, linear_loss(), 0, {}, kSum};
  const KeepSubnormals keep;
  LossPlan plan = LossPlan::of_terms(grads, args);
  for (LossPiece& piece : plan.pieces) piece.coefficient = -factor;
  auto out = plan.allocate_outs(grads[0].scalar_type());
  run_groups(plan, args, options_of(grads[0], args), {}, pointwise);
  return out;
}

namespace {

// --- meta ---

Numbers gan_loss_meta(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                      double label_smoothing, c10::ArrayRef<double> weights, int64_t reduction,
                      bool statistics, c10::ArrayRef<double> targets, bool detach_means,
                      bool parts) {
  const LossArgs args{roles, loss, label_smoothing, weights, reduction, targets, detach_means};
  check_loss(logits, args);
  return allocate(logits, args, {statistics, parts});
}

std::vector<at::Tensor> like_each(at::TensorList logits, bool math) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& x : logits) {
    const auto type = math ? math_type(x.scalar_type()) : x.scalar_type();
    out.push_back(at::empty_like(x, x.options().dtype(type)));
  }
  return out;
}

NumbersAndGrads gan_loss_and_grad_meta(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                       double label_smoothing, c10::ArrayRef<double> weights,
                                       int64_t reduction, bool statistics,
                                       c10::ArrayRef<double> targets, bool detach_means,
                                       bool parts) {
  auto [value, numbers] = gan_loss_meta(logits, roles, loss, label_smoothing, weights, reduction,
                                        statistics, targets, detach_means, parts);
  return {value, numbers, like_each(logits, false)};
}

std::vector<at::Tensor> gan_loss_backward_meta(const at::Tensor& grad, at::TensorList logits,
                                               const at::Tensor& means, at::IntArrayRef roles,
                                               int64_t loss, double label_smoothing,
                                               c10::ArrayRef<double> weights, int64_t reduction,
                                               c10::ArrayRef<double> targets, bool detach_means) {
  check_backward(grad, logits, means,
                 {roles, loss, label_smoothing, weights, reduction, targets, detach_means});
  return like_each(logits, false);
}

std::vector<at::Tensor> gan_loss_terms_meta(at::TensorList logits, at::IntArrayRef roles,
                                            int64_t loss, double label_smoothing, int64_t order,
                                            c10::ArrayRef<double> targets) {
  check_terms(logits, {roles, loss, label_smoothing, {}, kSum, targets}, order);
  return like_each(logits, true);
}

TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_and_grad", gan_loss_and_grad);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}
TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_and_grad", gan_loss_and_grad);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}
TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("gan_loss", gan_loss_meta);
  m.impl("gan_loss_and_grad", gan_loss_and_grad_meta);
  m.impl("gan_loss_backward", gan_loss_backward_meta);
  m.impl("gan_loss_terms", gan_loss_terms_meta);
}

}  // namespace
}  // namespace pygan::ops
