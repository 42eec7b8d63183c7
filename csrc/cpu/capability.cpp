// Chooses the instruction set at run time.
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu/kernels.h"

namespace pygan::cpu {

#define PYGAN_DECLARE_ISA(isa)        \
  namespace isa {                     \
  void add_noise_kernels(Kernels&);   \
  void add_loss_kernels(Kernels&);    \
  void add_feature_kernels(Kernels&); \
  static Kernels table() {            \
    Kernels kernels;                  \
    add_noise_kernels(kernels);       \
    add_loss_kernels(kernels);        \
    add_feature_kernels(kernels);     \
    return kernels;                   \
  }                                   \
  }
PYGAN_DECLARE_ISA(baseline)
#if defined(PYGAN_CPU_X86)
PYGAN_DECLARE_ISA(avx2)
PYGAN_DECLARE_ISA(avx512)
#endif

// The functions that fill a table are compiled for its instruction set too, so a table is made only
// if the machine supports it.
const Kernels* kernels_of(const std::string& capability) {
  if (capability == "baseline") {
    static const Kernels table = baseline::table();
    return &table;
  }
#if defined(PYGAN_CPU_X86)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (capability == "avx2" && has_avx2) {
    static const Kernels table = avx2::table();
    return &table;
  }
  if (capability == "avx512" && has_avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    static const Kernels table = avx512::table();
    return &table;
  }
#endif
  return nullptr;
}

namespace {

struct Choice {
  std::string name;
  const Kernels* table;
};

Choice choice_of(const std::string& name, const char* who) {
  const Kernels* table = kernels_of(name);
  if (table == nullptr) {
    throw std::runtime_error(std::string("pygan: ") + who +
                             " must be baseline, avx2 or avx512, one that this machine and build "
                             "support, got \"" +
                             name + "\"");
  }
  return {name, table};
}

Choice first_choice() {
  const char* asked = std::getenv("PYGAN_CPU_CAPABILITY");
  if (asked != nullptr && *asked != '\0') return choice_of(asked, "PYGAN_CPU_CAPABILITY");
  for (const char* name : {"avx512", "avx2"}) {
    if (const Kernels* table = kernels_of(name)) return {name, table};
  }
  return choice_of("baseline", "");
}

// Replaced as a whole and never freed: a thread in the middle of a kernel keeps its table.
std::atomic<const Choice*>& current() {
  static std::atomic<const Choice*> choice{new Choice(first_choice())};
  return choice;
}

}  // namespace

std::string capability() { return current().load()->name; }
const Kernels& kernels() { return *current().load()->table; }
void use(const std::string& name) { current().store(new Choice(choice_of(name, "capability"))); }

}  // namespace pygan::cpu
