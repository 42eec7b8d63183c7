// Work on the CPU in chunks of a fixed size, numbered through all pieces: the partition decides the
// bits of a sum, the number of threads does not.
#pragma once

#include "ops/common.h"
#include "ops/subnormals.h"

namespace pygan::ops {

// kChunk: the most elements of a chunk. Waking another thread takes about half as long as the work
// on four full chunks.
template <int64_t kChunk, class Piece>
struct Chunks {
  c10::ArrayRef<Piece> pieces;

  static int64_t of(const Piece& piece) { return (piece.n + kChunk - 1) / kChunk; }

  int64_t count() const {
    int64_t chunks = 0;
    for (const Piece& piece : pieces) chunks += of(piece);
    return chunks;
  }

  // Calls f(piece, chunk, begin, end) for every chunk of every piece.
  template <class F>
  void for_each(F&& f) const {
    const int64_t chunks = count();
    parallel_for(0, chunks, grain(chunks), [&](int64_t first, int64_t last) {
      int64_t before = 0;  // chunks of the pieces before this one
      for (const Piece& piece : pieces) {
        const int64_t own = of(piece);
        for (int64_t c = std::max(first, before); c < std::min(last, before + own); ++c) {
          const int64_t begin = (c - before) * kChunk;
          f(piece, c, begin, std::min(begin + kChunk, piece.n));
        }
        before += own;
        if (before >= last) return;
      }
    });
  }

 private:
  // The fewest chunks for a thread: together they have about as many elements as four full ones.
  int64_t grain(int64_t chunks) const {
    int64_t elements = 1;
    for (const Piece& piece : pieces) elements += piece.n;
    return std::max<int64_t>(1, 4 * kChunk * chunks / elements);
  }
};

}  // namespace pygan::ops
