// The instance_noise ops: allocation, and the CPU and CUDA backends.
#include <array>
#include <mutex>

#include "cpu/kernels.h"
#include "ops/noise.h"
#include "ops/subnormals.h"

namespace pygan::ops {
namespace {

// Whether x's samples lie one after another in memory.
bool lie_apart(const at::Tensor& x) {
  if (x.dim() == 0 || x.sym_size(0) == 1) return true;
  for (int64_t d = 1; d < x.dim(); ++d) {
    if (x.sym_size(d) != 1 && x.sym_stride(d) > x.sym_stride(0)) return false;
  }
  return true;
}

// x as the kernels read it: dense, in the order of allocate_noisy().
at::Tensor prepared(const at::Tensor& x, bool per_sample) {
  const at::Tensor d = dense(x);
  return !per_sample || lie_apart(d) ? d : d.contiguous();
}

// The tensors that a call reads and writes, and what the kernels need to know of them.
struct Prepared {
  std::vector<at::Tensor> x, out;
  at::Tensor sigma, scale;  // kept alive while options points into them
  std::vector<NoisePiece> pieces;
  int64_t steps;                    // that the call takes
  std::array<int64_t, 2> reserved;  // what options.state points to where steps were reserved
  NoiseOptions options;
};

// The number that sigma or scale is where the kernels cannot read it: a 0-d tensor in host memory.
// Nothing has to be waited for. But a graph would keep today's value for ever.
std::optional<double> host_number(const NoiseArguments& a, const OptionalTensor& factor,
                                  const char* name) {
  if (!factor.has_value() || !factor->is_cpu() || a.state.is_cpu()) return std::nullopt;
  TORCH_CHECK(!is_capturing(a.state), "pygan.instance_noise: ", name,
              " must be on the device of x while a CUDA graph is captured, got a CPU tensor");
  return factor->item<double>();
}

// `count` values in a row: those of a tensor, or as many times its only one.
NoiseFactor factor_of(at::Tensor& values, int64_t count) {
  values = (values.numel() == count ? values : values.expand({count})).contiguous();
  return {values.const_data_ptr(), values.scalar_type() == at::kDouble};
}

Prepared prepare(const NoiseArguments& a) {
  Prepared p;
  p.steps = a.steps();
  NoiseOptions& o = p.options;
  o.sigma = o.scale = {nullptr, false};
  o.state = a.state.const_data_ptr<int64_t>();
  const bool per_sample = a.per_sample();
  const int64_t count = per_sample ? samples_of(a.cat ? a.x : a.x.slice(0, 1)).expect_int() : 1;
  const std::optional<double> sigma = host_number(a, a.sigma, "sigma");
  const std::optional<double> scale = host_number(a, a.scale, "scale");
  o.sigma_value = sigma.value_or(a.sigma_value);
  if (a.sigma.has_value() && !sigma.has_value()) p.sigma = *a.sigma;
  // Where samples differ, the kernels look for their sigmas in memory.
  if (!p.sigma.defined() && per_sample) {
    p.sigma = at::full({}, o.sigma_value, a.state.options().dtype(at::kDouble));
  }
  if (p.sigma.defined()) o.sigma = factor_of(p.sigma, count);
  if (a.scale.has_value() && !scale.has_value()) {
    p.scale = *a.scale;
    o.scale = factor_of(p.scale, count);
  }
  int64_t samples = 0;
  for (size_t k = 0; k < a.x.size(); ++k) {
    const at::Tensor& x = a.x[k];
    p.x.push_back(prepared(x, per_sample));
    const int64_t n = x.numel(), of_x = x.dim() > 0 ? x.size(0) : 1;
    NoisePiece& piece = p.pieces.emplace_back();
    piece.x = p.x.back().const_data_ptr();
    piece.n = n;
    piece.sample_size = Divisor(per_sample && n > 0 ? n / of_x : std::max<int64_t>(n, 1));
    piece.first_sample = per_sample && a.cat ? samples : 0;
    piece.offset = static_cast<uint64_t>(a.offset[k].expect_int());
    piece.step = a.same ? 0 : static_cast<uint32_t>(k);
    piece.scale = scale.value_or(a.scale_value[k]);
    piece.bias = a.bias[k];
    samples += of_x;
  }
  return p;
}

// Elements for which a second thread pays: about 8 microseconds of work.
constexpr int64_t kGrain = 8192;

// Draws pieces of the same types.
void run_on_cpu(c10::ArrayRef<NoisePiece> pieces, const NoiseOptions& options) {
  const cpu::Kernels& kernels = cpu::kernels();
  int64_t total = 0;
  for (const NoisePiece& piece : pieces) total += piece.n;
  parallel_for(0, total, kGrain, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // element of the piece, numbered through all of them
    for (const NoisePiece& piece : pieces) {
      const int64_t from = std::max(begin, first), to = std::min(end, first + piece.n);
      if (from < to) kernels.instance_noise(piece, options, from - first, to - first);
      first += piece.n;
    }
  });
}

// Takes `count` steps out of a state on the CPU, for the caller alone, however many threads draw at
// once: {seed, step}.
std::array<int64_t, 2> reserve(at::Tensor& state, int64_t count) {
  auto* words = state.mutable_data_ptr<int64_t>();
  return {words[0], __atomic_fetch_add(words + 1, count, __ATOMIC_RELAXED)};
}

// On CUDA the kernels of a stream run in the order of their launches, and the last one of a call
// moves the state on. So the launches of a call must follow each other: no other thread's between.
std::unique_lock<std::mutex> launches_in_a_row() {
  static std::mutex mutex;
  return std::unique_lock(mutex);
}

// p.out holds what to write to. `state`, if not null, moves on by the call's steps.
void run(Prepared& p, at::Tensor* state) {
  const size_t count = p.pieces.size();
  NoiseOptions& o = p.options;
  const bool on_cpu = p.x[0].is_cpu();
  std::unique_lock<std::mutex> in_a_row;
  int64_t* advance = nullptr;
  if (state != nullptr && on_cpu) {
    p.reserved = reserve(*state, p.steps);
    o.state = p.reserved.data();
  } else if (state != nullptr) {
    in_a_row = launches_in_a_row();
    advance = state->mutable_data_ptr<int64_t>();
  }
  for (size_t first = 0, last; first < count; first = last) {
    o.x_dtype = dtype_of(p.x[first].scalar_type());
    o.out_dtype = dtype_of(p.out[first].scalar_type());
    for (last = first; last < count && last - first < cuda::kMaxPieces; ++last) {
      if (p.x[last].scalar_type() != p.x[first].scalar_type()) break;
      if (p.out[last].scalar_type() != p.out[first].scalar_type()) break;
      p.pieces[last].out = p.out[last].mutable_data_ptr();
    }
    const auto pieces = c10::ArrayRef<NoisePiece>(p.pieces).slice(first, last - first);
    if (on_cpu) {
      run_on_cpu(pieces, o);
    } else {
      instance_noise_cuda(pieces, o, last == count ? advance : nullptr, p.steps, p.x[first]);
    }
  }
}

at::Tensor instance_noise_at(const at::Tensor& x, const OptionalTensor& sigma, double sigma_value,
                             const OptionalTensor& scale, const at::Tensor& state,
                             c10::SymInt offset, double scale_value, double bias,
                             OptionalType dtype) {
  const NoiseArguments a{x,           sigma, sigma_value, scale, state, offset,
                         scale_value, bias,  dtype,       false, false};
  check_noise(a);
  const KeepSubnormals keep;
  Prepared p = prepare(a);
  p.out.push_back(allocate_noisy(p.x[0], a.per_sample(), noise_dtype(x, dtype)));
  run(p, nullptr);
  return p.out[0];
}

void instance_noise_out(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                        const OptionalTensor& scale, at::Tensor& state, c10::SymIntArrayRef offset,
                        Doubles scale_value, Doubles bias, bool cat, bool same,
                        at::TensorList out) {
  const NoiseArguments a{x,           sigma, sigma_value,  scale, state, offset,
                         scale_value, bias,  std::nullopt, cat,   same};
  check_noise_out(a, out);
  check_noise(a);
  check_state_apart(a, out);
  const KeepSubnormals keep;
  Prepared p = prepare(a);
  for (size_t k = 0; k < x.size(); ++k) {
    const bool direct = out[k].strides() == p.x[k].strides();
    p.out.push_back(direct ? out[k] : allocate_noisy(p.x[k], a.per_sample(), out[k].scalar_type()));
  }
  run(p, &state);
  for (size_t k = 0; k < x.size(); ++k) {
    if (!p.out[k].is_same(out[k])) out[k].copy_(p.out[k]);
  }
}

at::Tensor noise_advance(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                         const OptionalTensor& scale, at::Tensor& state, c10::SymIntArrayRef offset,
                         Doubles scale_value, Doubles bias, OptionalType dtype, bool cat,
                         bool same) {
  const NoiseArguments a{x,           sigma, sigma_value, scale, state, offset,
                         scale_value, bias,  dtype,       cat,   same};
  check_noise(a);
  check_state_apart(a, {});
  const auto count = static_cast<int64_t>(x.size());
  if (state.is_cpu()) {
    const at::Tensor each = at::empty({count, 2}, state.options());
    auto* words = each.mutable_data_ptr<int64_t>();
    const auto [seed, step] = reserve(state, a.steps());
    for (int64_t k = 0; k < count; ++k) {
      words[2 * k] = seed;
      words[2 * k + 1] = static_cast<int64_t>(static_cast<uint64_t>(step) + (same ? 0 : k));
    }
    return each;
  }
  const auto in_a_row = launches_in_a_row();
  at::Tensor before = state.repeat({count, 1});
  if (!same) before.select(1, 1).add_(at::arange(count, state.options()));
  state.select(0, 1).add_(a.steps());
  return before;
}

at::Tensor noise_draw(at::TensorList x, const OptionalTensor& sigma, double sigma_value,
                      const OptionalTensor& scale, Doubles scale_value, Doubles bias,
                      OptionalType dtype, bool cat, bool same, at::TensorList out,
                      std::optional<at::Generator> generator) {
  TORCH_CHECK_VALUE(!x.empty(),
                    "pygan::noise_draw: x must hold at least one tensor, got an empty list");
  TORCH_CHECK_VALUE(!generator.has_value() || generator->device() == x[0].device(),
                    cat ? "pygan.instance_noise_pair" : "pygan.instance_noise",
                    ": generator must be on the device of ", cat ? "real" : "x", ", ",
                    x[0].device(), ", got one on ", generator->device());
  at::Tensor state = at::empty({2}, x[0].options().dtype(at::kLong));
  const c10::SymDimVector offset(x.size(), 0);
  const NoiseArguments a{x,           sigma, sigma_value, scale, state, offset,
                         scale_value, bias,  dtype,       cat,   same};
  if (!out.empty()) {
    check_not_recorded(a, out);
    check_noise_out(a, out);
  }
  check_noise(a);
  constexpr auto lowest = std::numeric_limits<int64_t>::min();
  return state.random_(lowest, std::nullopt, std::move(generator));
}

at::Tensor noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     c10::SymInt offset, c10::SymInt samples_) {
  check_noise_dot(grad, stride, state, offset, samples_);
  const KeepSubnormals keep;
  const int64_t samples = samples_.expect_int();
  const auto options = grad.options().dtype(math_type(grad.scalar_type()));
  const auto order = C10_AS_INTARRAYREF_SLOW(stride);
  const at::Tensor g = grad.strides() == order
                           ? grad
                           : at::empty_strided(grad.sizes(), order, grad.options()).copy_(grad);
  const int64_t count = samples < 0 ? 1 : samples;
  NoiseDotArgs a{g.const_data_ptr(),
                 dtype_of(grad.scalar_type()),
                 g.numel(),
                 count == 0 ? 0 : g.numel() / count,
                 state.const_data_ptr<int64_t>(),
                 static_cast<uint64_t>(offset.expect_int())};
  // On CUDA the kernel writes them all, and filling them would be a launch more.
  const at::Tensor sums = grad.is_cpu() ? at::zeros({count}, options.dtype(at::kDouble))
                                        : at::empty({count}, options.dtype(at::kDouble));
  auto* sum = sums.mutable_data_ptr<double>();
  if (!grad.is_cpu()) {
    noise_dot_cuda(a, count, sum, grad);
  } else {
    const cpu::Kernels& kernels = cpu::kernels();
    const int64_t chunks = (a.sample_size + kNoiseChunk - 1) / kNoiseChunk;
    std::vector<double> partial(count * chunks);
    parallel_for(0, count * chunks, 1, [&](int64_t first, int64_t last) {
      for (int64_t c = first; c < last; ++c) {
        const int64_t sample = c / chunks * a.sample_size, begin = c % chunks * kNoiseChunk;
        partial[c] = kernels.noise_dot(a, sample + begin,
                                       sample + std::min(begin + kNoiseChunk, a.sample_size));
      }
    });
    for (int64_t c = 0; c < count * chunks; ++c) sum[c / chunks] += partial[c];
  }
  return (samples < 0 ? sums.squeeze(0) : sums).to(options.dtype());
}

#define PYGAN_IMPLEMENT(m)                          \
  m.impl("instance_noise.out", instance_noise_out); \
  m.impl("instance_noise_at", instance_noise_at);   \
  m.impl("noise_advance", noise_advance);           \
  m.impl("noise_draw", noise_draw);                 \
  m.impl("noise_dot", noise_dot);
TORCH_LIBRARY_IMPL(pygan, CPU, m){PYGAN_IMPLEMENT(m)} TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  PYGAN_IMPLEMENT(m)
}
#undef PYGAN_IMPLEMENT

}  // namespace

at::Tensor allocate_noisy(const at::Tensor& x, bool per_sample, at::ScalarType dtype) {
  const at::Tensor out = at::empty_like(x, x.options().dtype(dtype));
  if (per_sample && !lie_apart(out)) return at::empty_symint(x.sym_sizes(), out.options());
  return is_plain_cpu(out) ? with_huge_pages(out) : out;
}

}  // namespace pygan::ops
