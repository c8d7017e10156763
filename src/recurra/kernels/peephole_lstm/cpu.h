// One step of the LSTM with peepholes, forward and backward, on a row. Equations: peephole_lstm/operator.py.
#pragma once

#include "../cpu/row_recurrence.h"

namespace RECURRA_ISA {

template <class T>
struct PeepholeLstm {
  using V = Vector<T>;
  static constexpr int W = width<T>;
  enum { from_i = 0, from_f = 1, from_o = 2 };  // planes of the peepholes, and of their gradients' sums

  static constexpr Form form{4, 2, 4, Second::none, false, false, false, 0, 0, 3, 3, {{2, 1, from_i}, {3, 1, from_f}, {4, 1, from_o}}};

  static RECURRA_INLINE V peephole(const Row<T>& row, int which, int j) { return load(row.vectors + which * row.wide + j); }

  static void forward(const Row<T>& row) {
    const int wide = row.wide;
    for (int j = 0; j < wide; j += W) {
      T* p = row.planes + j;
      const T* product = row.product + 4 * j;
      const V c = load(row.old[1] + j);
      const V i = sigmoid<T>(fma(peephole(row, from_i, j), c, load(p) + load(product)));
      const V f = sigmoid<T>(fma(peephole(row, from_f, j), c, load(p + wide) + load(product + W)));
      const V g = hyperbolic_tangent<T>(load(p + 2 * wide) + load(product + 2 * W));
      const V c_new = fma(f, c, i * g);
      const V o = sigmoid<T>(fma(peephole(row, from_o, j), c_new, load(p + 3 * wide) + load(product + 3 * W)));
      store(row.now[1] + j, c_new);
      store(row.now[0] + j, o * hyperbolic_tangent<T>(c_new));
      store(p, i);
      store(p + wide, f);
      store(p + 2 * wide, g);
      store(p + 3 * wide, o);
    }
  }

  static void backward(const Row<T>& row) {
    const int wide = row.wide;
    const auto add = [&](int which, int j, V a, V b) {
      T* to = row.sums + which * wide + j;
      store(to, fma(a, b, load(to)));
    };
    for (int j = 0; j < wide; j += W) {
      const T* p = row.planes + j;
      T* d = row.d_planes + j;
      const V i = load(p), f = load(p + wide), g = load(p + 2 * wide), o = load(p + 3 * wide), one = fill(T(1));
      const V c = load(row.old[1] + j), c_new = fma(f, c, i * g), t = hyperbolic_tangent<T>(c_new), dh = load(row.d[0] + j);
      const V d_o = dh * t * (o * (one - o));
      const V dc = fma(d_o, peephole(row, from_o, j), fma(dh * o, fma(-t, t, one), load(row.d[1] + j)));
      const V d_i = dc * g * (i * (one - i)), d_f = dc * c * (f * (one - f));
      store(d, d_i);
      store(d + wide, d_f);
      store(d + 2 * wide, dc * i * fma(-g, g, one));
      store(d + 3 * wide, d_o);
      add(from_i, j, d_i, c);
      add(from_f, j, d_f, c);
      add(from_o, j, d_o, c_new);
      store(row.d[1] + j, fma(d_i, peephole(row, from_i, j), fma(d_f, peephole(row, from_f, j), dc * f)));
      store(row.d[0] + j, V{});
    }
  }
};

}  // namespace RECURRA_ISA
