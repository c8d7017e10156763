// One step of the LSTM with a projected hidden state, forward and backward, on a row. Equations: projected_lstm/operator.py.
#pragma once

#include "../cpu/row_recurrence.h"
#include "../lstm/cpu.h"

namespace RECURRA_ISA {

template <class T>
struct ProjectedLstm {
  using V = Vector<T>;
  static constexpr int W = width<T>;
  static constexpr Form form{4, 2, 4, Second::projection, false, false, false, 0, 0, 0, 0, {}};

  static void forward(const Row<T>& row) {
    for (int j = 0; j < row.wide; j += W) {
      V h, c;
      Lstm<T>::template forward<true>(row.product + 4 * j, row.planes + j, row.wide, nullptr, V{}, load(row.old[1] + j), h, c);
      store(row.now[1] + j, c);
      store(row.between + j, h);
    }
  }

  static void forward_end(const Row<T>& row) { std::memcpy(row.now[0], row.second, sizeof(T) * row.out_wide); }

  static void backward_begin(const Row<T>& row) {
    std::memcpy(row.d_planes + 4 * row.wide, row.d[0], sizeof(T) * row.out_wide);
    std::memset(row.d[0], 0, sizeof(T) * row.out_wide);
  }

  static void backward(const Row<T>& row) {
    for (int j = 0; j < row.wide; j += W) {
      const V c = load(row.old[1] + j), c_new = Lstm<T>::cells(row.planes + j, row.wide, c);
      V dc, none;
      Lstm<T>::backward(load(row.d_between + j), load(row.d[1] + j), V{}, c, c_new, row.planes + j, row.wide, row.d_planes + j, dc, none);
      store(row.d[1] + j, dc);
    }
  }
};

}  // namespace RECURRA_ISA
