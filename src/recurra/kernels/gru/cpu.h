// One step of torch's GRU, forward and backward, on a vector of units. Equations: gru/operator.py.
#pragma once

#include "../cpu/vector.h"

namespace RECURRA_ISA {

template <class T>
struct Gru {
  using V = Vector<T>;
  static constexpr int gates = 3;   // r, z, n
  static constexpr int units = 1;
  // n from the input, r, z, n from the hidden state: the first three are what the input weights reach, the last three
  // what the recurrent ones do.
  static constexpr int planes = 4;
  static constexpr int fields = 1;
  static constexpr int h_first = 1;
  static constexpr bool direct = true;  // z h

  static constexpr int x_gate(int plane) { return plane == 0 ? 2 : plane - 1; }
  static constexpr bool bias_in_input(int gate) { return gate != 2; }
  // sum: the recurrent products of the gates, a vector each; p: the vector of the first plane.
  template <bool saving>
  static RECURRA_INLINE void forward(const T* sum, T* p, ptrdiff_t plane, const T* bias_hh, V h, V, V& h_new, V&) {
    constexpr int W = width<T>;
    const V r = sigmoid<T>(load(p + plane) + load(sum)), z = sigmoid<T>(load(p + 2 * plane) + load(sum + W));
    const V from_h = load(bias_hh + 2 * plane) + load(sum + 2 * W);
    const V n = hyperbolic_tangent<T>(fma(r, from_h, load(p)));
    h_new = fma(z, h - n, n);
    if (saving) {
      store(p, n);
      store(p + plane, r);
      store(p + 2 * plane, z);
      store(p + 3 * plane, from_h);
    }
  }

  static RECURRA_INLINE V cells(const T*, ptrdiff_t, V c) { return c; }

  static RECURRA_INLINE void backward(V dh, V, V h, V, V, const T* p, ptrdiff_t plane, T* d, V&, V& dh_before) {
    const V n = load(p), r = load(p + plane), z = load(p + 2 * plane), from_h = load(p + 3 * plane);
    const V one = fill(T(1));
    const V dn = dh * (one - z) * fma(-n, n, one);
    store(d, dn);
    store(d + plane, dn * from_h * (r * (one - r)));
    store(d + 2 * plane, dh * (h - n) * (z * (one - z)));
    store(d + 3 * plane, dn * r);
    dh_before = dh * z;
  }
};

}  // namespace RECURRA_ISA
