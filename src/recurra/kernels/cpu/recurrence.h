// A gated recurrence over whole sequences, forward and backward: everything but the equations of a step, which are a
// `Cell` (see lstm/cpu.h, gru/cpu.h, elman/cpu.h).
//
// Rows of the batch are divided over threads, and a thread takes its rows through all steps without waiting for another.
// Before a chunk of steps it computes their input products into *planes* (one a gate, padded H numbers wide), then step by
// step the recurrent products, and in the registers that hold them the gates and the new state. Only real steps are
// computed. For the backward pass the activated planes and the memory cells are saved. That pass runs the same way from
// the last step to the first; the gradients of weights and inputs are products over all real steps behind it.
#pragma once

#include "call.h"
#include "denormals.h"
#include "product.h"

namespace RECURRA_ISA {

using recurra::Call;
using recurra::Direction;
using recurra::Plan;
using recurra::Sequence;
using recurra::Task;

template <class T>
constexpr int padded(int n) {
  return (n + width<T> - 1) / width<T> * width<T>;
}

// Memory that is given back at the end of a block; `data` is null when there was none.
template <class T>
struct Buffer {
  size_t bytes;
  T* data;
  explicit Buffer(size_t count) : bytes(count * sizeof(T)), data(static_cast<T*>(recurra::take(bytes))) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { recurra::give(data, bytes); }
};

// Bytes of a panel that the nearest cache holds beside the rows of a tile.
constexpr size_t near_cache = 40000;

// Steps of rows in a chunk of input products: enough for the weights to be read from a near cache seldom.
constexpr int chunk_rows = 192;

// Most bytes of input products of one direction that are made for all steps at once.
constexpr size_t most_shared = size_t{32} << 20;

template <class T>
RECURRA_INLINE T* at(const Sequence& sequence, int row, int step) {
  return static_cast<T*>(sequence.data) + row * sequence.row + step * sequence.step;
}

RECURRA_INLINE int time_of(const Direction& direction, int length, int step) { return direction.reverse ? length - 1 - step : step; }

template <class T>
void copy_row(T* to, const T* from, int count, int whole) {
  std::memcpy(to, from, sizeof(T) * count);
  std::memset(to + count, 0, sizeof(T) * (whole - count));
}

// Whether a step reads nothing but zeros, as the first one mostly does. Its recurrent products are then zero, to the last bit where
// weights are finite.
template <class T>
bool all_zero(const T* numbers, size_t count) {
  constexpr size_t some = 256;
  for (size_t begin = 0; begin < count; begin += some) {
    const size_t end = begin + some < count ? begin + some : count;
    bool found = false;
    for (size_t i = begin; i < end; ++i) found |= numbers[i] != T(0);
    if (found) return false;
  }
  return true;
}

// The weights of one direction as the forward pass reads them.
template <class T, class Cell>
struct ForwardWeights {
  Panels<T> input;   // F rows, x planes wide
  const T* hidden;   // panels of `gates * units` vectors: the gates of some units side by side
  const T* bias;     // x planes
  const T* bias_hh;  // gates * padded H
};

template <class T, class Cell>
struct Sizes {
  static constexpr int panel_wide = Cell::gates * Cell::units;  // vectors of a panel of recurrent weights
  static_assert(panel_wide <= panel_vectors);

  int features, hidden, wide, vectors;  // F, H, padded H, vectors in padded H
  int parts;                            // in which a panel of recurrent weights lies, one behind the other
  explicit Sizes(const Call& call)
      : features(call.features), hidden(call.hidden), wide(padded<T>(call.hidden)), vectors(padded<T>(call.hidden) / width<T>), parts(1) {
    // A tile of half the width has more rows, and so a panel beyond the nearest cache is read from the next one fewer times.
    if (panel_wide == panel_vectors && hidden_panel() * sizeof(T) > near_cache)
      for (int i = 0; i < call.task_count; ++i)
        if (call.tasks[i].end - call.tasks[i].begin > tile_rows(panel_wide)) parts = 2;
  }
  int x_planes_wide() const { return Cell::gates * wide; }
  int saved() const { return (Cell::planes + Cell::fields - 1) * wide; }
  int unit_panels() const { return (vectors + Cell::units - 1) / Cell::units; }
  size_t input_panels() const { return (Cell::gates * vectors + panel_vectors - 1) / panel_vectors; }
  size_t input_size() const { return static_cast<size_t>(features) * x_planes_wide(); }
  size_t hidden_panel() const { return static_cast<size_t>(Cell::gates) * Cell::units * width<T> * hidden; }
  size_t forward_size() const { return input_size() + hidden_panel() * unit_panels() + 2 * static_cast<size_t>(x_planes_wide()); }
};

// Row of torch's weights for unit j of plane p, or -1 in the padding.
template <class T, class Cell>
RECURRA_INLINE int weight_row(const Sizes<T, Cell>& size, int gate, int unit) {
  return unit < size.hidden ? gate * size.hidden + unit : -1;
}

// One panel of the input weights, or of the recurrent ones, or the biases: item of `input_panels + unit_panels + 1`.
template <class T, class Cell>
void pack_forward(const Sizes<T, Cell>& size, const Direction& direction, T* to, int item) {
  constexpr int W = width<T>;
  const int panels = static_cast<int>(size.input_panels());
  T* hidden = to + size.input_size();
  T* bias = hidden + size.hidden_panel() * size.unit_panels();
  if (item < panels) {
    const T* w = static_cast<const T*>(direction.w_ih);
    T* panel = to + static_cast<size_t>(item) * panel_vectors * W * size.features;
    pack_columns(panel, item, size.features, Cell::gates * size.vectors, [&](int column) -> const T* {
      const int row = weight_row(size, Cell::x_gate(column / size.wide), column % size.wide);
      return row < 0 ? nullptr : w + static_cast<ptrdiff_t>(row) * size.features;
    });
  } else if (item < panels + size.unit_panels()) {
    const T* w = static_cast<const T*>(direction.w_hh);
    const int number = item - panels;
    // Columns of the panel: for each of its units' vectors, the gates.
    const int part_wide = size.panel_wide / size.parts;
    for (int first = 0; first < size.panel_wide; first += part_wide)
      pack_columns(hidden + size.hidden_panel() * number + static_cast<ptrdiff_t>(first) * W * size.hidden, 0, size.hidden, part_wide, [&](int column) -> const T* {
        const int vector = first + column / W;
        const int unit = (number * Cell::units + vector / Cell::gates) * W + column % W;
        const int row = weight_row(size, vector % Cell::gates, unit);
        return row < 0 ? nullptr : w + static_cast<ptrdiff_t>(row) * size.hidden;
      });
  } else {
    const T *b_ih = static_cast<const T*>(direction.b_ih), *b_hh = static_cast<const T*>(direction.b_hh);
    T* bias_hh = bias + size.x_planes_wide();
    for (int plane = 0; plane < Cell::gates; ++plane)
      for (int unit = 0; unit < size.wide; ++unit) {
        const int x_row = weight_row(size, Cell::x_gate(plane), unit), h_row = weight_row(size, plane, unit);
        const bool both = Cell::bias_in_input(Cell::x_gate(plane));
        bias[plane * size.wide + unit] = x_row < 0 || !b_ih ? T(0) : both ? b_ih[x_row] + b_hh[x_row] : b_ih[x_row];
        bias_hh[plane * size.wide + unit] = h_row < 0 || !b_hh ? T(0) : b_hh[h_row];
      }
  }
}

template <class T, class Cell>
ForwardWeights<T, Cell> forward_weights(const Sizes<T, Cell>& size, const T* packed) {
  const T* hidden = packed + size.input_size();
  const T* bias = hidden + size.hidden_panel() * size.unit_panels();
  return {{packed, size.features, Cell::gates * size.vectors}, hidden, bias, bias + size.x_planes_wide()};
}

// Numbers in whose place two pointers a row fit, as whole vectors.
template <class T>
constexpr size_t pointers_size(int rows) {
  return (2 * static_cast<size_t>(rows) * sizeof(T*) + vector_bytes - 1) / vector_bytes * width<T>;
}

// Numbers of scratch memory of a forward task of `rows` rows.
template <class T, class Cell>
size_t forward_scratch(const Sizes<T, Cell>& size, int rows, bool saving) {
  const size_t states = static_cast<size_t>(rows) * size.wide * 5;
  const size_t in_chunk = rows > chunk_rows ? rows : chunk_rows;
  return states + pointers_size<T>(rows) + (saving ? 0 : in_chunk * Cell::planes * size.wide);
}

// The share of the previous state that a field keeps at one step.
template <class T>
RECURRA_INLINE Vector<T> zone(const Direction& direction, int field, int row, int t, int j, int hidden) {
  const Sequence& shares = direction.zone[field];
  if (direction.zone_marks && shares.data) return load_marks<T>(at<uint8_t>(shares, row, t) + j, hidden - j);
  return shares.data ? load(at<T>(shares, row, t) + j, hidden - j) : fill(static_cast<T>(direction.zone_rate[field]));
}

// Asks for numbers that will be read. Inlined, for GCC drops calls of a function that does nothing else.
template <class T>
RECURRA_INLINE void fetch(const T* from, int count) {
  for (int i = 0; i < count; i += 64 / static_cast<int>(sizeof(T))) __builtin_prefetch(from + i);
}

template <class T>
struct Pointers {
  const T* from[chunk_rows];
  T* to[chunk_rows];
  int count = 0;
};

// Input products of the real steps [begin, end) of one direction, `stride` numbers a step.
template <class T>
void input_products(const Call& call, const Direction& direction, const Panels<T>& weights, const T* bias, int columns, int64_t begin, int64_t end, T* planes,
                    ptrdiff_t stride) {
  const Plan& plan = *call.plan;
  for (int64_t i = begin; i < end;) {
    Pointers<T> some;
    for (; i < end && some.count < chunk_rows; ++i) {
      const int rank = plan.rank_of[i];
      some.from[some.count] = at<T>(call.x, plan.row[rank], time_of(direction, plan.length[rank], plan.step_of[i]));
      some.to[some.count++] = planes + i * stride;
    }
    rows_times_panels<T>(some.from, some.to, some.count, weights, Start::bias, bias, columns);
  }
}

// Where there are more threads than tasks, all of them make the input products of all real steps, before the tasks begin: in
// what is saved, or in memory of the call. Else each task makes its own, some steps at a time.
template <class T>
struct SharedProducts {
  const bool saving;
  const ptrdiff_t stride;  // numbers of a step
  const size_t numbers;    // of a direction, beside what is saved
  const bool wanted;
  const Buffer<T> planes;

  SharedProducts(const Call& call, ptrdiff_t saved, ptrdiff_t wide)
      : saving(call.directions[0].saved), stride(saving ? saved : wide), numbers(saving ? 0 : static_cast<size_t>(call.plan->total) * wide),
        wanted(call.task_count < call.threads && numbers * sizeof(T) <= most_shared), planes(wanted ? numbers * call.direction_count : 0) {}

  // Null where each task makes its own.
  T* of(const Call& call, int direction) const {
    return !wanted ? nullptr : saving ? static_cast<T*>(call.directions[direction].saved) : planes.data + numbers * direction;
  }

  // The part of one of all threads: product(direction, begin, end) makes that of some real steps.
  template <class F>
  void share(const Call& call, int thread, F&& product) const {
    const int64_t total = call.plan->total;
    for (int d = 0; d < call.direction_count; ++d) product(d, total * thread / call.threads, total * (thread + 1) / call.threads);
  }
};

// `ready`: see SharedProducts.
template <class T, class Cell, bool saving, bool noisy>
void forward_task(const Call& call, const Task& task, const ForwardWeights<T, Cell>& weights, T* ready, T* scratch) {
  using V = Vector<T>;
  constexpr int W = width<T>;
  const Sizes<T, Cell> size(call);
  const Plan& plan = *call.plan;
  const Direction& direction = call.directions[task.direction];
  const int rows = task.end - task.begin, H = size.hidden;
  const ptrdiff_t wide = size.wide;  // times rows it may be more than an int holds
  if (rows == 0) return;
  const size_t block = static_cast<size_t>(rows) * wide;
  T *h = scratch, *h_next = h + block, *c = h_next + block, *read = h, *read_next = h_next;
  if (noisy && direction.dropout) read = c + block, read_next = read + block;
  T* planes_here = scratch + 5 * block + pointers_size<T>(rows);
  const T* mask = static_cast<const T*>(direction.dropout);
  const int part_wide = size.panel_wide / size.parts;
  Tile<T> tile;
  T* const fields[2] = {h, c};
  // Where the planes and the output of each row's step are.
  T **const step_planes = reinterpret_cast<T**>(scratch + 5 * block), **const step_output = step_planes + rows;

  const auto enter = [&](int rank, const void* const* from, T* h_row, T* c_row, T* read_row) {
    const ptrdiff_t row = static_cast<ptrdiff_t>(plan.row[rank]) * H;
    copy_row(h_row, static_cast<const T*>(from[0]) + row, H, wide);
    if (Cell::fields > 1) copy_row(c_row, static_cast<const T*>(from[1]) + row, H, wide);
    if (noisy && mask)
      for (int j = 0; j < wide; j += W) store(read_row + j, load(h_row + j) * load(mask + row + j, H - j > 0 ? H - j : 0));
  };
  for (int r = 0; r < rows; ++r) {
    const int rank = task.begin + r;
    enter(rank, direction.state, fields[0] + r * wide, fields[1] + r * wide, read + r * wide);
    for (int t = plan.length[rank]; t < plan.steps; ++t) std::memset(at<T>(direction.output, plan.row[rank], t), 0, sizeof(T) * H);
  }
  const auto running = [&](int step) {
    const int n = plan.active[step] - task.begin;
    return n < 0 ? 0 : n > rows ? rows : n;
  };
  const auto leave = [&](int from, int to, const T* h_rows) {
    for (int r = from; r < to; ++r) {
      const ptrdiff_t row = static_cast<ptrdiff_t>(plan.row[task.begin + r]) * H;
      std::memcpy(static_cast<T*>(direction.last[0]) + row, h_rows + r * wide, sizeof(T) * H);
      if (Cell::fields > 1) std::memcpy(static_cast<T*>(direction.last[1]) + row, c + r * wide, sizeof(T) * H);
    }
  };
  leave(running(0), rows, h);

  // Planes that are not saved are to stay in a near cache until their step reads them.
  int chunk = (saving ? chunk_rows : chunk_rows / 2) / rows;
  if (chunk < 1) chunk = 1;
  for (int begin = 0; begin < plan.longest && running(begin) > 0; begin += chunk) {
    const int end = begin + chunk < plan.longest ? begin + chunk : plan.longest;
    const auto planes_of = [&](int step, int r) {
      const int64_t number = plan.first[step] + task.begin + r;
      if (saving) return static_cast<T*>(direction.saved) + number * size.saved();
      return ready ? ready + number * Cell::planes * wide : planes_here + (static_cast<size_t>(step - begin) * rows + r) * Cell::planes * wide;
    };
    Pointers<T> some;
    const auto flush = [&] {
      rows_times_panels<T>(some.from, some.to, some.count, weights.input, Start::bias, weights.bias, size.x_planes_wide());
      some.count = 0;
    };
    for (int step = begin; !ready && step < end; ++step)
      for (int r = 0; r < running(step); ++r) {
        const int rank = task.begin + r;
        some.from[some.count] = at<T>(call.x, plan.row[rank], time_of(direction, plan.length[rank], step));
        some.to[some.count++] = planes_of(step, r);
        if (some.count == chunk_rows) flush();
      }
    if (some.count) flush();

    for (int step = begin; step < end; ++step) {
      const int n = running(step);
      if (n == 0) break;
      if (direction.reset)
        for (int r = 0; r < n; ++r) {
          const int rank = task.begin + r;
          if (direction.reset[static_cast<ptrdiff_t>(plan.row[rank]) * plan.steps + time_of(direction, plan.length[rank], step)])
            enter(rank, direction.reset_state, h + r * wide, c + r * wide, read + r * wide);
        }
      for (int r = 0; r < n; ++r) {
        const int rank = task.begin + r;
        step_planes[r] = planes_of(step, r);
        step_output[r] = at<T>(direction.output, plan.row[rank], time_of(direction, plan.length[rank], step));
      }
      const int depth = step == 0 && all_zero(read, n * static_cast<size_t>(wide)) ? 0 : H;
      for (int panel = 0; panel < size.unit_panels(); ++panel) {
        const T* weight = weights.hidden + size.hidden_panel() * panel;
        for_tiles(n, tile_rows(part_wide), [&](int first, int height) {
          const T* from[8];
          T* to[8];
          for (int m = 0; m < height; ++m) from[m] = read + (first + m) * wide;
          for (int start = 0; start < size.panel_wide; start += part_wide) {
            for (int m = 0; m < height; ++m) to[m] = tile.rows[m] + start * W;
            multiply_tile<T>(from, height, weight + static_cast<ptrdiff_t>(start) * W * H, part_wide, depth, nullptr, to);
          }
          for (int m = 0; m < height; ++m) {
            const int r = first + m;
            for (int u = 0; u < Cell::units; ++u) {
              const int j = (panel * Cell::units + u) * W;
              if (j >= wide) break;
              T* planes = step_planes[r] + j;
              const V h_old = load(h + r * wide + j);
              V c_old{}, c_new{}, h_new;
              if (Cell::fields > 1) c_old = load(c + r * wide + j);
              Cell::template forward<saving>(tile.rows[m] + u * Cell::gates * W, planes, wide, weights.bias_hh + j, h_old, c_old, h_new, c_new);
              if (noisy) {
                const int rank = task.begin + r, row = plan.row[rank], t = time_of(direction, plan.length[rank], step);
                h_new = fma(zone<T>(direction, 0, row, t, j, H), h_old - h_new, h_new);
                if (Cell::fields > 1) c_new = fma(zone<T>(direction, 1, row, t, j, H), c_old - c_new, c_new);
                if (mask) store(read_next + r * wide + j, h_new * load(mask + static_cast<ptrdiff_t>(row) * H + j, H - j));
              }
              store(h_next + r * wide + j, h_new);
              if (Cell::fields > 1) {
                store(c + r * wide + j, c_new);
                if (saving) store(planes + Cell::planes * wide, c_new);
              }
              store(step_output[r] + j, h_new, H - j);
            }
          }
        });
      }
      T* swap = h;
      h = h_next, h_next = swap;
      swap = read, read = read_next, read_next = swap;
      leave(step + 1 < plan.longest ? running(step + 1) : 0, n, h);
    }
  }
}

template <class T, class Cell>
bool forward(const Call& call) {
  const Sizes<T, Cell> size(call);
  const bool saving = call.directions[0].saved;
  bool noisy = false;
  for (int d = 0; d < call.direction_count; ++d) {
    const Direction& each = call.directions[d];
    noisy = noisy || each.dropout || each.zone[0].data || each.zone[1].data || each.zone_rate[0] != 0 || each.zone_rate[1] != 0;
  }
  size_t most = 0;
  for (int i = 0; i < call.task_count; ++i) {
    const size_t needed = forward_scratch(size, call.tasks[i].end - call.tasks[i].begin, saving);
    most = needed > most ? needed : most;
  }
  const SharedProducts<T> shared(call, size.saved(), Cell::planes * static_cast<ptrdiff_t>(size.wide));
  const Buffer<T> packed(size.forward_size() * call.direction_count), scratch(most * call.task_count);
  if (!packed.data || !scratch.data || !shared.planes.data) return false;
  const auto weights_of = [&](int d) { return forward_weights<T, Cell>(size, packed.data + size.forward_size() * d); };
  const int items = static_cast<int>(size.input_panels()) + size.unit_panels() + 1;
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    const recurra::DenormalsAreZero mode;
#pragma omp for schedule(static)
    for (int item = 0; item < items * call.direction_count; ++item)
      pack_forward(size, call.directions[item / items], packed.data + size.forward_size() * (item / items), item % items);
    if (shared.wanted) {
#pragma omp for schedule(static)
      for (int thread = 0; thread < call.threads; ++thread)
        shared.share(call, thread, [&](int d, int64_t begin, int64_t end) {
          const auto weights = weights_of(d);
          input_products(call, call.directions[d], weights.input, weights.bias, size.x_planes_wide(), begin, end, shared.of(call, d), shared.stride);
        });
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < call.task_count; ++i) {
      const Task& task = call.tasks[i];
      const auto run = saving ? noisy ? forward_task<T, Cell, true, true> : forward_task<T, Cell, true, false>
                              : noisy ? forward_task<T, Cell, false, true> : forward_task<T, Cell, false, false>;
      run(call, task, weights_of(task.direction), shared.of(call, task.direction), scratch.data + most * i);
    }
  }
  return true;
}

}  // namespace RECURRA_ISA
