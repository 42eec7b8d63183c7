// What every driver needs: guarded buffers and a way to fail with a message.
#pragma once

#include <sys/mman.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace harness {

[[noreturn]] inline void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] inline void fail(const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::exit(1);
}

// `size` elements that begin `offset` elements behind a 64-byte boundary, with margins on both
// sides that nobody may touch: ASan sees every access to them, other builds a write (at the latest
// when the buffer dies).
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t size, std::size_t offset = 0)
      : size_(size), bytes_((size + offset) * sizeof(T) + 2 * kMargin) {
    if (posix_memalign(reinterpret_cast<void**>(&base_), 64, bytes_) != 0) fail("out of memory");
    std::memset(base_, kCanary, bytes_);
    data_ = reinterpret_cast<T*>(base_ + kMargin) + offset;
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(base_, begin() - base_);
    ASAN_POISON_MEMORY_REGION(end(), base_ + bytes_ - end());
#endif
  }
  ~Buffer() {
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(base_, bytes_);
#endif
    for (const unsigned char* p = base_; p < base_ + bytes_; ++p)
      if ((p < begin() || p >= end()) && *p != kCanary)
        fail("out of bounds: a kernel wrote %td bytes from the start of a buffer of %zu bytes",
             p - begin(), size_ * sizeof(T));
    std::free(base_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_[i]; }

 private:
  static constexpr std::size_t kMargin = 256;
  static constexpr unsigned char kCanary = 0xc5;

  unsigned char* begin() const { return reinterpret_cast<unsigned char*>(data_); }
  unsigned char* end() const { return begin() + size_ * sizeof(T); }

  std::size_t size_, bytes_;
  unsigned char* base_ = nullptr;
  T* data_ = nullptr;
};

// Zeros by the gigabyte, of which only the pages that are written cost memory.
template <class T>
class VirtualBuffer {
 public:
  explicit VirtualBuffer(std::size_t size) : bytes_(size * sizeof(T)) {
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("cannot reserve %zu bytes of address space", bytes_);
    data_ = static_cast<T*>(memory);
  }
  ~VirtualBuffer() { munmap(data_, bytes_); }
  VirtualBuffer(const VirtualBuffer&) = delete;
  VirtualBuffer& operator=(const VirtualBuffer&) = delete;

  T* data() { return data_; }

 private:
  std::size_t bytes_;
  T* data_;
};

// A reproducible stream of test values.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2862933555777941757u + 3037000493u) {}
  std::uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 33) * 2654435761u;
  }
  double uniform(double low, double high) { return low + (high - low) * (bits() / 4294967296.0); }

 private:
  std::uint64_t state_;
};

}  // namespace harness
