// The operations of row_recurrence.h for one instruction set; compiled once for each, beside kernels.cpp.
#include "../gru_reset_before/cpu.h"
#include "../layernorm_gru/cpu.h"
#include "../layernorm_lstm/cpu.h"
#include "../peephole_lstm/cpu.h"
#include "../projected_lstm/cpu.h"
#include "../slstm/cpu.h"
#include "row_forward.h"
#include "row_gradient.h"

namespace RECURRA_ISA {

using recurra::Operation;

template <class T>
bool run(Operation operation, bool backward, const Call& call) {
  const auto with = [&](const Equations<T>& equations) { return backward ? row_backward(equations, call) : row_forward(equations, call); };
  const auto one = [&](auto cell) {
    using Cell = decltype(cell);
    return with({Cell::form, Cell::forward, nullptr, nullptr, Cell::backward});
  };
  const auto two = [&](auto cell) {
    using Cell = decltype(cell);
    return with({Cell::form, Cell::forward, Cell::forward_end, Cell::backward_begin, Cell::backward});
  };
  switch (operation) {
    case Operation::layernorm_lstm: return one(LayerNormLstm<T>{});
    case Operation::layernorm_gru: return one(LayerNormGru<T>{});
    case Operation::gru_reset_before: return two(GruResetBefore<T>{});
    case Operation::projected_lstm: return two(ProjectedLstm<T>{});
    case Operation::peephole_lstm: return one(PeepholeLstm<T>{});
    case Operation::slstm: return one(Slstm<T>{});
    default: return false;
  }
}

bool run_rows(Operation operation, bool backward, bool double_precision, const Call& call) {
  return double_precision ? run<double>(operation, backward, call) : run<float>(operation, backward, call);
}

}  // namespace RECURRA_ISA
