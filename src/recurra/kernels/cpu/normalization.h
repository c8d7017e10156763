// Layer normalization of planes of a row; see normalization.py for the equation.
#pragma once

#include "vector.h"

namespace RECURRA_ISA {

constexpr double layer_norm_epsilon = 1e-5;

template <class T>
RECURRA_INLINE T sum_of(Vector<T> v) {
  T numbers[width<T>];
  store(numbers, v);
  for (int n = width<T> / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) numbers[i] += numbers[i + n];
  return numbers[0];
}

template <class T>
RECURRA_INLINE T root(T x) {
  if constexpr (sizeof(T) == sizeof(float))
    return __builtin_sqrtf(x);
  else
    return __builtin_sqrt(x);
}

template <class T>
struct Moments {
  T mean, scale;  // scale: 1 / sqrt(variance + epsilon)
};

// Of `planes` planes that are zero in their padding. In two passes: a mean large beside the deviations costs no digits.
template <class T>
inline __attribute__((noinline)) Moments<T> moments(const T* x, int planes, int units, int wide, const T* inside) {
  constexpr int W = width<T>;
  const T count = static_cast<T>(planes) * static_cast<T>(units);
  Vector<T> sums[2] = {};
  const int all = planes * wide, pairs = all / (2 * W) * (2 * W);
  for (int j = 0; j < pairs; j += 2 * W) sums[0] = sums[0] + load(x + j), sums[1] = sums[1] + load(x + j + W);
  if (pairs < all) sums[0] = sums[0] + load(x + pairs);
  const T mean = sum_of<T>(sums[0] + sums[1]) / count;
  Vector<T> squares[2] = {};
  const int last = wide - W;  // the only vector with padding
  for (int plane = 0; plane < planes; ++plane, x += wide) {
    Vector<T>& here = squares[plane % 2];
    for (int j = 0; j < last; j += W) {
      const Vector<T> difference = load(x + j) - mean;
      here = fma(difference, difference, here);
    }
    const Vector<T> difference = (load(x + last) - mean) * load(inside + last);
    here = fma(difference, difference, here);
  }
  const T variance = sum_of<T>(squares[0] + squares[1]) / count;
  return {mean, T(1) / root<T>(variance + static_cast<T>(layer_norm_epsilon))};
}

// Through the normalization: with gradients d of the normalized numbers y, d becomes scale (d - mean(d) - y mean(d y)).
template <class T>
inline __attribute__((noinline)) void normalization_backward(T* d, const T* y, Vector<T> d_sum, Vector<T> dy_sum, T scale, int planes, int units, int wide, const T* inside) {
  constexpr int W = width<T>;
  const T count = static_cast<T>(planes) * static_cast<T>(units);
  const T mean = sum_of<T>(d_sum) / count, along = sum_of<T>(dy_sum) / count;
  for (int plane = 0; plane < planes; ++plane, d += wide, y += wide)
    for (int j = 0; j < wide; j += W) store(d + j, fma(fill(-along), load(y + j), load(d + j) - mean) * (load(inside + j) * scale));
}

}  // namespace RECURRA_ISA
