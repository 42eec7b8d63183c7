// The Python module pygan._C. Importing it registers the ops (torch.ops.pygan.*); the functions
// here are not ops: what was built, which kernels run, and hooks for the tests.
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include "build_config.h"
#include "cpu/kernels.h"
#include "ops/leaf_gradients.h"
#include "ops/loss.h"
#include "ops/noise.h"

namespace py = pybind11;

namespace {

py::dict build_config() {
  py::dict config;
  config["version"] = PYGAN_VERSION;
  config["torch"] = PYGAN_TORCH_VERSION;
  config["cuda_archs"] = PYGAN_CUDA_ARCHS;
  config["cuda_version"] = PYGAN_CUDA_VERSION;
  config["cuda_reason"] = PYGAN_CUDA_REASON;
  config["cxx"] = PYGAN_CXX_COMPILER;
  return config;
}

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  uint32_t w[4] = {counter[0], counter[1], counter[2], counter[3]};
  pygan::philox4x32(w, pygan::PhiloxKey{key[0], key[1]});
  return {w[0], w[1], w[2], w[3]};
}

uintptr_t cpu_kernels(const std::string& name) {
  return reinterpret_cast<uintptr_t>(pygan::cpu::kernels_of(name));
}

// The ops without the boxing of torch.ops, which for two lists takes longer than the loss of a
// small batch: the dispatcher, and so autograd, profiler and modes, all see the same call.
template <auto call>
auto call_unboxed(const std::vector<at::Tensor>& logits, const std::vector<int64_t>& roles,
                  int64_t loss, double label_smoothing, const std::vector<double>& weights,
                  int64_t reduction, bool statistics, const std::vector<double>& targets,
                  bool detach_means, bool parts) {
  const py::gil_scoped_release without_gil;
  return call(logits, {roles, loss, label_smoothing, weights, reduction, targets, detach_means},
              {statistics, parts});
}

std::vector<at::Tensor> instance_noise(const std::vector<at::Tensor>& x,
                                       const std::optional<at::Tensor>& sigma, double sigma_value,
                                       const std::optional<at::Tensor>& scale, at::Tensor state,
                                       const std::vector<int64_t>& offset,
                                       const std::vector<double>& scale_value,
                                       const std::vector<double>& bias,
                                       std::optional<at::ScalarType> dtype, bool cat, bool same) {
  const py::gil_scoped_release without_gil;
  const c10::SymDimVector offsets(offset.begin(), offset.end());
  return pygan::ops::call_noise(
      {x, sigma, sigma_value, scale, state, offsets, scale_value, bias, dtype, cat, same}, state);
}

void instance_noise_out(const std::vector<at::Tensor>& x, const std::optional<at::Tensor>& sigma,
                        double sigma_value, const std::optional<at::Tensor>& scale,
                        at::Tensor state, const std::vector<int64_t>& offset,
                        const std::vector<double>& scale_value, const std::vector<double>& bias,
                        bool cat, bool same, const std::vector<at::Tensor>& out) {
  const py::gil_scoped_release without_gil;
  const c10::SymDimVector offsets(offset.begin(), offset.end());
  pygan::ops::call_noise_out(
      {x, sigma, sigma_value, scale, state, offsets, scale_value, bias, std::nullopt, cat, same},
      state, out);
}

// torch.autograd.backward with given gradients, whose Python part takes long: with the loss of 100
// logits before it 190 us, and 120 this way.
void backward(const std::vector<at::Tensor>& outputs,
              const std::vector<std::optional<at::Tensor>>& gradients, bool retain_graph) {
  TORCH_CHECK_VALUE(outputs.size() == gradients.size(),
                    "pygan._C.backward: there must be as many gradients as outputs, ",
                    outputs.size(), ", got ", gradients.size());
  std::vector<at::Tensor> given;
  for (const auto& gradient : gradients) given.push_back(gradient.value_or(at::Tensor()));
  pygan::ops::backward(outputs, given, retain_graph);
}

// The first of `numbers`, as 0-d tensors. unbind() tells autograd of each that it is a view, which
// for the statistics of a small batch takes longer than its loss: 16 us, and 5 this way.
std::vector<at::Tensor> scalars(const at::Tensor& numbers, int64_t count) {
  TORCH_CHECK_VALUE(numbers.dim() == 1 && numbers.is_contiguous() &&
                        numbers.storage_offset() == 0 && count <= numbers.size(0),
                    "pygan._C.scalars: numbers must be a vector of at least ", count,
                    " elements at the beginning of its memory, got shape ", numbers.sizes());
  const at::AutoDispatchBelowADInplaceOrView below;
  std::vector<at::Tensor> all;
  for (int64_t k = 0; k < count; ++k) all.push_back(at::as_strided(numbers, {}, {}, k));
  return all;
}

py::list losses() {
  py::list all;
  for (const pygan::Loss& loss : pygan::kLosses) {
    const pygan::Targets own = loss.targets();
    all.append(py::make_tuple(loss.name, static_cast<int>(loss.compared), loss.smooths(),
                              loss.aims(false), loss.aims(true), loss.aims_at_probability(),
                              py::make_tuple(own.real, own.fake)));
  }
  return all;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("build_config", build_config, "What this extension was built from and for.");
  m.def("losses", losses,
        "For each loss: name, compared (0 no, 1 paired, 2 with the mean), whether it smooths, "
        "whether discriminator and generator have targets, whether these are probabilities, the "
        "discriminator's own targets of real and fake.");
  m.def("gan_loss", call_unboxed<pygan::ops::call_loss>,
        "torch.ops.pygan.gan_loss, called directly.");
  m.def("gan_loss_and_grad", call_unboxed<pygan::ops::call_loss_and_grad>,
        "torch.ops.pygan.gan_loss_and_grad, called directly.");
  m.def("instance_noise", instance_noise, "torch.ops.pygan.instance_noise, called directly.");
  m.def("instance_noise_out", instance_noise_out, py::arg("x"), py::arg("sigma"),
        py::arg("sigma_value"), py::arg("scale"), py::arg("state"), py::arg("offset"),
        py::arg("scale_value"), py::arg("bias"), py::arg("cat"), py::arg("same"), py::kw_only(),
        py::arg("out"), "torch.ops.pygan.instance_noise.out, called directly.");
  m.def("backward", torch::wrap_pybind_function_no_gil(backward), py::arg("outputs"),
        py::arg("gradients"), py::arg("retain_graph") = false,
        "torch.autograd.backward(outputs, gradients, retain_graph).");
  m.def("scalars", torch::wrap_pybind_function_no_gil(scalars), py::arg("numbers"),
        py::arg("count"), "The first elements of a vector, as tensors that share its memory.");
  m.def("cpu_capability", pygan::cpu::capability, "The instruction set whose kernels run.");
  m.def("use_cpu_capability", pygan::cpu::use, py::arg("name"),
        "Chooses the kernels of another instruction set, for tests and benchmarks.");
  m.def(
      "cpu_kernels", cpu_kernels, py::arg("name"),
      "Address of an instruction set's table (csrc/cpu/kernels.h), 0 where there is none: for the "
      "tests that count instructions.");
  m.def("philox4x32", philox4x32, py::arg("counter"), py::arg("key"),
        "The generator's four words, for known-answer tests.");
}
