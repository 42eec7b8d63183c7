// Launchers of the instance-noise kernels.
#include <algorithm>
#include <stdexcept>

#include "cuda/noise_kernels.cuh"

namespace pygan::cuda {

void instance_noise(const NoisePiece* pieces, int count, const NoiseOptions& options,
                    int64_t* advance, uint32_t steps, unsigned slot, Stream stream) {
  with_any_type(options.x_dtype, [&](auto in) {
    with_floating_type(options.out_dtype, [&](auto out) {
      using Out = decltype(out);
      NoiseLaunch launched{};
      launched.options = options;
      launched.advance = advance;
      launched.steps = steps;
      launched.slot = slot;
      int64_t all = 0, tiles[kMaxPieces] = {};  // before each piece
      for (int p = 0; p < count; ++p) {
        // The kernel reads the values of a piece's first sample, and an empty one may have none.
        if (pieces[p].n == 0) continue;
        tiles[launched.count] = all;
        launched.pieces[launched.count++] = pieces[p];
        const int64_t last = pieces[p].n + kNoiseGroup<Out> - 2;  // a partial group may come first
        all += last / kNoiseTile<Out> + 1;
      }
      const auto blocks = std::clamp<int64_t>(all, 1, kMaxBlocks);
      for (int p = 0; p < launched.count; ++p) {
        launched.first_block[p] = static_cast<unsigned>(tiles[p] % blocks);
      }
      launch(instance_noise_kernel<decltype(in), Out>, static_cast<unsigned>(blocks), kThreads,
             stream, launched);
    });
  });
}

int64_t noise_dot_chunks(const NoiseDotArgs& a) {
  return (a.sample_size + kNoiseChunk - 1) / kNoiseChunk;
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
