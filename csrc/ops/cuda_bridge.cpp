// From tensors to the CUDA launchers: device guard, current stream, scratch memory, counter slots.
// In a build without CUDA the same functions say so.
#include "ops/cuda_bridge.h"

#if defined(PYGAN_WITH_CUDA)
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <atomic>
#include <map>
#include <mutex>
#include <tuple>
#else
#include "build_config.h"
#endif

namespace pygan::ops {

#if defined(PYGAN_WITH_CUDA)

namespace {

bool is_current_stream_capturing() {
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

// A slot of the last-block counters that no other kernel uses at the same time: one a stream, since
// the kernels of a stream run one after another. A captured kernel gets one for itself, because its
// graph may be replayed on any stream; there are so many that only kernels captured 32,768 launches
// apart share one.
unsigned slot_for(const c10::cuda::CUDAStream& stream) {
  constexpr unsigned kStreamSlots = cuda::kSlots / 2;
  if (is_current_stream_capturing()) {
    static std::atomic<unsigned> captured{0};
    return kStreamSlots + captured++ % (cuda::kSlots - kStreamSlots);
  }
  // The one handle cudaStreamPerThread is another stream in each thread.
  static std::atomic<unsigned> threads{0};
  static thread_local const unsigned this_thread = ++threads;
  const unsigned thread = stream.stream() == cudaStreamPerThread ? this_thread : 0;
  static std::mutex mutex;
  static std::map<std::tuple<int, cudaStream_t, unsigned>, unsigned> of_stream;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto next = static_cast<unsigned>(of_stream.size());
  const auto [entry, is_new] =
      of_stream.try_emplace({stream.device_index(), stream.stream(), thread}, next);
  if (is_new && next >= kStreamSlots) {
    of_stream.erase(entry);
    TORCH_CHECK(false, "pygan: CUDA kernels must be launched on at most ", kStreamSlots,
                " streams in a process, got one more");
  }
  return entry->second;
}

struct OnDevice {
  explicit OnDevice(const at::Tensor& like)
      : guard(like.device()), stream(c10::cuda::getCurrentCUDAStream()) {}
  c10::cuda::CUDAGuard guard;
  c10::cuda::CUDAStream stream;
};

at::Tensor scratch(int64_t doubles, const at::Tensor& like) {
  return at::empty({doubles}, like.options().dtype(at::kDouble));
}

}  // namespace

bool is_capturing(const at::Tensor& like) {
  const OnDevice on(like);
  return is_current_stream_capturing();
}

void sums_cuda(c10::ArrayRef<LossPiece> pieces, const LossOptions& options, const LossOutputs& out,
               const at::Tensor& like) {
  const OnDevice on(like);
  const int count = static_cast<int>(pieces.size());
  const unsigned blocks = cuda::loss_blocks(pieces.data(), count);
  const int64_t columns = options.statistics ? kTotals : 1;
  const int64_t total = blocks > 1 ? blocks * columns : 0;
  const int64_t of_pieces = out.parts == nullptr ? 0 : int64_t{count} * blocks;
  const at::Tensor memory = scratch(total + of_pieces, like);
  auto* const partials = memory.mutable_data_ptr<double>();
  cuda::loss_sums(pieces.data(), count, options,
                  {partials, partials + total, slot_for(on.stream), out}, on.stream.stream());
}

void pointwise_cuda(c10::ArrayRef<LossPiece> pieces, const LossOptions& options,
                    const at::Tensor& like) {
  const OnDevice on(like);
  cuda::loss_pointwise(pieces.data(), static_cast<int>(pieces.size()), options, on.stream.stream());
}

void feature_sums_cuda(c10::ArrayRef<FeatureMap> maps, const FeatureOptions& options,
                       FeatureOutputs& out, const at::Tensor& like) {
  const OnDevice on(like);
  for (size_t first = 0; first < maps.size(); first += cuda::kMaxMaps) {
    const auto some = maps.slice(first, std::min<size_t>(cuda::kMaxMaps, maps.size() - first));
    const int count = static_cast<int>(some.size());
    out.left -= count;
    const int64_t partials = cuda::feature_partials(some.data(), count) * kFeatureSums;
    cuda::feature_sums(some.data(), count, options, out,
                       scratch(partials, like).mutable_data_ptr<double>(), slot_for(on.stream),
                       on.stream.stream());
  }
}

void feature_gradient_cuda(c10::ArrayRef<FeatureMap> maps, const FeatureOptions& options,
                           const FeatureGradient& by, const at::Tensor& like) {
  const OnDevice on(like);
  for (size_t first = 0; first < maps.size(); first += cuda::kMaxMaps) {
    const auto some = maps.slice(first, std::min<size_t>(cuda::kMaxMaps, maps.size() - first));
    cuda::feature_gradient(some.data(), static_cast<int>(some.size()), options, by,
                           on.stream.stream());
  }
}

void instance_noise_cuda(c10::ArrayRef<NoisePiece> pieces, const NoiseOptions& options,
                         int64_t* advance, uint32_t steps, const at::Tensor& like) {
  const OnDevice on(like);
  cuda::instance_noise(pieces.data(), static_cast<int>(pieces.size()), options, advance, steps,
                       slot_for(on.stream), on.stream.stream());
}

void noise_dot_cuda(const NoiseDotArgs& args, int64_t samples, double* sums,
                    const at::Tensor& like) {
  const OnDevice on(like);
  const at::Tensor partials = scratch(samples * cuda::noise_dot_chunks(args), like);
  cuda::noise_dot(args, samples, partials.mutable_data_ptr<double>(), sums, on.stream.stream());
}

#else

namespace {

// Says why there are none, instead of the dispatcher's long list.
[[noreturn]] void no_cuda(const char* op) {
  TORCH_CHECK(false, op, ": argument must be on the CPU, because pygan was built without CUDA (",
              PYGAN_CUDA_REASON, "), got a CUDA tensor; rebuild with PYGAN_CUDA=1");
}

}  // namespace

bool is_capturing(const at::Tensor&) { return false; }

void sums_cuda(c10::ArrayRef<LossPiece>, const LossOptions&, const LossOutputs&,
               const at::Tensor&) {
  no_cuda("pygan.fused_losses");
}
void pointwise_cuda(c10::ArrayRef<LossPiece>, const LossOptions&, const at::Tensor&) {
  no_cuda("pygan.fused_losses");
}
void feature_sums_cuda(c10::ArrayRef<FeatureMap>, const FeatureOptions&, FeatureOutputs&,
                       const at::Tensor&) {
  no_cuda("pygan.fused_losses.feature_matching");
}
void feature_gradient_cuda(c10::ArrayRef<FeatureMap>, const FeatureOptions&, const FeatureGradient&,
                           const at::Tensor&) {
  no_cuda("pygan.fused_losses.feature_matching");
}
void instance_noise_cuda(c10::ArrayRef<NoisePiece>, const NoiseOptions&, int64_t*, uint32_t,
                         const at::Tensor&) {
  no_cuda("pygan.instance_noise");
}
void noise_dot_cuda(const NoiseDotArgs&, int64_t, double*, const at::Tensor&) {
  no_cuda("pygan.instance_noise");
}

#endif

}  // namespace pygan::ops
