// What one call of an elementwise scan is given, in plain memory: no torch, no Python, and nothing that depends on the
// instruction set. Every field has eight bytes, so a call can be handed over as an array of integers.
#pragma once

#include <cstdint>

namespace recurra {

// B rows, T steps, H columns (and F features of an input). Numbers are of the type that the function is called for; last
// dimensions are contiguous, and everything is without gaps but where strides are given, in numbers.
struct ScanCall {
  int64_t unit;            // its number in `elementwise_scan`
  int64_t rows, steps, columns, reverse, threads;
  const int64_t* lengths;  // (B); null when all steps are real
  const uint8_t* resets;   // (B, T); null for none
  const void* state;       // (B, H) before the first step read
  const void* begin;       // (B, H) what a reset begins with; null for zeros
  const void* parameters;  // (K, H)
  void* states;            // (B, T, H)
  void* output;            // (B, T, H); only of units whose output is not their state
  void* last;              // (B, H)

  // The gates (B, T, H) of a linear scan ...
  const void* gates[2];
  int64_t gate_row[2], gate_step[2];
  // ... or what they are products of. When a unit has one gate more than `products`, that one is x itself.
  int64_t features, products;
  const void* x;           // (B, T, F)
  int64_t x_row, x_step;
  const void* weight;      // (products * H, F)
  const void* bias;        // (products * H)
  void* kept;              // (B, T, products * padded H) the activated gates for the way back; null when nobody goes it

  // Backward only; states are read.
  const void* grad_output;
  const void* grad_last;
  void* grad_state;
  void* grad_begin;        // null when nobody asks
  void* grad_parameters;
  void* grad_gates[2];
  void* grad_x;            // null when nobody asks
  void* grad_weight;
  void* grad_bias;
};

}  // namespace recurra
