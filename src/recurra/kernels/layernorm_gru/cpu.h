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

  static void forward(const Row<T>& row) {
    const int wide = row.wide;
    T *x = row.planes, *h = row.extra, *saved = h + 3 * wide;
    Moments<T> of_gates[2], of_new[2];
    moments<T, 2>({{x, 1, wide}, {row.product, 3, W}}, row.units, row.inside, of_gates);
    moments<T, 1>({{x + 2 * wide, 1, wide}, {row.product + 2 * W, 3, W}}, row.units, row.inside, of_new);
    for (int j = 0; j < wide; j += W) {
#pragma GCC unroll 3
      for (int gate = 0; gate < 3; ++gate) {
        const Moments<T>*of = gate < 2 ? of_gates : of_new;
        store(x + gate * wide + j, (load(x + gate * wide + j) - of[0].mean) * of[0].scale);
        store(h + gate * wide + j, (load(row.product + 3 * j + gate * W) - of[1].mean) * of[1].scale);
      }
      const Gates g = gates(row, j);
      store(row.now[0] + j, fma(g.z, load(row.old[0] + j) - g.n, g.n));
    }
    saved[x_gates] = of_gates[0].scale[0], saved[h_gates] = of_gates[1].scale[0], saved[x_new] = of_new[0].scale[0], saved[h_new] = of_new[1].scale[0];
  }

  static void backward(const Row<T>& row) {
    const int wide = row.wide, units = row.units;
    const T *x = row.planes, *h = row.extra, *saved = h + 3 * wide;
    T *d_x = row.d_planes, *d_h = d_x + 3 * wide;
    NormalizationBackward<T> of_x[2], of_h[2];  // of both gates, and of the new values
    for (int j = 0; j < wide; j += W) {
      const Gates g = gates(row, j);
      const V dh = load(row.d[0] + j), one = fill(T(1));
      const V dn = dh * (one - g.z) * fma(-g.n, g.n, one);
      const V dr = dn * g.from_h * (g.r * (one - g.r)), dz = dh * (load(row.old[0] + j) - g.n) * (g.z * (one - g.z));
      const V from_x[3] = {dr, dz, dn}, from_h[3] = {dr, dz, dn * g.r};
#pragma GCC unroll 3
      for (int gate = 0; gate < 3; ++gate) {
        const int at = gate * wide + j;
        scaled(row, at, gain_ih, b_ih, from_x[gate], load(x + at), d_x + at, of_x[gate / 2]);
        scaled(row, at, gain_hh, b_hh, from_h[gate], load(h + at), d_h + at, of_h[gate / 2]);
      }
      store(row.d[0] + j, dh * g.z);
    }
    of_x[0].finish(saved[x_gates], 2 * units), of_x[1].finish(saved[x_new], units);
    of_h[0].finish(saved[h_gates], 2 * units), of_h[1].finish(saved[h_new], units);
    for (int j = 0; j < wide; j += W) {
      const V here = load(row.inside + j);
#pragma GCC unroll 3
      for (int gate = 0; gate < 3; ++gate) {
        const int at = gate * wide + j;
        store(d_x + at, of_x[gate / 2].through(load(d_x + at), load(x + at), here));
        store(d_h + at, of_h[gate / 2].through(load(d_h + at), load(h + at), here));
      }
    }
  }

 private:
  // Through gain and bias of one vector, d being the gradient of gain * y + bias.
  static RECURRA_INLINE void scaled(const Row<T>& row, int at, int gain, int bias, V d, V y, T* d_y, NormalizationBackward<T>& of) {
    T *d_gain = row.sums + gain * row.wide + at, *d_bias = row.sums + bias * row.wide + at;
    store(d_gain, fma(d, y, load(d_gain)));
    store(d_bias, load(d_bias) + d);
    d = d * load(row.vectors + gain * row.wide + at);
    store(d_y, d);
    of.add(d, y);
  }
};

}  // namespace RECURRA_ISA
