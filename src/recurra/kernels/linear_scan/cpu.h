// Recurrences whose units read only themselves, h_t = step(gates_t, h_{t-1}) element by element, forward and backward;
// and the simplest of them, the linear scan h_t = a_t h_{t-1} + b_t. The others are in ../elementwise_scan/cpu.h.
//
// A unit is a struct of
//   gates           numbers read a step and element
//   activations     what is made of each of them first; the functions below are given what came out
//   parameters      numbers an element that all steps share
//   has_output      whether what is put out differs from the state
//   step(k, p, before) -> state
//   back(k, p, before, after, gradient of the state, dk, dp) -> gradient of the state before
//   put_out(k, state) -> output
//   put_out_back(k, state, gradient of the output, dk) -> gradient of the state
// where dk are gradients of the gates before activation.
//
// No element depends on another, so rows and columns may be divided over threads in any way without changing a bit.
#pragma once

#include "../cpu/denormals.h"
#include "../cpu/vector.h"
#include "call.h"

namespace RECURRA_ISA {

using recurra::ScanCall;

enum class Activation { none, sigmoid, tanh };

struct LinearUnit {
  static constexpr int gates = 2, parameters = 0;
  static constexpr Activation activations[gates] = {Activation::none, Activation::none};
  static constexpr bool has_output = false;

  template <class T>
  static RECURRA_INLINE Vector<T> step(const Vector<T>* k, const Vector<T>*, Vector<T> before) {
    return fma(k[0], before, k[1]);
  }

  template <class T>
  static RECURRA_INLINE Vector<T> back(const Vector<T>* k, const Vector<T>*, Vector<T> before, Vector<T>, Vector<T> grad,
                                       Vector<T>* dk, Vector<T>*) {
    dk[0] = grad * before;
    dk[1] = grad;
    return grad * k[0];
  }
};

// Where the gates of one row stand, from some step on in the order of reading.
template <class T, int N>
struct Gates {
  T* data[N];
  ptrdiff_t step[N];
};

// Steps that the way back asks for ahead of reading them: the processor does not foresee an order against that of memory.
constexpr int64_t asked_ahead = 4;

// Some columns of one row. Steps are counted in the order of reading, n; `time` says where they stand.
template <class Unit, class T>
struct ScanTask {
  static constexpr int W = width<T>;
  using RowGates = Gates<T, Unit::gates>;

  const ScanCall& call;
  int64_t row, first, end, length;
  T* sums;         // (2, K, H) of this row: the parameters' gradients of the latest steps, and of all before
  bool own_begin;  // whether resets begin with something else than zeros

  ScanTask(const ScanCall& call, int64_t row, int64_t first, int64_t end, T* sums = nullptr)
      : call(call), row(row), first(first), end(end), length(real_steps(call, row)), sums(sums), own_begin(call.begin) {}

  static int64_t real_steps(const ScanCall& call, int64_t row) {
    const int64_t length = call.lengths ? call.lengths[row] : call.steps;
    return length < 0 ? 0 : length > call.steps ? call.steps : length;
  }

  int64_t time(int64_t n) const { return call.reverse ? length - 1 - n : n; }
  bool begins(int64_t n) const { return call.resets && call.resets[row * call.steps + time(n)]; }
  T* of_row(const void* p) const { return static_cast<T*>(const_cast<void*>(p)) + row * call.columns; }
  T* of_step(const void* p, int64_t n) const { return at_time(p, time(n)); }
  T* at_time(const void* p, int64_t t) const {
    return static_cast<T*>(const_cast<void*>(p)) + (row * call.steps + t) * call.columns;
  }

  // What the n-th step starts from; null for zeros.
  const T* before(int64_t n) const {
    if (begins(n)) return own_begin ? of_row(call.begin) : nullptr;
    return n ? of_step(call.states, n - 1) : of_row(call.state);
  }

  // Calls f(column, numbers) vector by vector; the number of numbers is a constant in all but the last.
  template <class F>
  RECURRA_INLINE void for_vectors(F&& f) const {
    int64_t j = first;
    for (; j + W <= end; j += W) f(j, W);
    if (j < end) f(j, static_cast<int>(end - j));
  }

  void copy(T* to, const T* from) const { std::memcpy(to + first, from + first, sizeof(T) * (end - first)); }
  void clear(T* to) const { std::memset(to + first, 0, sizeof(T) * (end - first)); }
  void add(T* to, const T* from) const {
    for_vectors([&](int64_t j, int count) { store(to + j, load(to + j, count) + load(from + j, count), count); });
  }

  // A gate, activated, and left so for the way back where gates are kept.
  RECURRA_INLINE Vector<T> activate(Activation activation, T* gate, int count) const {
    const Vector<T> x = load(gate, count);
    if (activation == Activation::none) return x;
    const Vector<T> y = activation == Activation::sigmoid ? sigmoid<T>(x) : hyperbolic_tangent<T>(x);
    if (call.kept) store(gate, y, count);
    return y;
  }

  // Steps n0 to n1, whose gates begin at `gates`.
  void forward(int64_t n0, int64_t n1, const RowGates& gates) const {
    const T* parameters = static_cast<const T*>(call.parameters);
    for (int64_t n = n0; n < n1; ++n) {
      const T* old = before(n);
      T* to = of_step(call.states, n);
      T* output = Unit::has_output ? of_step(call.output, n) : nullptr;
      for_vectors([&](int64_t j, int count) {
        Vector<T> k[Unit::gates], p[Unit::parameters + 1];
#pragma GCC unroll 4
        for (int g = 0; g < Unit::gates; ++g) k[g] = activate(Unit::activations[g], gates.data[g] + (n - n0) * gates.step[g] + j, count);
        for (int i = 0; i < Unit::parameters; ++i) p[i] = load(parameters + i * call.columns + j, count);
        const Vector<T> state = Unit::template step<T>(k, p, old ? load(old + j, count) : Vector<T>{});
        store(to + j, state, count);
        if constexpr (Unit::has_output) store(output + j, Unit::template put_out<T>(k, state), count);
      });
    }
  }

  // After the last step: the state there, zeros in the padding.
  void finish() const {
    copy(of_row(call.last), length ? of_step(call.states, length - 1) : of_row(call.state));
    for (int64_t t = length; t < call.steps; ++t) {
      clear(at_time(call.states, t));
      if constexpr (Unit::has_output) clear(at_time(call.output, t));
    }
  }

  // Before the first call of `backward`. The gradient of the state goes from step to step in `grad_state`.
  void begin_backward() const {
    copy(of_row(call.grad_state), of_row(call.grad_last));
    if (call.grad_begin) clear(of_row(call.grad_begin));
    for (int i = 0; i < 2 * Unit::parameters; ++i) clear(sums + i * call.columns);
  }

  // Steps n1 - 1 down to n0. The gradients may stand where the gates stand; those with a null pointer are not wanted.
  void backward(int64_t n0, int64_t n1, const RowGates& gates, const RowGates& grads) const {
    T* carry = of_row(call.grad_state);
    for (int64_t n = n1 - 1; n >= n0; --n) {
      step_back(n, n - n0, gates, grads, carry);
      if (begins(n)) {
        if (call.grad_begin) add(of_row(call.grad_begin), carry);
        clear(carry);
      }
    }
    // Short chains keep the rounding error of long sums small.
    for (int i = 0; i < Unit::parameters; ++i) {
      add(sums + (Unit::parameters + i) * call.columns, sums + i * call.columns);
      clear(sums + i * call.columns);
    }
  }

  void step_back(int64_t n, int64_t place, const RowGates& gates, const RowGates& grads, T* carry) const {
    const T *parameters = static_cast<const T*>(call.parameters), *old = before(n);
    const T *states = of_step(call.states, n), *grad_output = of_step(call.grad_output, n);
    const ptrdiff_t ahead = (call.reverse ? -asked_ahead : asked_ahead) * call.columns;
    for_vectors([&](int64_t j, int count) {
      for (int g = 0; g < Unit::gates; ++g) __builtin_prefetch(gates.data[g] + (place - asked_ahead) * gates.step[g] + j);
      for (int g = 0; g < Unit::gates; ++g) __builtin_prefetch(grads.data[g] + (place - asked_ahead) * grads.step[g] + j, 1);
      __builtin_prefetch(states + j - ahead);
      __builtin_prefetch(grad_output + j - ahead);
      Vector<T> k[Unit::gates], dk[Unit::gates], p[Unit::parameters + 1], dp[Unit::parameters + 1];
      for (int g = 0; g < Unit::gates; ++g) k[g] = load(gates.data[g] + place * gates.step[g] + j, count);
      for (int i = 0; i < Unit::parameters; ++i) p[i] = load(parameters + i * call.columns + j, count);
      const Vector<T> after = load(states + j, count);
      Vector<T> grad = load(grad_output + j, count);
      if constexpr (Unit::has_output) grad = Unit::template put_out_back<T>(k, after, grad, dk);
      grad += load(carry + j, count);
      const Vector<T> from = old ? load(old + j, count) : Vector<T>{};
      store(carry + j, Unit::template back<T>(k, p, from, after, grad, dk, dp), count);
      for (int g = 0; g < Unit::gates; ++g)
        if (grads.data[g]) store(grads.data[g] + place * grads.step[g] + j, dk[g], count);
      for (int i = 0; i < Unit::parameters; ++i) {
        T* sum = sums + i * call.columns + j;
        store(sum, load(sum, count) + dp[i], count);
      }
    });
  }
};

// Columns cut into blocks, several only where there are fewer rows than threads could use.
template <class T>
struct Blocks {
  int64_t count, size;

  explicit Blocks(const ScanCall& call) {
    constexpr int64_t least = 4 * width<T>;  // columns worth a task; blocks are multiples of it
    const int64_t most = (call.columns + least - 1) / least;
    const int64_t wanted = call.threads > 1 ? (4 * call.threads + call.rows - 1) / call.rows : 1;
    const int64_t each = (most + wanted - 1) / wanted;
    count = (most + each - 1) / each;
    size = each * least;
  }

  int64_t begin(int64_t block) const { return block * size; }
  int64_t end(int64_t block, const ScanCall& call) const {
    return (block + 1) * size < call.columns ? (block + 1) * size : call.columns;
  }
};

// The linear scan over gates that are given.
template <class T>
void linear_scan(bool backward, const ScanCall& call) {
  using Task = ScanTask<LinearUnit, T>;
  const Blocks<T> blocks(call);
  const int threads = static_cast<int>(call.threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
  for (int64_t i = 0; i < call.rows * blocks.count; ++i) {
    const recurra::DenormalsAreZero mode;
    const int64_t row = i / blocks.count, block = i % blocks.count;
    const Task task(call, row, blocks.begin(block), blocks.end(block, call));
    const int64_t start = task.length ? task.time(0) : 0;
    typename Task::RowGates gates, grads;
    for (int g = 0; g < 2; ++g) {
      gates.data[g] = static_cast<T*>(const_cast<void*>(call.gates[g])) + row * call.gate_row[g] + start * call.gate_step[g];
      gates.step[g] = call.reverse ? -call.gate_step[g] : call.gate_step[g];
      grads.data[g] = backward ? task.at_time(call.grad_gates[g], start) : nullptr;
      grads.step[g] = call.reverse ? -call.columns : call.columns;
    }
    if (!backward) {
      task.forward(0, task.length, gates);
      task.finish();
    } else {
      task.begin_backward();
      task.backward(0, task.length, gates, grads);
      for (int64_t t = task.length; t < call.steps; ++t)
        for (int g = 0; g < 2; ++g) task.clear(task.at_time(call.grad_gates[g], t));
    }
  }
}

}  // namespace RECURRA_ISA
