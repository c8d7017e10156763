// All operations for one instruction set; compiled once for each.
#include "../elman/cpu.h"
#include "../gru/cpu.h"
#include "../lstm/cpu.h"
#include "gradient.h"
#include "stepper.h"

namespace RECURRA_ISA {

using recurra::Operation;

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

size_t packed_step_bytes(Operation operation, bool double_precision, int features, int hidden) {
  return with_cell(operation, double_precision, [&](auto zero, auto cell) {
    const StepSizes<decltype(zero), decltype(cell)> size(features, hidden);
    return static_cast<size_t>(size.panels) * size.panel_size() * sizeof(zero);
  });
}

void pack_step_weights(Operation operation, bool double_precision, int features, int hidden, const recurra::StepWeights& weights, void* to) {
  with_cell(operation, double_precision, [&](auto zero, auto cell) {
    pack_step(StepSizes<decltype(zero), decltype(cell)>(features, hidden), weights, to);
  });
}

size_t folded_bytes(Operation operation, bool double_precision, int hidden, int count) {
  return with_cell(operation, double_precision, [&](auto zero, auto cell) {
    return static_cast<size_t>(count) * StepSizes<decltype(zero), decltype(cell)>(0, hidden).planes_wide() * sizeof(zero);
  });
}

void fold(bool double_precision, const recurra::StepLayer& layer, const void* vectors, int count, void* to) {
  with_cell(layer.operation, double_precision, [&](auto zero, auto cell) {
    using T = decltype(zero);
    fold_vectors<T, decltype(cell)>(layer, static_cast<const T*>(vectors), count, static_cast<T*>(to));
  });
}

// Calls f with a zero of the type, and with what finds a layer's cell.
template <class F>
auto with_step_type(bool double_precision, F&& f) {
  if (double_precision) return f(0.0, [](Operation operation, auto&& each) { with_cell_of<double>(operation, each); });
  return f(0.0f, [](Operation operation, auto&& each) { with_cell_of<float>(operation, each); });
}

size_t step_scratch_bytes(bool double_precision, const recurra::StepCall& call) {
  return with_step_type(double_precision, [&](auto zero, auto with) { return step_scratch<decltype(zero)>(call, with).numbers() * sizeof(zero); });
}

void run_step(bool double_precision, recurra::StepCall& call) {
  with_step_type(double_precision, [&](auto zero, auto with) { run_steps<decltype(zero)>(call, with); });
}

void read_step_weights(bool double_precision, recurra::StepCall& call) {
  with_step_type(double_precision, [&](auto zero, auto with) { read_weights<decltype(zero)>(call, with); });
}

bool run_scan(bool backward, bool double_precision, const recurra::ScanCall& call);  // scans.cpp

const recurra::StepKernels step_kernels = {packed_step_bytes, pack_step_weights, folded_bytes, fold, step_scratch_bytes, run_step, read_step_weights};

extern const recurra::Kernels kernels;
const recurra::Kernels kernels = {vector_bytes, run_forward, run_backward, run_scan, &step_kernels};

}  // namespace RECURRA_ISA
