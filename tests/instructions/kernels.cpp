// Counts the instructions that the built extension's CPU kernels execute: with the trap flag set,
// the processor stops after each, and the handler of SIGTRAP counts. That is exact, the same in
// every run, and works for every instruction set. (callgrind, which knows no AVX-512, counts the
// same for AVX2: 12,578 for 1,024 normals. There importing torch alone takes two minutes.) A step
// takes some microseconds, so runs are short.
#include "cpu/kernels.h"

#include <signal.h>
#include <ucontext.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace pygan;
using cpu::Kernels;

constexpr greg_t kTrapFlag = 1 << 8;
volatile int64_t executed;
volatile bool done;

void on_trap(int, siginfo_t*, void* context) {
  greg_t& flags = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL];
  flags = done ? flags & ~kTrapFlag : flags | kTrapFlag;
  executed = executed + 1;
}

// The few instructions around the kernel are in it too: take differences.
template <class F>
int64_t instructions_of(F&& kernel) {
  kernel();  // before the count: names that the dynamic linker still has to find
  struct sigaction ours = {}, before = {};
  ours.sa_sigaction = on_trap;
  ours.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &ours, &before);
  done = false;
  executed = 0;
  raise(SIGTRAP);  // the flag is set when the handler returns
  kernel();
  done = true;  // and taken away by the next trap
  sigaction(SIGTRAP, &before, nullptr);
  return executed;
}

constexpr int64_t kMost = 1 << 13;
template <class T>
T* buffer(int which) {
  alignas(64) static char memory[4][kMost * sizeof(double)];
  return reinterpret_cast<T*>(memory[which]);
}

// Logits of both signs, within and past where exp(-|x|) is 0.
template <class T>
const T* numbers(int which) {
  T* const x = buffer<T>(which);
  for (int64_t i = 0; i < kMost; ++i) {
    x[i] = from_float<T>(static_cast<float>((i * 37 + which) % 401 - 200));
  }
  return x;
}

enum Passes { kValue = 0, kGrad = 1, kStatistics = 2, kBackward = 4, kMirrored = 8 };

template <class T>
int64_t loss(const Kernels& kernels, Form form, int passes, int64_t n,
             Compared compared = Compared::alone, Sums sums = Sums::loss) {
  static const float means[kMeans] = {0.5f, -0.5f, 0.25f, 0.75f}, grad = 2;
  const double share = 1.0 / static_cast<double>(n), aim = form == Form::Logistic ? 0 : 1;
  LossPiece piece{numbers<T>(0), nullptr, nullptr, nullptr, n,         share,
                  share,         aim,     form,    1,       Role::real};
  LossOptions options{};
  options.dtype = sizeof(T) == 2 ? Dtype::bfloat16 : Dtype::float32;
  options.bounds_jsd = form == Form::Logistic && compared == Compared::alone;
  options.slopes_alone = (passes & kStatistics) == 0;
  options.statistics = !options.slopes_alone || compared == Compared::to_mean;
  options.real_pivot = options.fake_pivot = numbers<T>(0);
  options.sums = sums;
  if (passes & kMirrored) piece.mirror = -1;  // as the discriminator sees fake logits
  if (passes & (kGrad | kBackward)) piece.out = buffer<T>(2);
  if (compared == Compared::paired) {
    piece.other = numbers<T>(1);
    if (piece.out != nullptr) piece.other_out = buffer<T>(3);
  }
  if (compared == Compared::to_mean && sums == Sums::loss) options.means = means;
  double result[2 * kSums];
  if (passes & kBackward) {
    options.order = 1;
    options.grad = &grad;
    return instructions_of([&] { kernels.loss_pointwise(piece, options, 0, n); });
  }
  return instructions_of([&] { kernels.loss_sums(piece, options, 0, n, result); });
}

enum class FeaturePass { sums, gradient, both };

template <class T>
int64_t features(const Kernels& kernels, Distance distance, FeaturePass pass, int64_t n) {
  const bool keeps_signs = distance == Distance::l1 && pass != FeaturePass::both;
  FeatureMap map{numbers<T>(0),
                 numbers<T>(1),
                 keeps_signs ? buffer<int8_t>(3) : nullptr,
                 pass == FeaturePass::sums ? nullptr : buffer<T>(2),
                 n,
                 1.0,
                 0};
  const Dtype dtype = sizeof(T) == 2 ? Dtype::bfloat16 : Dtype::float32;
  const FeatureOptions options{dtype, distance, false};
  double sums[kFeatureSums];
  if (pass == FeaturePass::gradient) {
    return instructions_of([&] { kernels.feature_gradient(map, options, 0.5, 0, n); });
  }
  return instructions_of([&] { kernels.feature_sums(map, options, 0, n, sums); });
}

template <class In, class Out>
int64_t noise(const Kernels& kernels, Dtype in, Dtype out, int64_t n) {
  static const int64_t state[2] = {7, 1};
  NoisePiece piece{buffer<In>(0), buffer<Out>(1), n, 0, 0, 1, 0, Divisor(n), 0};
  NoiseOptions options{in, out, {}, {}, 0.5, state};
  return instructions_of([&] { kernels.instance_noise(piece, options, 0, n); });
}

int64_t noise_dot(const Kernels& kernels, int64_t n) {
  static const int64_t state[2] = {7, 1};
  const NoiseDotArgs args{numbers<float>(0), Dtype::float32, n, n, state, 0};
  return instructions_of([&] { kernels.noise_dot(args, 0, n); });
}

struct Case {
  std::string name;
  std::function<int64_t(const Kernels&, int64_t n)> count;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add_loss = [&]<class T>(T, std::string name, Form form, int passes,
                                     Compared compared = Compared::alone, Sums sums = Sums::loss) {
    cases.push_back({std::move(name), [=](const Kernels& kernels, int64_t n) {
                       return loss<T>(kernels, form, passes, n, compared, sums);
                     }});
  };
  const std::pair<std::string, Form> forms[] = {
#define PYGAN_NAMED_FORM(name) {#name, Form::name},
      PYGAN_FORMS(PYGAN_NAMED_FORM)};
  for (const auto& [name, form] : forms) {
    add_loss(float{}, name + " value", form, kValue);
    add_loss(float{}, name + " value, grad", form, kGrad);
    add_loss(float{}, name + " value, stats", form, kStatistics);
    add_loss(float{}, name + " value, grad, stats", form, kGrad | kStatistics);
    add_loss(float{}, name + " backward", form, kBackward);
    add_loss(float{}, name + " mirrored value, grad", form, kGrad | kMirrored);
  }
  const Form logistic = Form::Logistic;
  const Compared paired = Compared::paired, to_mean = Compared::to_mean;
  add_loss(bfloat16_t{}, "Logistic bf16 value, grad", logistic, kGrad);
  add_loss(float{}, "Logistic paired value, grad", logistic, kGrad, paired);
  add_loss(float{}, "Logistic to mean, means", logistic, kStatistics, to_mean, Sums::means);
  add_loss(float{}, "Logistic to mean value", logistic, kValue, to_mean);
  add_loss(float{}, "Logistic to mean value, grad", logistic, kGrad, to_mean);
  add_loss(float{}, "Logistic to mean value, stats", logistic, kStatistics, to_mean);
  add_loss(float{}, "Logistic to mean backward", logistic, kBackward, to_mean);
  const auto add_features = [&]<class T>(T, std::string name, Distance distance) {
    const std::pair<FeaturePass, const char*> passes[] = {{FeaturePass::sums, ""},
                                                          {FeaturePass::gradient, " gradient"},
                                                          {FeaturePass::both, " both"}};
    for (const auto& [pass, what] : passes) {
      cases.push_back({"features " + name + what, [=](const Kernels& kernels, int64_t n) {
                         return features<T>(kernels, distance, pass, n);
                       }});
    }
  };
  add_features(float{}, "l1 fp32", Distance::l1);
  add_features(bfloat16_t{}, "l1 bf16", Distance::l1);
  add_features(float{}, "l2 fp32", Distance::l2);
  const auto add_noise = [&]<class In, class Out>(In, Out, std::string name, Dtype in, Dtype out) {
    cases.push_back({std::move(name), [=](const Kernels& kernels, int64_t n) {
                       return noise<In, Out>(kernels, in, out, n);
                     }});
  };
  add_noise(float{}, float{}, "noise fp32", Dtype::float32, Dtype::float32);
  add_noise(bfloat16_t{}, bfloat16_t{}, "noise bf16", Dtype::bfloat16, Dtype::bfloat16);
  add_noise(uint8_t{}, bfloat16_t{}, "noise uint8 to bf16", Dtype::uint8, Dtype::bfloat16);
  cases.push_back({"noise_dot fp32", noise_dot});
  return cases;
}
const std::vector<Case> kCases = all_cases();

}  // namespace

extern "C" const char* case_name(int index) {
  return index < static_cast<int>(kCases.size()) ? kCases[index].name.c_str() : nullptr;
}
// `table` is what _C.cpu_kernels() gives; n at most 8,192.
extern "C" int64_t instructions(uintptr_t table, int index, int64_t n) {
  return kCases[index].count(*reinterpret_cast<const Kernels*>(table), n);
}
