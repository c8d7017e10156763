// All operations for one instruction set; compiled once for each.
#include "../elman/cpu.h"
#include "../gru/cpu.h"
#include "../lstm/cpu.h"
#include "gradient.h"
#include "stepper.h"

namespace RECURRA_ISA {

using recurra::Operation;
using recurra::StepNumbers;

// Calls f with the cell of an operation.
template <class T, class F>
auto with_cell_of(Operation operation, F&& f) {
  switch (operation) {
    case Operation::elman_relu: return f(Elman<T, true>{});
    case Operation::lstm: return f(Lstm<T>{});
    case Operation::gru: return f(Gru<T>{});
    default: return f(Elman<T, false>{});
  }
}

// Calls f with a zero of the type and the cell of an operation.
template <class F>
auto with_cell(Operation operation, bool double_precision, F&& f) {
  if (double_precision) return with_cell_of<double>(operation, [&](auto cell) { return f(0.0, cell); });
  return with_cell_of<float>(operation, [&](auto cell) { return f(0.0f, cell); });
}

bool run_rows(Operation operation, bool backward, bool double_precision, const Call& call);  // rows.cpp

bool run_forward(Operation operation, bool double_precision, const Call& call) {
  if (operation >= Operation::layernorm_lstm) return run_rows(operation, false, double_precision, call);
  return with_cell(operation, double_precision, [&](auto zero, auto cell) { return forward<decltype(zero), decltype(cell)>(call); });
}

bool run_backward(Operation operation, bool double_precision, const Call& call) {
  if (operation >= Operation::layernorm_lstm) return run_rows(operation, true, double_precision, call);
  return with_cell(operation, double_precision, [&](auto zero, auto cell) { return backward<decltype(zero), decltype(cell)>(call); });
}

// Calls f with zeros of the types of a step's numbers and of its stored weights, and with what finds a layer's cell.
template <class F>
auto with_step_types(StepNumbers numbers, F&& f) {
  const auto with_float = [](Operation operation, auto&& each) { return with_cell_of<float>(operation, each); };
  switch (numbers) {
    case StepNumbers::float64: return f(0.0, 0.0, [](Operation operation, auto&& each) { return with_cell_of<double>(operation, each); });
    case StepNumbers::float32_of_half: return f(0.0f, Half{}, with_float);
    default: return f(0.0f, 0.0f, with_float);
  }
}

// Calls f with a layer's sizes.
template <class F>
auto with_step_sizes(Operation operation, StepNumbers numbers, int features, int hidden, F&& f) {
  return with_step_types(numbers, [&](auto zero, auto stored, auto with) {
    return with(operation, [&](auto cell) { return f(StepSizes<decltype(zero), decltype(cell), decltype(stored)>(features, hidden)); });
  });
}

size_t packed_step_bytes(Operation operation, StepNumbers numbers, int features, int hidden) {
  return with_step_sizes(operation, numbers, features, hidden,
                         [](auto size) { return static_cast<size_t>(size.panels) * static_cast<size_t>(size.panel_bytes()); });
}

void pack_step_weights(Operation operation, StepNumbers numbers, int features, int hidden, const recurra::StepWeights& weights, void* to) {
  with_step_sizes(operation, numbers, features, hidden, [&](auto size) { pack_step(size, weights, to); });
}

size_t folded_bytes(Operation operation, StepNumbers numbers, int hidden, int count) {
  const size_t wide = with_step_sizes(operation, numbers, 0, hidden, [](auto size) { return static_cast<size_t>(size.planes_wide()); });
  return static_cast<size_t>(count) * wide * (numbers == StepNumbers::float64 ? sizeof(double) : sizeof(float));
}

void fold(StepNumbers numbers, const recurra::StepLayer& layer, const void* vectors, int count, void* to) {
  with_step_types(numbers, [&](auto zero, auto stored, auto with) {
    using T = decltype(zero);
    with(layer.operation, [&](auto cell) {
      fold_vectors<T, decltype(cell), decltype(stored)>(layer, static_cast<const T*>(vectors), count, static_cast<T*>(to));
    });
  });
}

size_t step_scratch_bytes(StepNumbers numbers, const recurra::StepCall& call) {
  return with_step_types(numbers, [&](auto zero, auto, auto with) { return step_scratch<decltype(zero)>(call, with).numbers() * sizeof(zero); });
}

void run_step(StepNumbers numbers, recurra::StepCall& call) {
  with_step_types(numbers, [&](auto zero, auto stored, auto with) { run_steps<decltype(zero), decltype(stored)>(call, with); });
}

void read_step_weights(StepNumbers numbers, recurra::StepCall& call) {
  with_step_types(numbers, [&](auto zero, auto stored, auto with) { read_weights<decltype(zero), decltype(stored)>(call, with); });
}

bool run_scan(bool backward, bool double_precision, const recurra::ScanCall& call);  // scans.cpp

const recurra::StepKernels step_kernels = {packed_step_bytes, pack_step_weights, folded_bytes, fold, step_scratch_bytes, run_step, read_step_weights};

extern const recurra::Kernels kernels;
const recurra::Kernels kernels = {vector_bytes, run_forward, run_backward, run_scan, &step_kernels};

}  // namespace RECURRA_ISA
