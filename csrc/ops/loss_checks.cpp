// Checks of the loss ops' arguments.
#include "ops/loss.h"

namespace pygan::ops {
namespace {

const char* op_name(const LossArgs& args) {
  if (!args.discriminator()) return "pygan.fused_losses.generator_loss";
  const int64_t first = args.roles[0];
  for (const int64_t role : args.roles) {
    if (role != first) return "pygan.fused_losses.discriminator_loss";
  }
  // One side alone.
  return is_real(static_cast<Role>(first)) ? "pygan.fused_losses.real_loss"
                                           : "pygan.fused_losses.fake_loss";
}

// "fake_logits", or "fake_logits[2]" where there are several.
std::string argument_name(at::IntArrayRef roles, size_t i) {
  const bool real = is_real(static_cast<Role>(roles[i]));
  size_t before = 0, all = 0;
  for (size_t k = 0; k < roles.size(); ++k) {
    if (is_real(static_cast<Role>(roles[k])) != real) continue;
    before += k < i;
    ++all;
  }
  const std::string name = real ? "real_logits" : "fake_logits";
  return all > 1 ? c10::str(name, "[", before, "]") : name;
}

void check_targets(const char* op, const LossArgs& args) {
  if (args.targets.empty()) return;
  const Loss& loss = args.info();
  const bool generates = !args.discriminator();
  TORCH_CHECK(args.targets.size() == (generates ? 1 : 2) && args.label_smoothing == 0,
              "pygan::gan_loss: targets must be those of real and fake logits, or the generator's, "
              "without label smoothing, got ",
              args.targets);
  TORCH_CHECK_VALUE(loss.aims(generates), op, ": targets must be None for loss=\"", loss.name,
                    "\", which has none, got ", args.targets);
  for (const double target : args.targets) {
    const bool fits =
        loss.aims_at_probability() ? target >= 0 && target <= 1 : std::isfinite(target);
    TORCH_CHECK_VALUE(fits, op, ": targets must be ",
                      loss.aims_at_probability() ? "from 0 to 1" : "finite", " for loss=\"",
                      loss.name, "\", got ", target);
  }
}

void check_args(at::TensorList logits, const LossArgs& args) {
  TORCH_CHECK(logits.size() == args.roles.size() && !logits.empty(),
              "pygan::gan_loss: logits and roles must have the same length, at least 1, got ",
              logits.size(), " tensors and ", args.roles.size(), " roles");
  TORCH_CHECK(args.loss >= 0 && args.loss < kLossCount,
              "pygan::gan_loss: loss must be an index below ", kLossCount, ", got ", args.loss);
  TORCH_CHECK(args.reduction == kMean || args.reduction == kSum,
              "pygan::gan_loss: reduction must be 0 (mean) or 1 (sum), got ", args.reduction);
  for (const int64_t role : args.roles) {
    TORCH_CHECK(role >= 0 && role <= static_cast<int64_t>(Role::generator_real) &&
                    (role <= static_cast<int64_t>(Role::fake)) == args.discriminator(),
                "pygan::gan_loss: roles must be 0 (real) and 1 (fake) for the discriminator, 2 "
                "(fake) and 3 (real) for the generator, got ",
                args.roles);
  }
  const char* op = op_name(args);
  TORCH_CHECK_VALUE(args.label_smoothing >= 0 && args.label_smoothing <= 1, op,
                    ": label_smoothing must be from 0 to 1, got ", args.label_smoothing);
  TORCH_CHECK_VALUE(args.label_smoothing == 0 || (args.discriminator() && args.info().smooths()),
                    op, ": label_smoothing must be 0 for loss=\"", args.info().name,
                    "\", which has no labels to smooth, got ", args.label_smoothing);
  check_targets(op, args);
  TORCH_CHECK_VALUE(!args.detach_means || (args.discriminator() && args.to_mean()), op,
                    ": detach_means must be False for loss=\"", args.info().name,
                    "\", which uses no means, got True");
}

// The loss that compares with means what this one compares in pairs.
const char* averaging(const Loss& paired) {
  for (const Loss& loss : kLosses) {
    if (loss.compared == Compared::to_mean && loss.discriminator == paired.discriminator) {
      return loss.name;
    }
  }
  return paired.name;
}

// What each tensor is by itself.
void check_logits(at::TensorList logits, const LossArgs& args) {
  check_args(logits, args);
  const char* op = op_name(args);
  const at::Tensor& first = logits[0];
  for (size_t i = 0; i < logits.size(); ++i) {
    const at::Tensor& x = logits[i];
    if (is_float(x.scalar_type()) && x.scalar_type() == first.scalar_type() &&
        x.device() == first.device()) {
      continue;
    }
    const std::string argument = argument_name(args.roles, i);
    TORCH_CHECK_TYPE(is_float(x.scalar_type()), op, ": ", argument,
                     " must be float32, float64, float16 or bfloat16, got ",
                     name_of(x.scalar_type()));
    TORCH_CHECK_TYPE(x.scalar_type() == first.scalar_type(), op, ": ", argument,
                     " must have the dtype of ", argument_name(args.roles, 0), ", ",
                     name_of(first.scalar_type()), ", got ", name_of(x.scalar_type()));
    TORCH_CHECK_VALUE(x.device() == first.device(), op, ": ", argument,
                      " must be on the device of ", argument_name(args.roles, 0), ", ",
                      first.device(), ", got ", x.device());
  }
}

}  // namespace

void check_loss(at::TensorList logits, const LossArgs& args) {
  check_logits(logits, args);
  const char* op = op_name(args);
  const Loss& loss = args.info();
  const auto real = args.indices_of(true), fake = args.indices_of(false);
  // Where nothing is compared, the discriminator may be asked about one side, as the generator is.
  const size_t scales = std::max(real.size(), fake.size());
  const bool one_side = loss.compared == Compared::alone &&
                        (args.discriminator() ? real.empty() != fake.empty() : real.empty());
  TORCH_CHECK(scales > 0 && (real.size() == fake.size() || one_side),
              "pygan::gan_loss: there must be a real tensor for each fake one, got ", real.size(),
              " and ", fake.size());
  TORCH_CHECK_VALUE(args.weights.empty() || args.weights.size() == scales, op,
                    ": weights must hold one number for each of the ", scales, " scale(s), got ",
                    args.weights.size());
  for (const double weight : args.weights) {
    TORCH_CHECK_VALUE(std::isfinite(weight), op, ": weights must be finite, got ", weight);
  }
  if (args.reduction == kMean || args.to_mean()) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (logits[i].sym_numel() != 0) continue;
      TORCH_CHECK_VALUE(args.reduction != kMean, op, ": ", argument_name(args.roles, i),
                        " must not be empty for reduction=\"mean\", got shape ",
                        logits[i].sym_sizes());
      TORCH_CHECK_VALUE(false, op, ": ", argument_name(args.roles, i),
                        " must not be empty for loss=\"", loss.name,
                        "\", which takes its mean, got shape ", logits[i].sym_sizes());
    }
  }
  if (loss.compared != Compared::paired) return;
  for (size_t k = 0; k < fake.size(); ++k) {
    const at::Tensor &r = logits[real[k]], &f = logits[fake[k]];
    TORCH_CHECK_VALUE(r.sym_sizes() == f.sym_sizes(), op, ": ", argument_name(args.roles, fake[k]),
                      " must have the shape of ", argument_name(args.roles, real[k]),
                      " for loss=\"", loss.name, "\", which pairs them, ", r.sym_sizes(), ", got ",
                      f.sym_sizes(), "; loss=\"", averaging(loss), "\" takes any two sizes");
  }
}

void check_backward(const at::Tensor& grad, at::TensorList logits, const at::Tensor& means,
                    const LossArgs& args) {
  check_loss(logits, args);
  const auto type = math_type(logits[0].scalar_type());
  const at::Device device = logits[0].device();
  TORCH_CHECK(grad.sym_numel() == 1 && grad.scalar_type() == type && grad.device() == device,
              "pygan::gan_loss_backward: grad must be a single number like the loss, ",
              name_of(type), " on ", device, ", got ", name_of(grad.scalar_type()), " of shape ",
              grad.sym_sizes(), " on ", grad.device());
  const int64_t numbers = means_of(logits, args);
  TORCH_CHECK(means.dim() == 1 && means.sym_size(0) == numbers && means.is_contiguous() &&
                  means.scalar_type() == type && means.device() == device,
              "pygan::gan_loss_backward: means must be the ", numbers, " numbers of gan_loss, ",
              name_of(type), " on ", device, ", got ", name_of(means.scalar_type()), " of shape ",
              means.sym_sizes(), " on ", means.device());
}

void check_terms(at::TensorList logits, const LossArgs& args, int64_t order) {
  check_logits(logits, args);
  TORCH_CHECK(order >= 0 && order <= 2, "pygan::gan_loss_terms: order must be 0, 1 or 2, got ",
              order);
}

}  // namespace pygan::ops
