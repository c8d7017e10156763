// One step of the LSTM, forward and backward, on a vector of units. Equations: lstm/operator.py.
#pragma once

#include "../cpu/vector.h"

namespace RECURRA_ISA {

template <class T>
struct Lstm {
  using V = Vector<T>;
  static constexpr int gates = 4;    // i, f, g, o
  static constexpr int units = 1;    // vectors of units in a panel of the recurrent weights
  static constexpr int planes = 4;   // i, f, g, o: first from the input, then activated
  static constexpr int fields = 2;   // h, c
  static constexpr int h_first = 0;  // first plane that the recurrent weights reach
  static constexpr bool direct = false;  // h' does not read h but through the weights

  static constexpr int x_gate(int plane) { return plane; }
  static constexpr bool bias_in_input(int) { return true; }
  // sum: the recurrent products of the gates, a vector each; p: the vector of the first plane.
  template <bool saving>
  static RECURRA_INLINE void forward(const T* sum, T* p, ptrdiff_t plane, const T*, V, V c, V& h_new, V& c_new) {
    constexpr int W = width<T>;
    const V i = sigmoid<T>(load(p) + load(sum)), f = sigmoid<T>(load(p + plane) + load(sum + W));
    const V g = hyperbolic_tangent<T>(load(p + 2 * plane) + load(sum + 2 * W)), o = sigmoid<T>(load(p + 3 * plane) + load(sum + 3 * W));
    c_new = fma(f, c, i * g);
    h_new = o * hyperbolic_tangent<T>(c_new);
    if (saving) {
      store(p, i);
      store(p + plane, f);
      store(p + 2 * plane, g);
      store(p + 3 * plane, o);
    }
  }

  // Memory cells of the step from what was saved.
  static RECURRA_INLINE V cells(const T* p, ptrdiff_t plane, V c) { return fma(load(p + plane), c, load(p) * load(p + 2 * plane)); }

  // dh, dc: gradients of the step's h and c. Puts out those of the planes before activation, and of c before.
  static RECURRA_INLINE void backward(V dh, V dc, V, V c, V c_new, const T* p, ptrdiff_t plane, T* d, V& dc_before, V&) {
    const V i = load(p), f = load(p + plane), g = load(p + 2 * plane), o = load(p + 3 * plane);
    const V t = hyperbolic_tangent<T>(c_new);
    const V one = fill(T(1));
    dc = fma(dh * o, fma(-t, t, one), dc);
    store(d, dc * g * (i * (one - i)));
    store(d + plane, dc * c * (f * (one - f)));
    store(d + 2 * plane, dc * i * fma(-g, g, one));
    store(d + 3 * plane, dh * t * (o * (one - o)));
    dc_before = dc * f;
  }
};

}  // namespace RECURRA_ISA
