// One step of Elman's network, forward and backward, on a vector of units. Equation: elman/operator.py.
#pragma once

#include "../cpu/vector.h"

namespace RECURRA_ISA {

template <class T, bool relu>
struct Elman {
  using V = Vector<T>;
  static constexpr int gates = 1;
  static constexpr int units = 4;
  static constexpr int planes = 1;  // the sum from the input, then the new h before zoneout
  static constexpr int fields = 1;
  static constexpr int h_first = 0;
  static constexpr bool direct = false;

  static constexpr int x_gate(int plane) { return plane; }
  static constexpr bool bias_in_input(int) { return true; }
  // sum: the recurrent product; p: the vector of the plane.
  template <bool saving>
  static RECURRA_INLINE void forward(const T* sum, T* p, ptrdiff_t, const T*, V, V, V& h_new, V&) {
    const V a = load(p) + load(sum);
    // A comparison with NaN is false, so that NaN passes through relu as well.
    h_new = relu ? (a < fill(T(0)) ? fill(T(0)) : a) : hyperbolic_tangent<T>(a);
    if (saving) store(p, h_new);
  }

  static RECURRA_INLINE V cells(const T*, ptrdiff_t, V c) { return c; }

  static RECURRA_INLINE void backward(V dh, V, V, V, V, const T* p, ptrdiff_t, T* d, V&, V&) {
    const V h = load(p);
    store(d, relu ? (h > fill(T(0)) ? dh : fill(T(0))) : dh * fma(-h, h, fill(T(1))));
  }
};

}  // namespace RECURRA_ISA
