// One step of the sLSTM, forward and backward, on a row. Equations: slstm/operator.py and slstm/reference.py.
#pragma once

#include "../cpu/row_recurrence.h"

namespace RECURRA_ISA {

// log(1 + y) for y from 0 to 1: twice the area tangent of y / (2 + y), which is a third at most.
template <class T>
RECURRA_INLINE Vector<T> log_one_plus(Vector<T> y) {
  const Vector<T> s = y / (y + T(2)), square = s * s;
  constexpr int terms = sizeof(T) == sizeof(float) ? 8 : 17;  // the next is under 3^(-2 terms) / (2 terms) of the first
  Vector<T> sum = fill(T(1) / T(2 * terms - 1));
#pragma GCC unroll 17
  for (int n = terms - 1; n > 0; --n) sum = fma(sum, square, fill(T(1) / T(2 * n - 1)));
  return (s + s) * sum;
}

template <class T>
struct Slstm {
  using V = Vector<T>;
  static constexpr int W = width<T>;
  static constexpr Form form{4, 4, 4, Second::none, false, false, true, 0, 0, 0, 0, {}};
  // Planes saved: i and f before their functions, g and o behind them.

  struct Memory {
    V c, n, m;
  };

  static RECURRA_INLINE V absolute(V x) { return x < V{} ? -x : x; }
  static RECURRA_INLINE V log_sigmoid(V f) { return (f < V{} ? f : V{}) - log_one_plus<T>(exponential<T>(-absolute(f))); }

  // Both at one scale, and the factors that bring them there. An empty memory (n = 0) has no scale of its own.
  struct Scales {
    V a, m, from_a, from_b;
    RECURRA_INLINE Scales(const Memory& first, const Memory& second) {
      a = first.n > V{} ? first.m : second.m;
      m = a > second.m ? a : second.m;
      from_a = exponential<T>(a - m), from_b = exponential<T>(second.m - m);
    }
  };

  static RECURRA_INLINE Memory add(const Memory& a, const Memory& b) {
    const Scales s(a, b);
    return {fma(s.from_a, a.c, s.from_b * b.c), fma(s.from_a, a.n, s.from_b * b.n), s.m};
  }

  // From the gradient of a sum to those of its parts. Where both have one scale, its gradient is divided between them.
  static RECURRA_INLINE void add_backward(const Memory& d, const Memory& a, const Memory& b, Memory& d_a, Memory& d_b) {
    const Scales s(a, b);
    const V zero{}, one = fill(T(1));
    const V through_a = fma(d.c, a.c, d.n * a.n) * s.from_a, through_b = fma(d.c, b.c, d.n * b.n) * s.from_b;
    const V rest = d.m - through_a - through_b;
    const V share = s.a > b.m ? one : (s.a == b.m ? fill(T(0.5)) : zero);
    const V of_a = fma(share, rest, through_a), of_b = fma(one - share, rest, through_b);
    d_a = {d.c * s.from_a, d.n * s.from_a, a.n > zero ? of_a : zero};
    d_b = {d.c * s.from_b, d.n * s.from_b, a.n > zero ? of_b : of_a + of_b};
  }

  static RECURRA_INLINE Memory before(const Row<T>& row, int j) { return {load(row.old[1] + j), load(row.old[2] + j), load(row.old[3] + j)}; }

  // Logarithms of the share of the memory that zoneout's expectation keeps, and of the rest.
  struct Shares {
    T kept, let_in;
    explicit Shares(T rate) : kept(static_cast<T>(__builtin_log(rate))), let_in(static_cast<T>(__builtin_log1p(-rate))) {}
  };

  static void forward(const Row<T>& row) {
    const int wide = row.wide;
    const Shares shares(row.rate != 0 ? row.rate : T(0.5));
    for (int j = 0; j < wide; j += W) {
      T* p = row.planes + j;
      const T* product = row.product + 4 * j;
      const V i = load(p) + load(product), f = load(p + wide) + load(product + W);
      const V g = hyperbolic_tangent<T>(load(p + 2 * wide) + load(product + 2 * W)), o = sigmoid<T>(load(p + 3 * wide) + load(product + 3 * W));
      const Memory old = before(row, j);
      Memory now = add({old.c, old.n, old.m + log_sigmoid(f)}, {g, fill(T(1)), i});
      store(row.now[0] + j, o * now.c / now.n);
      if (row.rate != 0) now = add({old.c, old.n, old.m + shares.kept}, {now.c, now.n, now.m + shares.let_in});
      store(row.now[1] + j, now.c);
      store(row.now[2] + j, now.n);
      store(row.now[3] + j, now.m);
      store(p, i);
      store(p + wide, f);
      store(p + 2 * wide, g);
      store(p + 3 * wide, o);
    }
  }

  static void backward(const Row<T>& row) {
    const int wide = row.wide;
    const Shares shares(row.rate != 0 ? row.rate : T(0.5));
    for (int j = 0; j < wide; j += W) {
      const T* p = row.planes + j;
      T* d = row.d_planes + j;
      const V i = load(p), f = load(p + wide), g = load(p + 2 * wide), o = load(p + 3 * wide), one = fill(T(1)), dh = load(row.d[0] + j);
      const Memory old = before(row, j), faded{old.c, old.n, old.m + log_sigmoid(f)}, let_in{g, one, i};
      const Memory now = add(faded, let_in);
      Memory d_now{load(row.d[1] + j), load(row.d[2] + j), load(row.d[3] + j)}, d_kept{}, d_faded, d_let_in;
      if (row.rate != 0) {
        const Memory d_mixed = d_now;
        add_backward(d_mixed, {old.c, old.n, old.m + shares.kept}, {now.c, now.n, now.m + shares.let_in}, d_kept, d_now);
      }
      const V ratio = now.c / now.n, d_c = dh * o / now.n;
      d_now.c = d_now.c + d_c;
      d_now.n = fma(-d_c, ratio, d_now.n);
      add_backward(d_now, faded, let_in, d_faded, d_let_in);
      store(d, d_let_in.m);
      store(d + wide, d_faded.m * sigmoid<T>(-f));
      store(d + 2 * wide, d_let_in.c * fma(-g, g, one));
      store(d + 3 * wide, dh * ratio * (o * (one - o)));
      store(row.d[0] + j, V{});
      store(row.d[1] + j, d_faded.c + d_kept.c);
      store(row.d[2] + j, d_faded.n + d_kept.n);
      store(row.d[3] + j, d_faded.m + d_kept.m);
    }
  }
};

}  // namespace RECURRA_ISA
