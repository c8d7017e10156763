// Steps of a stack of recurrent layers whose packed weights and states stay between calls.
//
// The weights of a layer lie in panels: of some units all gates, first the biases, then the rows that the input is
// multiplied with, then those for the hidden state, in the order in which they are read. So a step of one stream, whose
// time is that of reading the weights, reads every layer from one end to the other. Panels are shared with other threads
// (crew.h), each of which has the same ones every time and finds them in its own cache; steps go through them forwards and
// backwards in turn, so that of weights larger than the cache what was read last is read first.
//
// Of several steps at once the input products of a layer are computed for a chunk of them before its recurrence.
//
// The matrices may be stored in half as many bits as the numbers they are multiplied with, which halves what is read.
//
// Every number is computed as recurrence.h does it, one chain of fused multiply-adds in the order of the inputs and one in
// that of the hidden units: a step is bit-identical to the same step inside a sequence, for any streams, steps and threads.
#pragma once

#include <type_traits>

#include "product.h"
#include "recurrence.h"
#include "step_call.h"

namespace RECURRA_ISA {

using recurra::Crew;
using recurra::StepCall;
using recurra::StepLayer;
using recurra::StepState;
using recurra::StepWeights;

// Least sums of one row that are under way at once, to hide the latency of the multiply-add. Measured: more bring nothing,
// and neither does asking for the weights ahead, which the processor does by itself.
constexpr int row_sums = 8;

template <class T, class Cell, class Stored>
struct StepSizes {
  static constexpr int W = width<T>;
  static constexpr int vectors = Cell::gates * Cell::units;     // of a panel
  static constexpr int panel_wide = vectors * W;
  static constexpr int together = (row_sums + vectors - 1) / vectors;  // panels multiplied side by side with one row
  int features, hidden, wide, panels;                           // F, H, padded H

  StepSizes(int features, int hidden)
      : features(features), hidden(hidden), wide(padded<T>(hidden)), panels((wide / W + Cell::units - 1) / Cell::units) {}
  ptrdiff_t panel_bytes() const {
    return panel_wide * (2 * static_cast<ptrdiff_t>(sizeof(T)) + (features + hidden) * static_cast<ptrdiff_t>(sizeof(Stored)));
  }
  ptrdiff_t planes_wide() const { return static_cast<ptrdiff_t>(panels) * panel_wide; }
};

template <class Number>
RECURRA_INLINE const Number* beyond(const Number* from, ptrdiff_t bytes) {
  return reinterpret_cast<const Number*>(reinterpret_cast<const char*>(from) + bytes);
}

// One panel; the planes of the input product lie as its vectors do.
template <class T, class Cell, class Stored>
struct StepPanel {
  using Sizes = StepSizes<T, Cell, Stored>;
  const T *bias, *bias_hh;
  const Stored *input, *hidden;
  StepPanel(const Sizes& size, const void* packed, int number) {
    bias = beyond(static_cast<const T*>(packed), number * size.panel_bytes());
    bias_hh = bias + Sizes::panel_wide;
    input = reinterpret_cast<const Stored*>(bias_hh + Sizes::panel_wide);
    hidden = input + static_cast<ptrdiff_t>(size.features) * Sizes::panel_wide;
  }
};

template <class T, class Cell, class Stored>
void pack_step(const StepSizes<T, Cell, Stored>& size, const StepWeights& weights, void* to) {
  constexpr int W = width<T>, N = StepSizes<T, Cell, Stored>::vectors;
  const T *w_ih = static_cast<const T*>(weights.w_ih), *w_hh = static_cast<const T*>(weights.w_hh);
  const T *b_ih = static_cast<const T*>(weights.b_ih), *b_hh = static_cast<const T*>(weights.b_hh);
  for (int number = 0; number < size.panels; ++number) {
    const StepPanel<T, Cell, Stored> panel(size, to, number);
    // Row of torch's weights for a column of the panel, or -1 in the padding.
    const auto row = [&](int column, bool input) {
      const int vector = column / W, unit = (number * Cell::units + vector / Cell::gates) * W + column % W;
      const int gate = input ? Cell::x_gate(vector % Cell::gates) : vector % Cell::gates;
      return unit < size.hidden ? gate * size.hidden + unit : -1;
    };
    T *bias = const_cast<T*>(panel.bias), *bias_hh = const_cast<T*>(panel.bias_hh);
    for (int column = 0; column < N * W; ++column) {
      const int x_row = row(column, true), h_row = row(column, false);
      const bool both = Cell::bias_in_input(Cell::x_gate(column / W % Cell::gates));
      bias[column] = x_row < 0 || !b_ih ? T(0) : both && b_hh ? b_ih[x_row] + b_hh[x_row] : b_ih[x_row];
      bias_hh[column] = h_row < 0 || !b_hh ? T(0) : b_hh[h_row];
    }
    pack_columns(const_cast<Stored*>(panel.input), 0, size.features, N, [&](int column) -> const T* {
      const int from = row(column, true);
      return from < 0 ? nullptr : w_ih + static_cast<ptrdiff_t>(from) * size.features;
    });
    pack_columns(const_cast<Stored*>(panel.hidden), 0, size.hidden, N, [&](int column) -> const T* {
      const int from = row(column, false);
      return from < 0 ? nullptr : w_hh + static_cast<ptrdiff_t>(from) * size.hidden;
    });
  }
}

// to = start + a P for one row and `Many` panels that lie `apart` bytes apart. Null for `start` means zeros.
template <class T, int N, int Many, class Stored>
RECURRA_INLINE void multiply_row(const T* a, const Stored* panel, ptrdiff_t apart, int depth, const T* start, T* to) {
  constexpr int W = width<T>;
  Vector<T> sum[Many][N];
#pragma GCC unroll 16
  for (int m = 0; m < Many; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[m][n] = start ? load(beyond(start, m * apart) + n * W) : Vector<T>{};
  for (int k = 0; k < depth; ++k) {
    const Vector<T> factor = fill(a[k]);
#pragma GCC unroll 16
    for (int m = 0; m < Many; ++m)
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] = fma(factor, load(beyond(panel, m * apart) + n * W), sum[m][n]);
    panel += N * W;
  }
#pragma GCC unroll 16
  for (int m = 0; m < Many; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(to + (m * N + n) * W, sum[m][n]);
}

// Vectors of numbers by stream and step.
template <class T>
struct StepRows {
  T* data;
  ptrdiff_t stream, step;
  const int64_t* tokens = nullptr;  // by stream and step the number of a row of `data`, `wide` numbers long
  ptrdiff_t wide = 0;
  T* at(int r, int s) const { return data + (tokens ? tokens[r * stream + s * step] * wide : r * stream + s * step); }
};

// A layer in a chunk of steps.
template <class T>
struct StepChunk {
  const StepLayer& layer;
  T *h, *h_next, *c;
  int streams, steps;
  StepRows<const T> x;       // data null when the products are there
  StepRows<T> planes;        // the input products: given, or room for them
  StepRows<T> output;
  int output_wide;           // numbers that may be written of an output
  Crew* crew;
  bool backwards;
};

// work(i) for every item, shared with the crew; all are done when it returns.
template <class F>
RECURRA_INLINE void for_items(Crew* crew, int items, bool backwards, F&& work) {
  if (!crew) {
    for (int i = 0; i < items; ++i) work(backwards ? items - 1 - i : i);
    return;
  }
  using Work = std::remove_reference_t<F>;
  crew->run(items, backwards, [](void* context, int item) { (*static_cast<Work*>(context))(item); }, const_cast<void*>(static_cast<const void*>(&work)));
}

// Gates and new state of the units of one panel in one stream.
template <class T, class Cell, class Stored>
RECURRA_INLINE void update_units(const StepChunk<T>& chunk, const StepSizes<T, Cell, Stored>& size, int panel, int r, int s, const T* bias_hh,
                                 const T* planes, const T* sums) {
  constexpr int W = width<T>;
  const StepLayer& layer = chunk.layer;
  const ptrdiff_t row = static_cast<ptrdiff_t>(r) * size.wide;
  for (int u = 0; u < Cell::units; ++u) {
    const int j = (panel * Cell::units + u) * W, first = u * Cell::gates * W;
    if (j >= size.wide) break;
    const Vector<T> h_old = load(chunk.h + row + j);
    Vector<T> c_old{}, c_new{}, h_new;
    if (Cell::fields > 1) c_old = load(chunk.c + row + j);
    Cell::template forward<false>(sums + first, const_cast<T*>(planes) + first, W, bias_hh + first, h_old, c_old, h_new, c_new);
    if (layer.zone_rate[0] != 0 || layer.zone_rate[1] != 0) {
      h_new = fma(fill(static_cast<T>(layer.zone_rate[0])), h_old - h_new, h_new);
      if (Cell::fields > 1) c_new = fma(fill(static_cast<T>(layer.zone_rate[1])), c_old - c_new, c_new);
    }
    store(chunk.h_next + row + j, h_new);
    if (Cell::fields > 1) store(chunk.c + row + j, c_new);
    store(chunk.output.at(r, s) + j, h_new, chunk.output_wide - j);
  }
}

// One stream, a few panels side by side.
template <class T, class Cell, class Stored>
void step_one_stream(const StepChunk<T>& chunk, const StepSizes<T, Cell, Stored>& size, int s) {
  using Sizes = StepSizes<T, Cell, Stored>;
  constexpr int N = Sizes::vectors, most = Sizes::together;
  const bool multiplying = chunk.x.data;
  const T* x = multiplying ? chunk.x.at(0, s) : nullptr;
  const T* products = multiplying ? nullptr : chunk.planes.at(0, s);
  const int groups = (size.panels + most - 1) / most;
  for_items(chunk.crew, groups, chunk.backwards, [&](int group) {
    alignas(64) T from_x[most * Sizes::panel_wide], from_h[most * Sizes::panel_wide];
    const int begin = size.panels * group / groups, count = size.panels * (group + 1) / groups - begin;
    const StepPanel<T, Cell, Stored> panel(size, chunk.layer.packed, begin);
    with_count<most>(count, [&](auto many) {
      constexpr int M = decltype(many)::value;
      if (multiplying) multiply_row<T, N, M>(x, panel.input, size.panel_bytes(), size.features, panel.bias, from_x);
      multiply_row<T, N, M>(chunk.h, panel.hidden, size.panel_bytes(), size.hidden, nullptr, from_h);
    });
    for (int m = 0; m < count; ++m)
      update_units(chunk, size, begin + m, 0, s, beyond(panel.bias_hh, m * size.panel_bytes()),
                   multiplying ? from_x + m * Sizes::panel_wide : products + (begin + m) * Sizes::panel_wide, from_h + m * Sizes::panel_wide);
  });
}

// The same for several streams, which share what is read of the weights.
template <class T, class Cell, class Stored>
void step_streams(const StepChunk<T>& chunk, const StepSizes<T, Cell, Stored>& size, int s) {
  using Sizes = StepSizes<T, Cell, Stored>;
  for_items(chunk.crew, size.panels, chunk.backwards, [&](int number) {
    Tile<T> tile;
    const StepPanel<T, Cell, Stored> panel(size, chunk.layer.packed, number);
    for_tiles(chunk.streams, tile_rows(Sizes::vectors), [&](int r, int height) {
      const T* from[8];
      for (int m = 0; m < height; ++m) from[m] = chunk.h + static_cast<ptrdiff_t>(r + m) * size.wide;
      multiply_tile<T>(from, height, panel.hidden, Sizes::vectors, size.hidden, nullptr, tile.rows);
      for (int m = 0; m < height; ++m)
        update_units(chunk, size, number, r + m, s, panel.bias_hh, chunk.planes.at(r + m, s) + number * Sizes::panel_wide, tile.rows[m]);
    });
  });
}

// planes(i) = bias + x(i) W' for `count` rows, of one panel.
template <class T, class Cell, class Stored, class Input, class Planes>
void input_products(const StepSizes<T, Cell, Stored>& size, const void* packed, int number, int count, Input&& input, Planes&& planes) {
  using Sizes = StepSizes<T, Cell, Stored>;
  const StepPanel<T, Cell, Stored> panel(size, packed, number);
  for_tiles(count, tile_rows(Sizes::vectors), [&](int first, int height) {
    const T *from[8], *start[8];
    T* to[8];
    for (int m = 0; m < height; ++m) {
      from[m] = input(first + m), start[m] = panel.bias;
      to[m] = planes(first + m) + number * Sizes::panel_wide;
    }
    multiply_tile<T>(from, height, panel.input, Sizes::vectors, size.features, start, to);
  });
}

// All steps of a chunk through one layer, up to what is done with its outputs.
template <class T, class Cell, class Stored>
void step_layer(StepChunk<T>& chunk) {
  const StepSizes<T, Cell, Stored> size(chunk.layer.features, chunk.layer.hidden);
  if (chunk.x.data && (chunk.streams > 1 || chunk.steps > 1)) {
    for_items(chunk.crew, size.panels, chunk.backwards, [&](int panel) {
      input_products(
          size, chunk.layer.packed, panel, chunk.streams * chunk.steps, [&](int i) { return chunk.x.at(i % chunk.streams, i / chunk.streams); },
          [&](int i) { return chunk.planes.at(i % chunk.streams, i / chunk.streams); });
    });
    chunk.x.data = nullptr;
  }
  for (int s = 0; s < chunk.steps; ++s) {
    chunk.streams == 1 ? step_one_stream(chunk, size, s) : step_streams(chunk, size, s);
    T* const swap = chunk.h;
    chunk.h = chunk.h_next, chunk.h_next = swap;
    chunk.backwards = !chunk.backwards;
  }
}

template <class T>
T sum_of(Vector<T> v) {
  T sum = 0;
  for (int i = 0; i < width<T>; ++i) sum += v[i];
  return sum;
}

// The residual and the norm of one output, in place.
template <class T>
void finish_output(const StepLayer& layer, const T* x, T* output) {
  constexpr int W = width<T>;
  const int H = layer.hidden;
  if (x)
    for (int j = 0; j < H; j += W) store(output + j, load(output + j, H - j) + load(x + j, H - j), H - j);
  if (!layer.norm_weight) return;
  const T *weight = static_cast<const T*>(layer.norm_weight), *bias = static_cast<const T*>(layer.norm_bias);
  Vector<T> total{}, squares{};
  for (int j = 0; j < H; j += W) total = total + load(output + j, H - j);
  const Vector<T> mean = fill(sum_of<T>(total) / T(H));
  for (int j = 0; j < H; j += W) {
    Vector<T> apart = load(output + j, H - j) - mean;
    for (int i = H - j; i < W; ++i) apart[i] = 0;
    squares = fma(apart, apart, squares);
  }
  const Vector<T> scale = fill(static_cast<T>(1 / __builtin_sqrt(static_cast<double>(sum_of<T>(squares) / T(H)) + layer.norm_epsilon)));
  for (int j = 0; j < H; j += W) {
    const Vector<T> normal = (load(output + j, H - j) - mean) * scale;
    store(output + j, fma(normal, load(weight + j, H - j), load(bias + j, H - j)), H - j);
  }
}

// Steps of a chunk: as many as keep the products of all streams in a near cache.
inline int chunk_steps(const StepCall& call) {
  const int most = chunk_rows / call.streams < 1 ? 1 : chunk_rows / call.streams;
  return call.steps < most ? call.steps : most;
}

// Scratch memory: the products of a chunk, and the outputs of two layers in turn.
struct StepScratch {
  size_t rows, planes = 0, wide = 0;  // numbers of a row
  size_t numbers() const { return rows * (planes + 2 * wide); }
};

// f(call of Cell) with the cell of an operation: what the calls below are given to find the layer's type; see kernels.cpp.
template <class T, class Each>
StepScratch step_scratch(const StepCall& call, Each&& with_cell) {
  StepScratch found{static_cast<size_t>(call.streams) * chunk_steps(call)};
  for (int number = 0; number < call.layer_count; ++number) {
    const StepLayer& layer = call.layers[number];
    with_cell(layer.operation, [&](auto cell) {
      const StepSizes<T, decltype(cell), T> size(layer.features, layer.hidden);
      const size_t planes = static_cast<size_t>(size.planes_wide()), wide = static_cast<size_t>(size.wide);
      found.planes = planes > found.planes ? planes : found.planes;
      found.wide = wide > found.wide ? wide : found.wide;
    });
  }
  return found;
}

template <class T, class Stored, class Each>
void run_steps(StepCall& call, Each&& with_cell) {
  const recurra::DenormalsAreZero mode;
  const StepScratch scratch = step_scratch<T>(call, with_cell);
  const int at_once = chunk_steps(call), streams = call.streams;
  T* const planes = static_cast<T*>(call.scratch);
  T* const between[2] = {planes + scratch.rows * scratch.planes, planes + scratch.rows * (scratch.planes + scratch.wide)};
  const ptrdiff_t wide = static_cast<ptrdiff_t>(scratch.wide);
  for (int begin = 0; begin < call.steps; begin += at_once) {
    const int steps = begin + at_once < call.steps ? at_once : call.steps - begin;
    const int64_t* const tokens = call.tokens ? call.tokens + begin : nullptr;
    StepRows<const T> x{static_cast<const T*>(call.x.data) + (call.tokens ? 0 : begin * call.x.step), call.x.row, call.x.step};
    if (tokens) x = {static_cast<const T*>(call.vectors), call.steps, 1, tokens, call.layers[0].features};
    for (int number = 0; number < call.layer_count; ++number) {
      const StepLayer& layer = call.layers[number];
      const StepState& state = call.states[number];
      T *h = static_cast<T*>(state.h), *h_next = static_cast<T*>(state.h_next);
      const bool turned = begin % 2, last = number + 1 == call.layer_count;
      StepRows<T> output{between[number % 2], wide, wide * streams};
      if (last) output = {static_cast<T*>(call.output.data) + begin * call.output.step, call.output.row, call.output.step};
      const bool folded = number == 0 && call.products;
      with_cell(layer.operation, [&](auto cell) {
        using Cell = decltype(cell);
        const ptrdiff_t planes_wide = StepSizes<T, Cell, Stored>(layer.features, layer.hidden).planes_wide();
        StepRows<T> products{planes, planes_wide, planes_wide * streams};
        if (folded) products = {const_cast<T*>(static_cast<const T*>(call.products)), call.steps, 1, tokens, planes_wide};
        StepChunk<T> chunk{layer,    turned ? h_next : h,  turned ? h : h_next, static_cast<T*>(state.c),
                           streams,  steps,                x,                   products,
                           output,   last ? layer.hidden : static_cast<int>(wide), call.crew, call.backwards != turned};
        if (folded) chunk.x.data = nullptr;
        step_layer<T, Cell, Stored>(chunk);
      });
      if (layer.residual || layer.norm_weight)
        for (int s = 0; s < steps; ++s)
          for (int r = 0; r < streams; ++r) finish_output<T>(layer, layer.residual ? x.at(r, s) : nullptr, output.at(r, s));
      x = {output.data, output.stream, output.step};
    }
  }
  if (call.steps % 2 == 0) return;
  for (int number = 0; number < call.layer_count; ++number) {
    StepState& state = call.states[number];
    void* const swap = state.h;
    state.h = state.h_next, state.h_next = swap;
  }
  call.backwards = !call.backwards;
}

// Reads the weights as a step of one stream does and does nothing else with them: what a step is measured against.
template <class T, class Stored, class Each>
void read_weights(StepCall& call, Each&& with_cell) {
  for (int number = 0; number < call.layer_count; ++number) {
    const StepLayer& layer = call.layers[number];
    with_cell(layer.operation, [&](auto cell) {
      using Sizes = StepSizes<T, decltype(cell), Stored>;
      constexpr int N = Sizes::vectors, W = width<T>;
      const Sizes size(layer.features, layer.hidden);
      for_items(call.crew, size.panels, call.backwards, [&](int number) {
        const StepPanel<T, decltype(cell), Stored> panel(size, layer.packed, number);
        Vector<T> sum[N];
        for (int n = 0; n < N; ++n) sum[n] = load(panel.bias + n * W) + load(panel.bias_hh + n * W);
        const Stored* from = panel.input;
        for (int k = size.features + size.hidden; k > 0; --k, from += Sizes::panel_wide)
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) sum[n] = sum[n] + load(from + n * W);
        for (int n = 0; n < N; ++n) store(static_cast<T*>(call.scratch) + (number * N + n) * W, sum[n]);
      });
    });
  }
  call.backwards = !call.backwards;
}

// Input products of all vectors with a layer's weights, each as the layer itself would compute it.
template <class T, class Cell, class Stored>
void fold_vectors(const StepLayer& layer, const T* vectors, int count, T* to) {
  const StepSizes<T, Cell, Stored> size(layer.features, layer.hidden);
#pragma omp parallel for schedule(static)
  for (int panel = 0; panel < size.panels; ++panel) {
    const recurra::DenormalsAreZero mode;
    input_products(
        size, layer.packed, panel, count, [&](int i) { return vectors + static_cast<ptrdiff_t>(i) * size.features; },
        [&](int i) { return to + i * size.planes_wide(); });
  }
}

}  // namespace RECURRA_ISA
