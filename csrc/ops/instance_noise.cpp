// The instance_noise ops: checks, allocation, and the three backends (CPU, CUDA, meta).
#include "ops/instance_noise.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>

#include "cpu/kernels.h"

namespace pygan::ops {

constexpr const char* kOp = "pygan.instance_noise: ";

at::ScalarType noise_dtype(const at::Tensor& x, std::optional<at::ScalarType> dtype) {
  if (dtype.has_value()) return *dtype;
  return is_float(x.scalar_type()) ? x.scalar_type()
                                   : c10::typeMetaToScalarType(c10::get_default_dtype());
}

void check_noise(const at::Tensor& x, const Noise& noise, std::optional<at::ScalarType> dtype) {
  TORCH_CHECK_TYPE(is_float(x.scalar_type()) || x.scalar_type() == at::kByte, kOp,
                   "x must be float32, float64, float16, bfloat16 or uint8, got ",
                   name_of(x.scalar_type()));
  const at::ScalarType out = noise_dtype(x, dtype);
  TORCH_CHECK_TYPE(is_float(out), kOp, "dtype must be float32, float64, float16 or bfloat16, got ",
                   name_of(out));
  TORCH_CHECK_TYPE(noise.state.scalar_type() == at::kLong && noise.state.dim() == 1 &&
                       noise.state.sym_size(0) == 2 && noise.state.is_contiguous(),
                   kOp, "state must be an int64 tensor {seed, step}, got ",
                   name_of(noise.state.scalar_type()), " of shape ", noise.state.sym_sizes());
  TORCH_CHECK_VALUE(noise.state.device() == x.device(), kOp, "stream must be on the device of x, ",
                    x.device(), ", got ", noise.state.device());
  if (noise.sigma.has_value()) {
    const at::Tensor& sigma = *noise.sigma;
    TORCH_CHECK_TYPE(sigma.scalar_type() == at::kFloat || sigma.scalar_type() == at::kDouble, kOp,
                     "sigma must be a float32 or float64 tensor, got ",
                     name_of(sigma.scalar_type()));
    TORCH_CHECK_VALUE(
        sigma.dim() == 0 || (sigma.dim() == 1 && x.dim() > 0 && sigma.sym_size(0) == x.sym_size(0)),
        kOp, "sigma must be a number, a 0-d tensor or one value per sample of x, shape ",
        x.sym_sizes(), ", got shape ", sigma.sym_sizes());
    TORCH_CHECK_VALUE(sigma.device() == x.device() || (sigma.is_cpu() && sigma.dim() == 0), kOp,
                      "sigma must be on the device of x, ", x.device(), ", got ", sigma.device());
  } else {
    TORCH_CHECK_VALUE(noise.sigma_value >= 0 && std::isfinite(noise.sigma_value), kOp,
                      "sigma must be finite and not negative, got ", noise.sigma_value);
  }
  TORCH_CHECK_VALUE(std::isfinite(noise.scale), kOp, "scale must be finite, got ", noise.scale);
  TORCH_CHECK_VALUE(std::isfinite(noise.bias), kOp, "bias must be finite, got ", noise.bias);
  TORCH_CHECK_VALUE(noise.offset >= 0, kOp, "offset must not be negative, got ", noise.offset);
}

namespace {

// What out= must be, on top of check_noise.
void check_out(const at::Tensor& x, const std::optional<at::Tensor>& sigma, const at::Tensor& out) {
  const bool recorded =
      x.requires_grad() || out.requires_grad() || (sigma.has_value() && sigma->requires_grad());
  TORCH_CHECK(
      !recorded || !at::GradMode::is_enabled(), kOp,
      "out must not be given where x, sigma or out require grad, because functions with out= "
      "are not differentiable");
  TORCH_CHECK_TYPE(is_float(out.scalar_type()), kOp,
                   "out must be float32, float64, float16 or bfloat16, got ",
                   name_of(out.scalar_type()));
  TORCH_CHECK_VALUE(out.sym_sizes() == x.sym_sizes(), kOp, "out must have the shape of x, ",
                    x.sym_sizes(), ", got ", out.sym_sizes());
  TORCH_CHECK_VALUE(out.device() == x.device(), kOp, "out must be on the device of x, ", x.device(),
                    ", got ", out.device());
}

void check_overlap(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                   const at::Tensor& out) {
  TORCH_CHECK_VALUE(at::has_internal_overlap(out) != at::MemOverlap::Yes, kOp,
                    "out must not overlap itself, got strides ", out.strides());
  const at::MemOverlapStatus overlap = at::get_overlap_status(out, x);
  TORCH_CHECK_VALUE(overlap != at::MemOverlapStatus::Partial, kOp,
                    "out must be x or share no memory with it, got a partial overlap");
  TORCH_CHECK_VALUE(
      !sigma.has_value() || at::get_overlap_status(out, *sigma) == at::MemOverlapStatus::No, kOp,
      "out must share no memory with sigma, got an overlap");
}

// x in memory with whole samples one after another where sigma is per sample; dense in any case.
at::Tensor prepared(const at::Tensor& x, const Noise& noise) {
  const at::Tensor d = dense(x);
  const bool per_sample = noise.sigma.has_value() && noise.sigma->dim() == 1;
  if (!per_sample || x.numel() == 0 || x.size(0) == 1) return d;
  if (d.stride(0) * d.size(0) == d.numel()) return d;
  return x.contiguous();
}

struct Prepared {
  at::Tensor x, sigma;  // kept alive while args points into them
  NoiseArgs args;
};

Prepared prepare(const at::Tensor& x, const Noise& noise, at::ScalarType out) {
  Prepared p{prepared(x, noise), {}, {}};
  NoiseArgs& a = p.args;
  a.x = p.x.const_data_ptr();
  a.x_dtype = dtype_of(x.scalar_type());
  a.out_dtype = dtype_of(out);
  a.n = x.numel();
  a.sigma = nullptr;
  a.sigma_value = noise.sigma_value;
  a.sigma_stride = std::max<int64_t>(a.n, 1);
  if (noise.sigma.has_value()) {
    if (noise.sigma->is_cpu() && !x.is_cpu()) {
      // Host memory: nothing to wait for. But a graph would keep today's value for ever.
      TORCH_CHECK(
          !is_capturing(), kOp,
          "sigma must be on the device of x while a CUDA graph is captured, got a CPU tensor");
      a.sigma_value = noise.sigma->item<double>();
    } else {
      p.sigma = noise.sigma->contiguous();
      a.sigma = p.sigma.const_data_ptr();
      a.sigma_is_double = p.sigma.scalar_type() == at::kDouble;
      if (p.sigma.dim() == 1 && p.sigma.numel() > 0) {
        a.sigma_stride = std::max<int64_t>(a.n / p.sigma.numel(), 1);
      }
    }
  }
  a.scale = noise.scale;
  a.bias = noise.bias;
  a.state = noise.state.const_data_ptr<int64_t>();
  a.offset = static_cast<uint64_t>(noise.offset);
  return p;
}

// Elements for which a second thread pays: about 8 microseconds of work.
constexpr int64_t kGrain = 8192;

void run(const NoiseArgs& args, int64_t* advance, const at::Tensor& like) {
  if (!like.is_cpu()) return instance_noise_cuda(args, advance, like);
  const cpu::Kernels& kernels = cpu::kernels();
  at::parallel_for(0, args.n, kGrain,
                   [&](int64_t begin, int64_t end) { kernels.instance_noise(args, begin, end); });
  if (advance != nullptr) advance[1] = static_cast<int64_t>(static_cast<uint64_t>(advance[1]) + 1);
}

at::Tensor allocate(const at::Tensor& like, at::ScalarType dtype) {
  return at::empty_like(like, like.options().dtype(dtype));
}

at::Tensor noisy(const at::Tensor& x, const Noise& noise, std::optional<at::ScalarType> dtype,
                 int64_t* advance) {
  check_noise(x, noise, dtype);
  Prepared p = prepare(x, noise, noise_dtype(x, dtype));
  const at::Tensor out = allocate(p.x, noise_dtype(x, dtype));
  p.args.out = out.mutable_data_ptr();
  run(p.args, advance, x);
  return out;
}

at::Tensor instance_noise(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                          double sigma_value, at::Tensor& state, int64_t offset, double scale,
                          double bias, std::optional<at::ScalarType> dtype) {
  return noisy(x, {sigma, sigma_value, state, offset, scale, bias}, dtype,
               static_cast<int64_t*>(state.mutable_data_ptr()));
}

at::Tensor instance_noise_at(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                             double sigma_value, const at::Tensor& state, int64_t offset,
                             double scale, double bias, std::optional<at::ScalarType> dtype) {
  return noisy(x, {sigma, sigma_value, state, offset, scale, bias}, dtype, nullptr);
}

void instance_noise_out(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                        double sigma_value, at::Tensor& state, int64_t offset, double scale,
                        double bias, at::Tensor& out) {
  const Noise noise{sigma, sigma_value, state, offset, scale, bias};
  check_out(x, sigma, out);
  check_overlap(x, sigma, out);
  check_noise(x, noise, out.scalar_type());
  Prepared p = prepare(x, noise, out.scalar_type());
  auto* advance = static_cast<int64_t*>(state.mutable_data_ptr());
  if (out.strides() == p.x.strides()) {
    p.args.out = out.mutable_data_ptr();
    return run(p.args, advance, x);
  }
  const at::Tensor result = allocate(p.x, out.scalar_type());
  p.args.out = result.mutable_data_ptr();
  run(p.args, advance, x);
  out.copy_(result);
}

at::Tensor noise_advance(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                         double sigma_value, at::Tensor& state, int64_t offset, double scale,
                         double bias, std::optional<at::ScalarType> dtype) {
  check_noise(x, {sigma, sigma_value, state, offset, scale, bias}, dtype);
  at::Tensor before = state.clone();
  state.select(0, 1).add_(1);
  return before;
}

at::Tensor noise_draw(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                      double sigma_value, double scale, double bias,
                      std::optional<at::ScalarType> dtype, const std::optional<at::Tensor>& out,
                      std::optional<at::Generator> generator) {
  if (out.has_value()) {
    check_out(x, sigma, *out);
    check_overlap(x, sigma, *out);
  }
  const auto options = x.options().dtype(at::kLong);
  check_noise(x, {sigma, sigma_value, at::empty({2}, options), 0, scale, bias}, dtype);
  constexpr auto lowest = std::numeric_limits<int64_t>::min();
  return at::empty({2}, options).random_(lowest, std::nullopt, std::move(generator));
}

at::Tensor noise_dot(const at::Tensor& grad, c10::SymIntArrayRef stride, const at::Tensor& state,
                     int64_t offset, c10::SymInt samples_) {
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
                 static_cast<uint64_t>(offset)};
  const at::Tensor sums = at::zeros({count}, options.dtype(at::kDouble));
  auto* sum = sums.mutable_data_ptr<double>();
  if (!grad.is_cpu()) {
    noise_dot_cuda(a, count, sum, grad);
  } else {
    const cpu::Kernels& kernels = cpu::kernels();
    const int64_t chunks = (a.sigma_stride + kNoiseChunk - 1) / kNoiseChunk;
    std::vector<double> partial(count * chunks);
    at::parallel_for(0, count * chunks, 1, [&](int64_t first, int64_t last) {
      for (int64_t c = first; c < last; ++c) {
        const int64_t sample = c / chunks * a.sigma_stride, begin = c % chunks * kNoiseChunk;
        partial[c] = kernels.noise_dot(a, sample + begin,
                                       sample + std::min(begin + kNoiseChunk, a.sigma_stride));
      }
    });
    for (int64_t c = 0; c < count * chunks; ++c) sum[c / chunks] += partial[c];
  }
  return (samples < 0 ? sums.squeeze(0) : sums).to(options.dtype());
}

// --- meta
// ------------------------------------------------------------------------------------------

at::Tensor noisy_meta(const at::Tensor& x, const Noise& noise,
                      std::optional<at::ScalarType> dtype) {
  check_noise(x, noise, dtype);
  const bool per_sample = noise.sigma.has_value() && noise.sigma->dim() == 1;
  const at::Tensor out = allocate(x, noise_dtype(x, dtype));
  if (!per_sample || x.dim() == 0 || x.sym_size(0) == 1) return out;
  // As prepared() does: samples must lie one after another.
  for (int64_t d = 1; d < x.dim(); ++d) {
    if (x.sym_size(d) != 1 && out.sym_stride(d) > out.sym_stride(0)) {
      return at::empty_symint(x.sym_sizes(), out.options());
    }
  }
  return out;
}

at::Tensor instance_noise_meta(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                               double sigma_value, at::Tensor& state, int64_t offset, double scale,
                               double bias, std::optional<at::ScalarType> dtype) {
  return noisy_meta(x, {sigma, sigma_value, state, offset, scale, bias}, dtype);
}
at::Tensor instance_noise_at_meta(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                                  double sigma_value, const at::Tensor& state, int64_t offset,
                                  double scale, double bias, std::optional<at::ScalarType> dtype) {
  return noisy_meta(x, {sigma, sigma_value, state, offset, scale, bias}, dtype);
}
void instance_noise_out_meta(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                             double sigma_value, at::Tensor& state, int64_t offset, double scale,
                             double bias, at::Tensor& out) {
  check_out(x, sigma, out);
  check_noise(x, {sigma, sigma_value, state, offset, scale, bias}, out.scalar_type());
}
at::Tensor noise_advance_meta(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                              double sigma_value, at::Tensor& state, int64_t offset, double scale,
                              double bias, std::optional<at::ScalarType> dtype) {
  check_noise(x, {sigma, sigma_value, state, offset, scale, bias}, dtype);
  return at::empty_like(state);
}
at::Tensor noise_draw_meta(const at::Tensor& x, const std::optional<at::Tensor>& sigma,
                           double sigma_value, double scale, double bias,
                           std::optional<at::ScalarType> dtype,
                           const std::optional<at::Tensor>& out, std::optional<at::Generator>) {
  if (out.has_value()) check_out(x, sigma, *out);
  const at::Tensor state = at::empty({2}, x.options().dtype(at::kLong));
  check_noise(x, {sigma, sigma_value, state, 0, scale, bias}, dtype);
  return state;
}
at::Tensor noise_dot_meta(const at::Tensor& grad, c10::SymIntArrayRef, const at::Tensor&, int64_t,
                          c10::SymInt samples) {
  const auto options = grad.options().dtype(math_type(grad.scalar_type()));
  if (samples < 0) return at::empty({}, options);
  return at::empty_symint({samples}, options);
}

#define PYGAN_IMPLEMENT(m)                          \
  m.impl("instance_noise", instance_noise);         \
  m.impl("instance_noise.out", instance_noise_out); \
  m.impl("instance_noise_at", instance_noise_at);   \
  m.impl("noise_advance", noise_advance);           \
  m.impl("noise_draw", noise_draw);                 \
  m.impl("noise_dot", noise_dot);
TORCH_LIBRARY_IMPL(pygan, CPU, m){PYGAN_IMPLEMENT(m)} TORCH_LIBRARY_IMPL(pygan, CUDA,
                                                                         m){PYGAN_IMPLEMENT(m)}
#undef PYGAN_IMPLEMENT
TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("instance_noise", instance_noise_meta);
  m.impl("instance_noise.out", instance_noise_out_meta);
  m.impl("instance_noise_at", instance_noise_at_meta);
  m.impl("noise_advance", noise_advance_meta);
  m.impl("noise_draw", noise_draw_meta);
  m.impl("noise_dot", noise_dot_meta);
}

}  // namespace
}  // namespace pygan::ops
