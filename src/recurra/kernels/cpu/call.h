// What one call of a recurrence is given, in plain memory: no torch, no Python, and nothing that depends on the
// instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace recurra {

enum class Operation {
  elman_tanh,
  elman_relu,
  lstm,
  gru,
  layernorm_lstm,  // from here on: row_recurrence.h
  layernorm_gru,
  gru_reset_before,
  projected_lstm,
  peephole_lstm,
  slstm,
};

constexpr int most_fields = 4;  // of a state
constexpr int most_more = 4;    // weights beside the four that all operations have

// Rows of the batch from the longest to the shortest; a row's place in this order is its rank. At step s the rows still
// running are the first `active[s]`. Real steps are numbered step by step: step s of rank r is number first[s] + r.
struct Plan {
  int batch, steps;        // B, T
  int longest;             // steps of the longest row
  int64_t total;           // real steps of all rows
  const int32_t* row;      // (B) by rank
  const int32_t* length;   // (B) by rank
  const int32_t* active;   // (T + 1) by step
  const int64_t* first;    // (T + 1) by step
  const int32_t* rank_of;  // (total) by number
  const int32_t* step_of;  // (total) by number
};

// Values (B, T, features) with the features side by side; strides in numbers, not bytes.
struct Sequence {
  void* data;
  ptrdiff_t row, step;
};

// One direction of a layer. Pointers are to numbers of the call's type, row-major; null where there is none.
struct Direction {
  const void *w_ih, *w_hh, *b_ih, *b_hh;  // (G*H, F), (G*H, H), (G*H), (G*H)
  const void* more[most_more];            // the operation's further weights
  const void* state[most_fields];         // (B, H) before the first step, one a field
  const uint8_t* reset;                   // (B, T) true where the state starts anew
  const void* reset_state[most_fields];   // (B, H)
  const void* dropout;                    // (B, H) factors of what the recurrent product reads
  Sequence zone[2];                       // share of the previous state that stays, (B, T, H)
  bool zone_marks;                        // these are bytes: 0, nothing of it stays, or 1, all
  double zone_rate[2];                    // the same when it is one number
  bool reverse;
  void* saved;                            // (B * T, saved planes, padded H) for the backward pass; null when there is none
  Sequence output;                        // (B, T, H)
  void* last[most_fields];                // (B, H) after the last step
  // Backward only.
  Sequence d_output;
  const void* d_last[most_fields];
  void *d_w_ih, *d_w_hh, *d_b_ih, *d_b_hh;
  void* d_more[most_more];
  void* d_state[most_fields];
  void* d_reset_state[most_fields];
};

// Ranks [begin, end) of one direction, which one thread works through alone.
struct Task {
  int direction, begin, end;
};

struct Call {
  int features, hidden;  // F, H
  int outputs, head;     // width of h, and numbers in a row of w_hh; H both unless the operation says otherwise
  Sequence x;
  Sequence d_x;          // backward only; data null when it is not asked for
  const Plan* plan;
  const Direction* directions;
  int direction_count;
  const Task* tasks;
  int task_count;
  int threads;
};

struct ScanCall;     // ../linear_scan/call.h
struct StepKernels;  // step_call.h

// Memory aligned to a cache line, null when there is none; `give` keeps some of it for the next call, because fresh pages
// cost as much as a tenth of a training step.
void* take(size_t bytes);
void give(void* memory, size_t bytes);

// The kernels of one instruction set.
struct Kernels {
  int vector_bytes;
  // False when memory ran out.
  bool (*forward)(Operation, bool double_precision, const Call&);
  bool (*backward)(Operation, bool double_precision, const Call&);
  bool (*scan)(bool backward, bool double_precision, const ScanCall&);
  const StepKernels* step;
};

}  // namespace recurra
