// One step of the GRU with its reset gate before the product, forward and backward, on a row.
// Equations: gru_reset_before/operator.py.
#pragma once

#include "../cpu/row_recurrence.h"

namespace RECURRA_ISA {

template <class T>
struct GruResetBefore {
  using V = Vector<T>;
  static constexpr int W = width<T>;
  static constexpr Form form{3, 1, 2, Second::new_values, false, true, false, 0, 0, 0, 0, {}};

  // r and z, and what the new values' product reads.
  static void forward(const Row<T>& row) {
    T *r = row.planes, *z = r + row.wide;
    for (int j = 0; j < row.wide; j += W) {
      const V reset = sigmoid<T>(load(r + j) + load(row.product + 2 * j));
      store(z + j, sigmoid<T>(load(z + j) + load(row.product + 2 * j + W)));
      store(r + j, reset);
      store(row.between + j, reset * load(row.read + j));
    }
  }

  static void forward_end(const Row<T>& row) {
    T *z = row.planes + row.wide, *n = z + row.wide;
    for (int j = 0; j < row.wide; j += W) {
      const V made = hyperbolic_tangent<T>(load(n + j) + load(row.second + j));
      store(n + j, made);
      store(row.now[0] + j, fma(load(z + j), load(row.old[0] + j) - made, made));
    }
  }

  // To the new values and z.
  static void backward_begin(const Row<T>& row) {
    const T *zs = row.planes + row.wide, *ns = zs + row.wide;
    T *dz = row.d_planes + row.wide, *dn = dz + row.wide;
    for (int j = 0; j < row.wide; j += W) {
      const V z = load(zs + j), n = load(ns + j), dh = load(row.d[0] + j), one = fill(T(1));
      store(dn + j, dh * (one - z) * fma(-n, n, one));
      store(dz + j, dh * (load(row.old[0] + j) - n) * (z * (one - z)));
      store(row.d[0] + j, dh * z);
    }
  }

  static void backward(const Row<T>& row) {
    for (int j = 0; j < row.wide; j += W) {
      const V r = load(row.planes + j), d = load(row.d_between + j);
      store(row.d_planes + j, d * load(row.read + j) * (r * (fill(T(1)) - r)));
      store(row.d_read + j, d * r);
    }
  }
};

}  // namespace RECURRA_ISA
