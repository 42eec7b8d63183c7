// A node of the autograd graph as this torch holds it: by intrusive_ptr since 2.13, by shared_ptr
// before.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/version.h>

namespace pygan::ops {

template <class N>
auto make_node() {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
  return c10::make_intrusive<N>();
#else
  return std::shared_ptr<N>(new N(), torch::autograd::deleteNode);
#endif
}

}  // namespace pygan::ops
