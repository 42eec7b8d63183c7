// CUDA's vector types with CUDA's alignment, which is what makes UBSan see a misaligned vector
// access.
#pragma once

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SIMT_VECTOR2(name, type)                           \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; }; \
  constexpr name##2 make_##name##2(type x, type y) { return {x, y}; }
#define SIMT_VECTOR4(name, type)                                                              \
  struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; }; \
  constexpr name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

SIMT_VECTOR2(float, float)
SIMT_VECTOR2(double, double)
SIMT_VECTOR2(int, int)
SIMT_VECTOR2(uint, unsigned)
SIMT_VECTOR4(float, float)
SIMT_VECTOR4(int, int)
SIMT_VECTOR4(uint, unsigned)

#undef SIMT_VECTOR2
#undef SIMT_VECTOR4
