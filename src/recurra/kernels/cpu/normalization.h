// Layer normalization of planes of a row; see normalization.py for the equation.
#pragma once

#include "vector.h"

namespace RECURRA_ISA {

constexpr double layer_norm_epsilon = 1e-5;

template <class T, int apart, int... lane>
RECURRA_INLINE Vector<T> exchanged(Vector<T> v, std::integer_sequence<int, lane...>) {
  return __builtin_shuffle(v, Bits<T>{(lane ^ apart)...});
}

// The sum of a vector's numbers, in the place of each.
template <class T, int apart = width<T> / 2>
RECURRA_INLINE Vector<T> sum_everywhere(Vector<T> v) {
  v = v + exchanged<T, apart>(v, std::make_integer_sequence<int, width<T>>{});
  if constexpr (apart > 1) return sum_everywhere<T, apart / 2>(v);
  return v;
}

template <class T>
RECURRA_INLINE T root(T x) {
  if constexpr (sizeof(T) == sizeof(float))
    return __builtin_sqrtf(x);
  else
    return __builtin_sqrt(x);
}

// Planes that are zero in their padding: the vectors of a plane `step` vectors apart, the planes `apart` numbers.
template <class T>
struct Planes {
  const T* first;
  int step, apart;
};

template <class T>
struct Moments {
  Vector<T> mean, scale;  // scale: 1 / sqrt(variance + epsilon)
};

// Of `count` times `planes` planes of a row, side by side, since each waits long for its sums. In two passes: a mean large beside the
// deviations costs no digits.
template <class T, int planes, int count>
RECURRA_INLINE void moments(const Planes<T> (&of)[count], int units, const T* inside, Moments<T> (&found)[count]) {
  constexpr int W = width<T>;
  const Vector<T> share = fill(T(1) / (static_cast<T>(planes) * static_cast<T>(units)));
  const auto sum = [&](const Planes<T>& numbers, auto&& term) {
    Vector<T> sums[planes] = {};
    for (int j = 0; j < units; j += W)
#pragma GCC unroll 4
      for (int plane = 0; plane < planes; ++plane) sums[plane] = term(sums[plane], load(numbers.first + j * numbers.step + plane * numbers.apart), j);
    for (int plane = 1; plane < planes; ++plane) sums[0] = sums[0] + sums[plane];
    return sum_everywhere<T>(sums[0]) * share;
  };
  for (int i = 0; i < count; ++i) found[i].mean = sum(of[i], [](Vector<T> all, Vector<T> x, int) { return all + x; });
  for (int i = 0; i < count; ++i) {
    const Vector<T> variance = sum(of[i], [&, mean = found[i].mean](Vector<T> all, Vector<T> x, int j) {
      const Vector<T> deviation = x - mean * load(inside + j);
      return fma(deviation, deviation, all);
    });
    found[i].scale = fill(T(1) / root<T>(variance[0] + static_cast<T>(layer_norm_epsilon)));
  }
}

// The way back through the normalization of numbers y: their gradients d become scale (d - mean(d) - y mean(d y)).
template <class T>
struct NormalizationBackward {
  using V = Vector<T>;
  V d_sum{}, dy_sum{};

  RECURRA_INLINE void add(V d, V y) { d_sum = d_sum + d, dy_sum = fma(d, y, dy_sum); }
  // Behind the last `add`: of `count` numbers.
  RECURRA_INLINE void finish(T scale_, int count) {
    const V share = fill(-scale_ / static_cast<T>(count));
    scale = fill(scale_), d_sum = sum_everywhere<T>(d_sum) * share, dy_sum = sum_everywhere<T>(dy_sum) * share;
  }
  RECURRA_INLINE V through(V d, V y, V inside) const { return fma(d, scale, fma(y, dy_sum, d_sum)) * inside; }

 private:
  V scale{};
};

}  // namespace RECURRA_ISA
