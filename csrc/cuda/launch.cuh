// How kernels are launched, and the two words of CUDA that a host compiler cannot parse.
//
//   PYGAN_SHARED(double, partial, 8);                     // __shared__ double partial[8];
//   launch(kernel<T>, blocks, threads, stream, args...);  // kernel<T><<<blocks, ...>>>(args...);
//
// With PYGAN_SIMT the tests' emulator supplies both, and everything else that kernels use, so that
// the very same kernels and launchers run under g++, with its sanitizers, on a machine without a
// GPU.
#pragma once

#if defined(PYGAN_SIMT)
#include "simt.h"
#define __grid_constant__
#else

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#define PYGAN_SHARED(type, name, count) __shared__ type name[count]

namespace pygan::cuda {

[[noreturn]] inline void launch_failed(cudaError_t error) {
  std::string message = std::string("pygan: CUDA launch failed: ") + cudaGetErrorString(error);
  if (error == cudaErrorNoKernelImageForDevice) {
    message +=
        " (the kernels were built for other GPUs, cuda_archs of `python -m pygan`; install "
        "pygan again on this machine, or with TORCH_CUDA_ARCH_LIST)";
  }
  throw std::runtime_error(message);
}

template <class... P, class... A>
void launch(void (*kernel)(P...), unsigned grid, unsigned block, cudaStream_t stream, A&&... args) {
  kernel<<<grid, block, 0, stream>>>(static_cast<P>(args)...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) launch_failed(error);
}

}  // namespace pygan::cuda

#endif
