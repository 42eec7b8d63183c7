// Launchers of the instance-noise kernels.
#include <algorithm>
#include <stdexcept>

#include "cuda/instance_noise.cuh"

namespace pygan::cuda {
namespace {

// Two rounds of the largest GPU of today; more blocks than that would only queue at the counter
// that advances the stream.
constexpr int64_t kMaxBlocks = 2048;

}  // namespace

void instance_noise(const NoiseArgs& a, int64_t* advance, unsigned slot, Stream stream) {
  // An empty tensor still advances the stream.
  if (a.n == 0 && advance == nullptr) return;
  const int64_t groups = a.n / 4 + 2;
  const auto blocks = std::clamp<int64_t>((groups + kThreads - 1) / kThreads, 1, kMaxBlocks);
  with_any_type(a.x_dtype, [&](auto in) {
    with_floating_type(a.out_dtype, [&](auto out) {
      launch(instance_noise_kernel<decltype(in), decltype(out)>, static_cast<unsigned>(blocks),
             kThreads, stream, a, advance, slot);
    });
  });
}

int64_t noise_dot_chunks(const NoiseDotArgs& a) {
  return (a.sigma_stride + kNoiseChunk - 1) / kNoiseChunk;
}

void noise_dot(const NoiseDotArgs& a, int64_t samples, double* partials, double* sums,
               Stream stream) {
  if (samples == 0) return;
  const int64_t chunks = noise_dot_chunks(a);
  if (samples * chunks > 0x7fffffff) throw std::runtime_error("pygan: noise_dot: tensor too large");
  if (chunks > 0) {
    with_floating_type(a.dtype, [&](auto type) {
      launch(noise_dot_kernel<decltype(type)>, static_cast<unsigned>(samples * chunks), kThreads,
             stream, a, chunks, partials);
    });
  }
  launch(noise_dot_finish_kernel, static_cast<unsigned>(samples), kThreads, stream,
         static_cast<const double*>(partials), chunks, sums);
}

}  // namespace pygan::cuda
