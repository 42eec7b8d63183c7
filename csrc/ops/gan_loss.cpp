// The gan_loss ops: checks, allocation, and the three backends (CPU, CUDA, meta).
#include "ops/gan_loss.h"

#include <ATen/Parallel.h>

#include "cpu/kernels.h"

namespace pygan::ops {
namespace {

const char* op_name(at::IntArrayRef roles) {
  const bool generator = std::any_of(roles.begin(), roles.end(), [](int64_t role) {
    return static_cast<Role>(role) == Role::generator;
  });
  return generator ? "pygan.generator_loss" : "pygan.discriminator_loss";
}
const char* argument_name(int64_t role) {
  return static_cast<Role>(role) == Role::real ? "real_logits" : "fake_logits";
}

}  // namespace

void check_logits(at::TensorList logits, at::IntArrayRef roles, int64_t loss, int64_t reduction) {
  const char* op = op_name(roles);
  TORCH_CHECK(logits.size() == roles.size() && !logits.empty() && logits.size() <= kMaxPieces,
              "pygan::gan_loss: logits must be 1 to ", kMaxPieces,
              " tensors with a role each, got ", logits.size(), " tensors and ", roles.size(),
              " roles");
  TORCH_CHECK(loss >= 0 && loss < kLosses, "pygan::gan_loss: loss must be an index below ", kLosses,
              ", got ", loss);
  TORCH_CHECK(reduction == kMean || reduction == kSum,
              "pygan::gan_loss: reduction must be 0 (mean) or 1 (sum), got ", reduction);
  for (const int64_t role : roles) {
    TORCH_CHECK(role >= 0 && role <= static_cast<int64_t>(Role::generator),
                "pygan::gan_loss: roles must be 0 (real), 1 (fake) or 2 (generator), got ", role);
  }
  const at::Tensor& first = logits[0];
  for (size_t i = 0; i < logits.size(); ++i) {
    const at::Tensor& x = logits[i];
    const char* argument = argument_name(roles[i]);
    TORCH_CHECK_TYPE(is_float(x.scalar_type()), op, ": ", argument,
                     " must be float32, float64, float16 or bfloat16, got ",
                     name_of(x.scalar_type()));
    TORCH_CHECK_TYPE(x.scalar_type() == first.scalar_type(), op, ": ", argument,
                     " must have the dtype of ", argument_name(roles[0]), ", ",
                     name_of(first.scalar_type()), ", got ", name_of(x.scalar_type()));
    TORCH_CHECK_VALUE(x.device() == first.device(), op, ": ", argument,
                      " must be on the device of ", argument_name(roles[0]), ", ", first.device(),
                      ", got ", x.device());
    TORCH_CHECK_VALUE(reduction != kMean || x.sym_numel() != 0, op, ": ", argument,
                      " must not be empty for reduction=\"mean\", got shape ", x.sym_sizes());
  }
}

namespace {

using Pieces = c10::SmallVector<LossPiece, 2>;
using Tensors = c10::SmallVector<at::Tensor, 2>;

// Pieces over tensors that `storage` then keeps alive; outs may be empty.
Pieces pieces_of(at::TensorList logits, at::IntArrayRef roles, int64_t reduction,
                 Tensors& storage) {
  Pieces pieces;
  for (size_t i = 0; i < logits.size(); ++i) {
    storage.push_back(dense(logits[i]));
    const int64_t n = logits[i].numel();
    pieces.push_back({storage.back().const_data_ptr(), nullptr, n,
                      reduction == kMean ? 1.0 / static_cast<double>(n) : 1.0,
                      static_cast<Role>(roles[i])});
  }
  return pieces;
}

LossOptions options_of(const at::Tensor& logits, int64_t loss, double label_smoothing) {
  return {static_cast<Loss>(loss), dtype_of(logits.scalar_type()),
          label_smoothing,
          /*statistics=*/false,    /*order=*/0,
          /*grad=*/nullptr,        /*out_is_math=*/false};
}

// --- the two kernels, per device
// -------------------------------------------------------------------

struct Sums {
  void* loss;
  void* statistics;
};

// Chunks below this many run on the calling thread: waking another costs about what they take.
constexpr int64_t kSerialChunks = 2;

// Calls f(piece, chunk, begin, end) for every chunk of every piece, chunks being numbered through.
template <class F>
void for_each_chunk(const Pieces& pieces, F&& f) {
  int64_t chunks = 0;
  for (const LossPiece& piece : pieces) chunks += (piece.n + kLossChunk - 1) / kLossChunk;
  at::parallel_for(0, chunks, kSerialChunks, [&](int64_t first, int64_t last) {
    int64_t before = 0;  // chunks of the pieces before this one
    for (const LossPiece& piece : pieces) {
      const int64_t own = (piece.n + kLossChunk - 1) / kLossChunk;
      for (int64_t c = std::max(first, before); c < std::min(last, before + own); ++c) {
        const int64_t begin = (c - before) * kLossChunk;
        f(piece, c, begin, std::min(begin + kLossChunk, piece.n));
      }
      before += own;
    }
  });
}

template <class M>
void sums_cpu(const Pieces& pieces, const LossOptions& options, bool discriminator,
              const Sums& out) {
  int64_t chunks = 0;
  for (const LossPiece& piece : pieces) chunks += (piece.n + kLossChunk - 1) / kLossChunk;
  c10::SmallVector<std::array<double, kSums>, 8> partial(chunks);
  const cpu::Kernels& kernels = cpu::kernels();
  for_each_chunk(pieces, [&](const LossPiece& piece, int64_t c, int64_t begin, int64_t end) {
    kernels.loss_sums(piece, options, begin, end, partial[c].data());
  });
  double totals[kTotals] = {}, real = 0, fake = 0;
  auto next = partial.begin();
  for (const LossPiece& piece : pieces) {
    double sums[kSums] = {};
    for (int64_t i = 0; i < piece.n; i += kLossChunk, ++next) {
      for (int k = 0; k < kSums; ++k) sums[k] += (*next)[k];
    }
    add_to_totals(totals, sums, piece);
    (piece.role == Role::real ? real : fake) += static_cast<double>(piece.n);
  }
  *static_cast<M*>(out.loss) = static_cast<M>(totals[0]);
  if (options.statistics) {
    finish_statistics(totals, real, fake, discriminator, static_cast<M*>(out.statistics));
  }
}

void pointwise_cpu(const Pieces& pieces, const LossOptions& options) {
  const cpu::Kernels& kernels = cpu::kernels();
  for_each_chunk(pieces, [&](const LossPiece& piece, int64_t, int64_t begin, int64_t end) {
    kernels.loss_pointwise(piece, options, begin, end);
  });
}

void sums(const Pieces& pieces, const LossOptions& options, bool discriminator, const Sums& out,
          const at::Tensor& like) {
  if (like.is_cpu()) {
    if (like.scalar_type() == at::kDouble) {
      return sums_cpu<double>(pieces, options, discriminator, out);
    }
    return sums_cpu<float>(pieces, options, discriminator, out);
  }
  sums_cuda(pieces.data(), static_cast<int>(pieces.size()), options, discriminator, out.loss,
            out.statistics, like);
}

void pointwise(const Pieces& pieces, const LossOptions& options, const at::Tensor& like) {
  if (like.is_cpu()) return pointwise_cpu(pieces, options);
  pointwise_cuda(pieces.data(), static_cast<int>(pieces.size()), options, like);
}

// --- the ops, CPU and CUDA alike
// -------------------------------------------------------------------

using LossAndStatistics = std::tuple<at::Tensor, at::Tensor>;

LossAndStatistics allocate(at::TensorList logits, bool statistics) {
  const auto options = logits[0].options().dtype(math_type(logits[0].scalar_type()));
  return {at::empty({}, options), at::empty({statistics ? int64_t{kStatistics} : 0}, options)};
}

// The loss; and its gradients into `grads` where that is given (CPU).
LossAndStatistics loss_of(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                          double label_smoothing, int64_t reduction, bool statistics,
                          std::vector<at::Tensor>* grads) {
  check_logits(logits, roles, loss, reduction);
  Tensors storage;
  Pieces pieces = pieces_of(logits, roles, reduction, storage);
  LossOptions options = options_of(logits[0], loss, label_smoothing);
  options.statistics = statistics;
  const auto [value, stats] = allocate(logits, statistics);
  for (size_t i = 0; grads != nullptr && i < pieces.size(); ++i) {
    grads->push_back(at::empty_like(storage[i]));
    pieces[i].out = grads->back().mutable_data_ptr();
  }
  const bool discriminator = static_cast<Role>(roles.back()) == Role::fake;
  sums(pieces, options, discriminator,
       {value.mutable_data_ptr(), statistics ? stats.mutable_data_ptr() : nullptr}, logits[0]);
  return {value, stats};
}

LossAndStatistics gan_loss(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                           double label_smoothing, int64_t reduction, bool statistics) {
  return loss_of(logits, roles, loss, label_smoothing, reduction, statistics, nullptr);
}

std::vector<at::Tensor> gan_loss_backward(const at::Tensor& grad, at::TensorList logits,
                                          at::IntArrayRef roles, int64_t loss,
                                          double label_smoothing, int64_t reduction) {
  check_logits(logits, roles, loss, reduction);
  TORCH_CHECK(
      grad.numel() == 1 && grad.device() == logits[0].device(),
      "pygan::gan_loss_backward: grad must be one number on the device of the logits, got shape ",
      grad.sizes(), " on ", grad.device());
  Tensors storage;
  Pieces pieces = pieces_of(logits, roles, reduction, storage);
  const at::Tensor scale = grad.to(math_type(logits[0].scalar_type()));
  LossOptions options = options_of(logits[0], loss, label_smoothing);
  options.order = 1;
  options.grad = scale.const_data_ptr();
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < logits.size(); ++i) {
    out.push_back(at::empty_like(storage[i]));
    pieces[i].out = out[i].mutable_data_ptr();
  }
  pointwise(pieces, options, logits[0]);
  return out;
}

std::vector<at::Tensor> gan_loss_terms(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                       double label_smoothing, int64_t order) {
  check_logits(logits, roles, loss, kSum);
  TORCH_CHECK(order >= 0 && order <= 2, "pygan::gan_loss_terms: order must be 0, 1 or 2, got ",
              order);
  Tensors storage;
  Pieces pieces = pieces_of(logits, roles, kSum, storage);
  LossOptions options = options_of(logits[0], loss, label_smoothing);
  options.order = static_cast<int>(order);
  options.out_is_math = true;
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < logits.size(); ++i) {
    out.push_back(at::empty_like(storage[i],
                                 storage[i].options().dtype(math_type(storage[i].scalar_type()))));
    pieces[i].out = out[i].mutable_data_ptr();
  }
  pointwise(pieces, options, logits[0]);
  return out;
}

// --- meta
// ------------------------------------------------------------------------------------------

LossAndStatistics gan_loss_meta(at::TensorList logits, at::IntArrayRef roles, int64_t loss, double,
                                int64_t reduction, bool statistics) {
  check_logits(logits, roles, loss, reduction);
  return allocate(logits, statistics);
}

std::vector<at::Tensor> gan_loss_backward_meta(const at::Tensor&, at::TensorList logits,
                                               at::IntArrayRef, int64_t, double, int64_t) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& x : logits) out.push_back(at::empty_like(x));
  return out;
}

std::vector<at::Tensor> gan_loss_terms_meta(at::TensorList logits, at::IntArrayRef roles,
                                            int64_t loss, double, int64_t) {
  check_logits(logits, roles, loss, kSum);
  std::vector<at::Tensor> out;
  for (const at::Tensor& x : logits) {
    out.push_back(at::empty_like(x, x.options().dtype(math_type(x.scalar_type()))));
  }
  return out;
}

TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}
TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("gan_loss", gan_loss);
  m.impl("gan_loss_backward", gan_loss_backward);
  m.impl("gan_loss_terms", gan_loss_terms);
}
TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("gan_loss", gan_loss_meta);
  m.impl("gan_loss_backward", gan_loss_backward_meta);
  m.impl("gan_loss_terms", gan_loss_terms_meta);
}

}  // namespace

LossAndGrads gan_loss_and_grads_cpu(at::TensorList logits, at::IntArrayRef roles, int64_t loss,
                                    double label_smoothing, int64_t reduction, bool statistics) {
  LossAndGrads result;
  std::tie(result.loss, result.statistics) =
      loss_of(logits, roles, loss, label_smoothing, reduction, statistics, &result.grads);
  return result;
}

}  // namespace pygan::ops
