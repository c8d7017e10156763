// One step of the layer-normalized LSTM, forward and backward, on a row. Equations: layernorm_lstm/operator.py.
#pragma once

#include "../cpu/normalization.h"
#include "../cpu/row_recurrence.h"

namespace RECURRA_ISA {

template <class T>
struct LayerNormLstm {
  using V = Vector<T>;
  static constexpr int W = width<T>;
  // Planes of the vectors, and of their gradients' sums (b_ih and b_hh have one).
  enum { gain_ih = 0, gain_hh = 4, b_ih = 8, b_hh = 12, gain_c = 16, bias_c = 17 };
  enum { d_gain_ih = 0, d_gain_hh = 4, d_b = 8, d_gain_c = 12, d_bias_c = 13, sums = 14 };
  enum { x_scale, h_scale, c_mean, c_scale, numbers };

  static constexpr Form form{4, 2, 4, Second::none, true, false, false, 4, numbers, sums, 6,
                             {{2, 4, d_gain_ih}, {3, 4, d_gain_hh}, {0, 4, d_b}, {1, 4, d_b}, {4, 1, d_gain_c}, {5, 1, d_bias_c}}};

  // Normalized products are saved: of the input in the planes, of h in the extra ones. Gates are computed again from them.
  static RECURRA_INLINE V sum(const Row<T>& row, int gate, V x, V h, int j) {
    const T* v = row.vectors + j;
    const int wide = row.wide;
    const V from_x = fma(load(v + (gain_ih + gate) * wide), x, load(v + (b_ih + gate) * wide));
    return fma(load(v + (gain_hh + gate) * wide), h, load(v + (b_hh + gate) * wide)) + from_x;
  }

  static void forward(const Row<T>& row) {
    const int wide = row.wide;
    T *x = row.planes, *h = row.extra, *saved = h + 4 * wide, *c = row.now[1], *o = row.now[0];
    Moments<T> of[2], of_c[1];
    moments<T, 4>({{x, 1, wide}, {row.product, 4, W}}, row.units, row.inside, of);
    for (int j = 0; j < wide; j += W) {
      V gates[4];
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; ++gate) {
        const V x_hat = (load(x + gate * wide + j) - of[0].mean) * of[0].scale, h_hat = (load(row.product + 4 * j + gate * W) - of[1].mean) * of[1].scale;
        store(x + gate * wide + j, x_hat);
        store(h + gate * wide + j, h_hat);
        gates[gate] = sum(row, gate, x_hat, h_hat, j);
      }
      store(c + j, fma(sigmoid<T>(gates[1]), load(row.old[1] + j), sigmoid<T>(gates[0]) * hyperbolic_tangent<T>(gates[2])));
      store(o + j, sigmoid<T>(gates[3]));
    }
    moments<T, 1>({{c, 1, wide}}, row.units, row.inside, of_c);
    for (int j = 0; j < wide; j += W) {
      const V c_hat = (load(c + j) - of_c[0].mean) * of_c[0].scale;
      const V read = hyperbolic_tangent<T>(fma(load(row.vectors + gain_c * wide + j), c_hat, load(row.vectors + bias_c * wide + j)));
      store(row.now[0] + j, load(o + j) * read);
    }
    saved[x_scale] = of[0].scale[0], saved[h_scale] = of[1].scale[0], saved[c_mean] = of_c[0].mean[0], saved[c_scale] = of_c[0].scale[0];
  }

  static RECURRA_INLINE void add(T* to, V v) { store(to, load(to) + v); }
  static RECURRA_INLINE void add(T* to, V a, V b) { store(to, fma(a, b, load(to))); }

  static void backward(const Row<T>& row) {
    const int wide = row.wide, units = row.units;
    const T *x = row.planes, *h = row.extra, *saved = h + 4 * wide;
    T *d_x = row.d_planes, *d_h = d_x + 4 * wide;
    // The gates stand where their gradients will, and the normalized memory with its gradient where those of h's products will.
    T *gates = d_x, *c_hats = d_h, *d_c_hats = d_h + wide;
    NormalizationBackward<T> of_c, of_x, of_h;
    for (int j = 0; j < wide; j += W) {
      V gate[4];
#pragma GCC unroll 4
      for (int each = 0; each < 4; ++each) {
        const V s = sum(row, each, load(x + each * wide + j), load(h + each * wide + j), j);
        gate[each] = each == 2 ? hyperbolic_tangent<T>(s) : sigmoid<T>(s);
      }
      const V one = fill(T(1)), dh = load(row.d[0] + j), gain = load(row.vectors + gain_c * wide + j);
      const V c_hat = (fma(gate[1], load(row.old[1] + j), gate[0] * gate[2]) - saved[c_mean]) * saved[c_scale];
      const V read = hyperbolic_tangent<T>(fma(gain, c_hat, load(row.vectors + bias_c * wide + j)));
      const V d_read = dh * gate[3] * fma(-read, read, one), d_c_hat = d_read * gain;
      add(row.sums + d_gain_c * wide + j, d_read, c_hat);
      add(row.sums + d_bias_c * wide + j, d_read);
      of_c.add(d_c_hat, c_hat);
      store(c_hats + j, c_hat);
      store(d_c_hats + j, d_c_hat);
      for (int each = 0; each < 3; ++each) store(gates + each * wide + j, gate[each]);
      store(gates + 3 * wide + j, dh * read * (gate[3] * (one - gate[3])));
    }
    of_c.finish(saved[c_scale], units);
    for (int j = 0; j < wide; j += W) {
      const V i = load(gates + j), f = load(gates + wide + j), g = load(gates + 2 * wide + j), one = fill(T(1));
      const V dc = load(row.d[1] + j) + of_c.through(load(d_c_hats + j), load(c_hats + j), load(row.inside + j));
      const V d[4] = {dc * g * (i * (one - i)), dc * load(row.old[1] + j) * (f * (one - f)), dc * i * fma(-g, g, one), load(gates + 3 * wide + j)};
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; ++gate) {
        const int at = gate * wide + j;
        const V x_hat = load(x + at), h_hat = load(h + at);
        add(row.sums + d_gain_ih * wide + at, d[gate], x_hat);
        add(row.sums + d_gain_hh * wide + at, d[gate], h_hat);
        add(row.sums + d_b * wide + at, d[gate]);
        of_x.add(d[gate] * load(row.vectors + gain_ih * wide + at), x_hat);
        of_h.add(d[gate] * load(row.vectors + gain_hh * wide + at), h_hat);
        store(d_x + at, d[gate]);
      }
      store(row.d[1] + j, dc * f);
      store(row.d[0] + j, V{});
    }
    of_x.finish(saved[x_scale], 4 * units), of_h.finish(saved[h_scale], 4 * units);
    for (int j = 0; j < wide; j += W) {
      const V here = load(row.inside + j);
#pragma GCC unroll 4
      for (int gate = 0; gate < 4; ++gate) {
        const int at = gate * wide + j;
        const V d = load(d_x + at);
        store(d_x + at, of_x.through(d * load(row.vectors + gain_ih * wide + at), load(x + at), here));
        store(d_h + at, of_h.through(d * load(row.vectors + gain_hh * wide + at), load(h + at), here));
      }
    }
  }
};

}  // namespace RECURRA_ISA
