// One step of the layer-normalized GRU, forward and backward, on a row. Equations: layernorm_gru/operator.py.
#pragma once

#include "../cpu/normalization.h"
#include "../cpu/row_recurrence.h"

namespace RECURRA_ISA {

template <class T>
struct LayerNormGru {
  using V = Vector<T>;
  static constexpr int W = width<T>;
  // Planes of the vectors, and of their gradients' sums.
  enum { gain_ih = 0, gain_hh = 3, b_ih = 6, b_hh = 9, sums = 12 };
  // Both gates are normalized as one, the new values as another.
  enum { x_gates, x_new, h_gates, h_new, numbers };

  static constexpr Form form{3, 1, 3, Second::none, true, true, false, 3, numbers, sums, 4,
                             {{2, 3, gain_ih}, {3, 3, gain_hh}, {0, 3, b_ih}, {1, 3, b_hh}}};

  struct Gates {
    V r, z, n, from_h;  // from_h: the new values' part from h, before the reset gate
  };

  // From the normalized products, which are saved: of the input in the planes, of h in the extra ones.
  static RECURRA_INLINE Gates gates(const Row<T>& row, int j) {
    const int wide = row.wide;
    const auto scaled = [&](const T* products, int gain, int bias, int gate) {
      return fma(load(row.vectors + (gain + gate) * wide + j), load(products + gate * wide + j), load(row.vectors + (bias + gate) * wide + j));
    };
    const V r = sigmoid<T>(scaled(row.planes, gain_ih, b_ih, 0) + scaled(row.extra, gain_hh, b_hh, 0));
    const V z = sigmoid<T>(scaled(row.planes, gain_ih, b_ih, 1) + scaled(row.extra, gain_hh, b_hh, 1));
    const V from_h = scaled(row.extra, gain_hh, b_hh, 2);
    return {r, z, hyperbolic_tangent<T>(fma(r, from_h, scaled(row.planes, gain_ih, b_ih, 2))), from_h};
  }

  static RECURRA_INLINE T normalize(const Row<T>& row, T* planes, int count) {
    const Moments<T> found = moments(planes, count, row.units, row.wide, row.inside);
    for (int j = 0; j < count * row.wide; j += W) store(planes + j, (load(planes + j) - found.mean) * found.scale);
    return found.scale;
  }

  static void forward(const Row<T>& row) {
    const int wide = row.wide;
    T *x = row.planes, *h = row.extra, *saved = h + 3 * wide;
    for (int j = 0; j < wide; j += W)
      for (int gate = 0; gate < 3; ++gate) store(h + gate * wide + j, load(row.product + 3 * j + gate * W));
    saved[x_gates] = normalize(row, x, 2), saved[x_new] = normalize(row, x + 2 * wide, 1);
    saved[h_gates] = normalize(row, h, 2), saved[h_new] = normalize(row, h + 2 * wide, 1);
    for (int j = 0; j < wide; j += W) {
      const Gates g = gates(row, j);
      store(row.now[0] + j, fma(g.z, load(row.old[0] + j) - g.n, g.n));
    }
  }

  static void backward(const Row<T>& row) {
    const int wide = row.wide;
    const T *x = row.planes, *h = row.extra, *saved = h + 3 * wide;
    T *d_x = row.d_planes, *d_h = d_x + 3 * wide;
    // Of both gates, and of the new values: sums of the gradients, and of these times the normalized numbers.
    V x_sum[2] = {}, x_along[2] = {}, h_sum[2] = {}, h_along[2] = {};
    for (int j = 0; j < wide; j += W) {
      const Gates g = gates(row, j);
      const V dh = load(row.d[0] + j), one = fill(T(1));
      const V dn = dh * (one - g.z) * fma(-g.n, g.n, one);
      const V dr = dn * g.from_h * (g.r * (one - g.r)), dz = dh * (load(row.old[0] + j) - g.n) * (g.z * (one - g.z));
      const V from_x[3] = {dr, dz, dn}, from_h[3] = {dr, dz, dn * g.r};
      for (int gate = 0; gate < 3; ++gate) {
        const int at = gate * wide + j, part = gate / 2;
        through(row, at, gain_ih, b_ih, from_x[gate], load(x + at), d_x + at, x_sum[part], x_along[part]);
        through(row, at, gain_hh, b_hh, from_h[gate], load(h + at), d_h + at, h_sum[part], h_along[part]);
      }
      store(row.d[0] + j, dh * g.z);
    }
    const int new_values = 2 * wide;
    normalization_backward(d_x, x, x_sum[0], x_along[0], saved[x_gates], 2, row.units, wide, row.inside);
    normalization_backward(d_x + new_values, x + new_values, x_sum[1], x_along[1], saved[x_new], 1, row.units, wide, row.inside);
    normalization_backward(d_h, h, h_sum[0], h_along[0], saved[h_gates], 2, row.units, wide, row.inside);
    normalization_backward(d_h + new_values, h + new_values, h_sum[1], h_along[1], saved[h_new], 1, row.units, wide, row.inside);
  }

 private:
  // Through gain and bias of one vector, d being the gradient of gain * y + bias.
  static RECURRA_INLINE void through(const Row<T>& row, int at, int gain, int bias, V d, V y, T* d_y, V& sum, V& along) {
    T *d_gain = row.sums + gain * row.wide + at, *d_bias = row.sums + bias * row.wide + at;
    store(d_gain, fma(d, y, load(d_gain)));
    store(d_bias, load(d_bias) + d);
    d = d * load(row.vectors + gain * row.wide + at);
    store(d_y, d);
    sum = sum + d, along = fma(d, y, along);
  }
};

}  // namespace RECURRA_ISA
