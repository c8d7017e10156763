// All operations for one instruction set; compiled once for each.
#include "../elman/cpu.h"
#include "../gru/cpu.h"
#include "../lstm/cpu.h"
#include "gradient.h"

namespace RECURRA_ISA {

using recurra::Operation;

// Calls f with the cell of an operation and type.
template <class F>
bool with_cell(Operation operation, bool double_precision, F&& f) {
  const auto typed = [&](auto zero) {
    using T = decltype(zero);
    switch (operation) {
      case Operation::elman_tanh: return f(zero, Elman<T, false>{});
      case Operation::elman_relu: return f(zero, Elman<T, true>{});
      case Operation::lstm: return f(zero, Lstm<T>{});
      case Operation::gru: return f(zero, Gru<T>{});
    }
    return false;
  };
  return double_precision ? typed(0.0) : typed(0.0f);
}

bool run_forward(Operation operation, bool double_precision, const Call& call) {
  return with_cell(operation, double_precision, [&](auto zero, auto cell) { return forward<decltype(zero), decltype(cell)>(call); });
}

bool run_backward(Operation operation, bool double_precision, const Call& call) {
  return with_cell(operation, double_precision, [&](auto zero, auto cell) { return backward<decltype(zero), decltype(cell)>(call); });
}

bool run_scan(bool backward, bool double_precision, const recurra::ScanCall& call);  // scans.cpp

extern const recurra::Kernels kernels;
const recurra::Kernels kernels = {vector_bytes, run_forward, run_backward, run_scan};

}  // namespace RECURRA_ISA
