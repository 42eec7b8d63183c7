// Huge pages for large results on the CPU. The first write to fresh memory makes the system map it
// page by page: of 256 MB in pages of 4 KB that takes nine times as long as the write itself, in
// pages of 2 MB two to three times (Linux, one thread).
#pragma once

#include <ATen/ATen.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pygan::ops {

// Asks the system to map what is not mapped yet of x's memory, which the caller is about to write,
// in huge pages. A hint: where there are none, nothing changes.
inline const at::Tensor& with_huge_pages(const at::Tensor& x) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr size_t kPage = size_t{1} << 21;
  if (!x.is_cpu() || x.nbytes() < 2 * kPage) return x;
  const auto data = reinterpret_cast<uintptr_t>(x.mutable_data_ptr());
  const uintptr_t begin = (data + kPage - 1) / kPage * kPage,
                  end = (data + x.nbytes()) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
  return x;
}

}  // namespace pygan::ops
