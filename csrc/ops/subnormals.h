// Subnormal numbers in the CPU kernels: as IEEE 754 defines them, whatever torch.set_flush_denormal
// says.
//
// That flag belongs to a thread. The threads of PyTorch's pool inherit it from the thread that
// started them, so the results would depend on how many threads share the work.
#pragma once

#include <ATen/Parallel.h>

namespace pygan::ops {

// While it lives, this thread flushes no subnormal number to zero. (The clobbers keep the compiler
// from moving loads and stores, and so the arithmetic between them, across the change.)
class KeepSubnormals {
 public:
  KeepSubnormals() : saved_(control()) {
    if ((saved_ & kFlushes) != 0) set_control(saved_ & ~kFlushes);
  }
  ~KeepSubnormals() {
    if ((saved_ & kFlushes) != 0) set_control(saved_);
  }
  KeepSubnormals(const KeepSubnormals&) = delete;
  KeepSubnormals& operator=(const KeepSubnormals&) = delete;

 private:
#if defined(__x86_64__)
  using Control = uint32_t;
  static constexpr Control kFlushes = 0x8040;  // MXCSR: FTZ, DAZ
  static Control control() {
    Control word;
    asm volatile("stmxcsr %0" : "=m"(word) : : "memory");
    return word;
  }
  static void set_control(Control word) { asm volatile("ldmxcsr %0" : : "m"(word) : "memory"); }
#elif defined(__aarch64__)
  using Control = uint64_t;
  static constexpr Control kFlushes = 0x1080000;  // FPCR: FZ, FZ16
  static Control control() {
    Control word;
    asm volatile("mrs %0, fpcr" : "=r"(word) : : "memory");
    return word;
  }
  static void set_control(Control word) { asm volatile("msr fpcr, %0" : : "r"(word) : "memory"); }
#else
  using Control = int;
  static constexpr Control kFlushes = 0;
  static Control control() { return 0; }
  static void set_control(Control) {}
#endif

  Control saved_;
};

// at::parallel_for, each part of it with subnormal numbers.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  at::parallel_for(begin, end, grain, [&](int64_t first, int64_t last) {
    const KeepSubnormals keep;
    f(first, last);
  });
}

}  // namespace pygan::ops
