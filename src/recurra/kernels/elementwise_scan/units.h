// Units of elementwise scans with everything between the input product and the output: gates, state, output.
//
// Equations are those of units.py. `keeps_gates` says whether the way back reads the gates.
#pragma once

#include "../linear_scan/cpu.h"

namespace RECURRA_ISA {

template <class T>
RECURRA_INLINE Vector<T> square_root(Vector<T> x) {
  for (int lane = 0; lane < width<T>; ++lane) {
    if constexpr (sizeof(T) == sizeof(float))
      x[lane] = __builtin_sqrtf(x[lane]);
    else
      x[lane] = __builtin_sqrt(x[lane]);
  }
  return x;
}

// g(x): x + 1/2 from zero on, sigmoid(x) below; and its slope.
template <class T>
struct Positive {
  Vector<T> value, slope;

  explicit RECURRA_INLINE Positive(Vector<T> x) {
    const Vector<T> s = sigmoid<T>(x);
    value = x >= Vector<T>{} ? x + T(0.5) : s;
    slope = x >= Vector<T>{} ? fill(T(1)) : s * (T(1) - s);
  }
};

// Gates: update, candidate.
struct MinGRUUnit {
  static constexpr int gates = 2, parameters = 0;
  static constexpr Activation activations[gates] = {Activation::sigmoid, Activation::none};
  static constexpr bool keeps_gates = true, has_output = false;

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>*, Vector<T> before) {
    return fma(k[0], Positive<T>(k[1]).value - before, before);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>* k, const Vector<T>*, Vector<T> before, Vector<T>, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>*) {
    const Vector<T> update = k[0], kept = T(1) - update;
    const Positive<T> candidate(k[1]);
    dk[0] = grad * (candidate.value - before) * update * kept;
    dk[1] = grad * update * candidate.slope;
    return grad * kept;
  }
};

// c = f c + (1 - f) z, and the gradients of what f and z came from, given their slopes.
template <class T>
RECURRA_INLINE Vector<T> blend(Vector<T> forget, Vector<T> before, Vector<T> candidate) {
  return fma(forget, before, (T(1) - forget) * candidate);
}

// Gates: forget, input, candidate.
struct MinLSTMUnit {
  static constexpr int gates = 3, parameters = 0;
  static constexpr Activation activations[gates] = {Activation::sigmoid, Activation::sigmoid, Activation::none};
  static constexpr bool keeps_gates = true, has_output = false;

  // f / (f + i).
  template <class T>
  static RECURRA_INLINE Vector<T> share(const Vector<T>* k) {
    return k[0] * reciprocal(k[0] + k[1]);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>*, Vector<T> before) {
    return blend<T>(share<T>(k), before, Positive<T>(k[2]).value);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>* k, const Vector<T>*, Vector<T> before, Vector<T>, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>*) {
    const Vector<T> forget = share<T>(k), let_in = T(1) - forget;
    const Positive<T> candidate(k[2]);
    const Vector<T> common = grad * (before - candidate.value) * forget * let_in;
    dk[0] = common * (T(1) - k[0]);
    dk[1] = -common * (T(1) - k[1]);
    dk[2] = grad * let_in * candidate.slope;
    return grad * forget;
  }
};

// Gates: candidate, forget, reset, highway. The state is c.
struct SRUUnit {
  static constexpr int gates = 4, parameters = 0;
  static constexpr Activation activations[gates] = {Activation::none, Activation::sigmoid, Activation::sigmoid, Activation::none};
  static constexpr bool keeps_gates = true, has_output = true;

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>*, Vector<T> before) {
    return blend<T>(k[1], before, k[0]);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> put_out(const Vector<T>* k, Vector<T> state) {
    return fma(k[2], hyperbolic_tangent<T>(state) - k[3], k[3]);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> put_out_back(const Vector<T>* k, Vector<T> state, Vector<T> grad, Vector<T>* dk) {
    const Vector<T> reset = k[2], highway = T(1) - reset, read = hyperbolic_tangent<T>(state);
    dk[2] = grad * (read - k[3]) * reset * highway;
    dk[3] = grad * highway;
    return grad * reset * (T(1) - read * read);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>* k, const Vector<T>*, Vector<T> before, Vector<T>, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>*) {
    const Vector<T> forget = k[1], let_in = T(1) - forget;
    dk[0] = grad * let_in;
    dk[1] = grad * (before - k[0]) * forget * let_in;
    return grad * forget;
  }
};

// Gates: candidate, forget, output. The state is c.
struct QRNNUnit {
  static constexpr int gates = 3, parameters = 0;
  static constexpr Activation activations[gates] = {Activation::tanh, Activation::sigmoid, Activation::sigmoid};
  static constexpr bool keeps_gates = true, has_output = true;

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>*, Vector<T> before) {
    return blend<T>(k[1], before, k[0]);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> put_out(const Vector<T>* k, Vector<T> state) {
    return k[2] * state;
  }

  template <class T>
  static RECURRA_INLINE Vector<T> put_out_back(const Vector<T>* k, Vector<T> state, Vector<T> grad, Vector<T>* dk) {
    dk[2] = grad * state * k[2] * (T(1) - k[2]);
    return grad * k[2];
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>* k, const Vector<T>*, Vector<T> before, Vector<T>, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>*) {
    const Vector<T> candidate = k[0], forget = k[1], let_in = T(1) - forget;
    dk[0] = grad * let_in * (T(1) - candidate * candidate);
    dk[1] = grad * (before - candidate) * forget * let_in;
    return grad * forget;
  }
};

// Gates: recurrence, input, candidate. Parameter: the logarithm of a where the recurrence gate is open.
struct RGLRUUnit {
  static constexpr int gates = 3, parameters = 1;
  static constexpr Activation activations[gates] = {Activation::sigmoid, Activation::sigmoid, Activation::none};
  static constexpr bool keeps_gates = true, has_output = false;

  template <class T>
  struct Decay {
    Vector<T> a, fed, slope;  // a, sqrt(1 - a^2), and the latter's derivative by log a

    explicit RECURRA_INLINE Decay(Vector<T> log_a) {
      a = exponential<T>(log_a);
      const Parts<T> e = exponential_parts<T>(clamp(log_a + log_a, Exponent<T>::limit), T(1));
      const Vector<T> least = fill(sizeof(T) == sizeof(float) ? T(1.17549435e-38) : T(2.2250738585072014e-308));
      const Vector<T> rest = -fma(e.scale, e.fraction, e.scale - T(1));
      fed = square_root<T>(rest >= least ? rest : least);
      slope = rest >= least ? -(a * a) / fed : Vector<T>{};
    }
  };

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>* p, Vector<T> before) {
    const Decay<T> decay(p[0] * k[0]);
    return fma(decay.a, before, decay.fed * (k[1] * k[2]));
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>* k, const Vector<T>* p, Vector<T> before, Vector<T>, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>* dp) {
    const Vector<T> recurrence = k[0], input = k[1];
    const Decay<T> decay(p[0] * recurrence);
    const Vector<T> by_log = grad * fma(before, decay.a, input * k[2] * decay.slope);
    dp[0] = by_log * recurrence;
    dk[0] = dp[0] * p[0] * (T(1) - recurrence);
    const Vector<T> into = grad * decay.fed * input;
    dk[1] = into * k[2] * (T(1) - input);
    dk[2] = into;
    return grad * decay.a;
  }
};

// Gate: the input's product. Parameter: the recurrent weights.
template <bool Relu>
struct IndRNNUnit {
  static constexpr int gates = 1, parameters = 1;
  static constexpr Activation activations[gates] = {Activation::none};
  static constexpr bool keeps_gates = false, has_output = false;

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>* p, Vector<T> before) {
    const Vector<T> sum = fma(p[0], before, k[0]);
    // Written so that NaN stays NaN.
    return Relu ? (sum < Vector<T>{} ? Vector<T>{} : sum) : hyperbolic_tangent<T>(sum);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>*, const Vector<T>* p, Vector<T> before, Vector<T> after, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>* dp) {
    dk[0] = Relu ? (after > Vector<T>{} ? grad : Vector<T>{}) : grad * (T(1) - after * after);
    dp[0] = dk[0] * before;
    return dk[0] * p[0];
  }
};

}  // namespace RECURRA_ISA
