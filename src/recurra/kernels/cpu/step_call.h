// What a step of a stack of recurrent layers is given, in plain memory: no torch, no Python, and nothing that depends on
// the instruction set.
#pragma once

#include "call.h"
#include "crew.h"

namespace recurra {

// Of which type inputs, outputs, states and sums are, and the weights: of the same one, or matrices in 16 bits.
enum class StepNumbers { float32, float64, float32_of_half };

// Weights of a layer as torch has them, row-major; biases are null where there are none.
struct StepWeights {
  const void *w_ih, *w_hh, *b_ih, *b_hh;  // (G*H, F), (G*H, H), (G*H), (G*H)
};

// One layer, the same for all streams and never changed by a step.
struct StepLayer {
  Operation operation;
  int features, hidden;   // F, H
  const void* packed;     // what `pack` made of its weights
  double zone_rate[2];    // share of the previous state that stays, one a field
  bool residual;          // the input is added to the output; F = H
  const void *norm_weight, *norm_bias;  // (H) of layer normalization; null where there is none
  double norm_epsilon;
};

// What a layer carries from step to step: (streams, H filled up to whole vectors) each.
struct StepState {
  void *h, *h_next;  // `h_next` is where a step writes; then the two change places
  void* c;           // null without memory cells
};

// Steps of all streams through all layers.
struct StepCall {
  int streams, steps;
  const StepLayer* layers;
  StepState* states;
  int layer_count;
  Sequence x;             // (streams, steps, F); data null when tokens are given
  const int64_t* tokens;  // (streams, steps) numbers of rows of the two tables
  const void* vectors;    // (V, F): the rows are the inputs; may be null when there are products and no residual needs them
  const void* products;   // what `fold` made of the vectors; null when they are not folded
  Sequence output;        // (streams, steps, H)
  void* scratch;          // `scratch_bytes` of it
  Crew* crew;             // threads of a step; null for the caller alone
  bool backwards;         // direction in which the first step goes through the weights; changed by every step
};

// The steps of one instruction set.
struct StepKernels {
  size_t (*packed_bytes)(Operation, StepNumbers, int features, int hidden);
  void (*pack)(Operation, StepNumbers, int features, int hidden, const StepWeights&, void* to);
  // The input products of a layer with every one of `count` vectors (count, F), biases added.
  size_t (*folded_bytes)(Operation, StepNumbers, int hidden, int count);
  void (*fold)(StepNumbers, const StepLayer&, const void* vectors, int count, void* to);
  size_t (*scratch_bytes)(StepNumbers, const StepCall&);
  void (*run)(StepNumbers, StepCall&);
  void (*read_weights)(StepNumbers, StepCall&);  // all of them once, as a step does
};

}  // namespace recurra
