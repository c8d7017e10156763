// The backward pass of recurrence.h.
#pragma once

#include <omp.h>

#include "recurrence.h"

namespace RECURRA_ISA {

// The weights of one direction as the backward pass reads them.
template <class T>
struct BackwardWeights {
  Panels<T> hidden;  // gates * padded H rows, H columns: gradients of the hidden state
  Panels<T> input;   // gates * padded H rows, F columns: gradients of the input
};

template <class T, class Cell>
struct BackwardSizes : Sizes<T, Cell> {
  using Base = Sizes<T, Cell>;
  explicit BackwardSizes(const Call& call) : Base(call) {}
  int gates_wide() const { return Cell::gates * this->wide; }
  int features_vectors() const { return (this->features + width<T> - 1) / width<T>; }
  int hidden_panels() const { return (this->vectors + panel_vectors - 1) / panel_vectors; }
  int features_panels() const { return (features_vectors() + panel_vectors - 1) / panel_vectors; }
  size_t hidden_size() const { return static_cast<size_t>(gates_wide()) * this->wide; }
  size_t packed_size() const { return hidden_size() + static_cast<size_t>(gates_wide()) * features_vectors() * width<T>; }
  int d_planes() const { return Cell::planes * this->wide; }
};

template <class T, class Cell>
void pack_backward(const BackwardSizes<T, Cell>& size, const Direction& direction, const T* zeros, T* to, int item) {
  const int panels = size.hidden_panels();
  const bool recurrent = item < panels;
  const T* w = static_cast<const T*>(recurrent ? direction.w_hh : direction.w_ih);
  const int columns = recurrent ? size.hidden : size.features;
  const int vectors = recurrent ? size.vectors : size.features_vectors();
  const int panel = recurrent ? item : item - panels;
  T* start = to + (recurrent ? 0 : size.hidden_size()) + static_cast<size_t>(panel) * panel_vectors * size.gates_wide() * width<T>;
  pack_rows(start, panel, size.gates_wide(), columns, vectors, [&](int k) -> const T* {
    const int gate = recurrent ? k / size.wide : Cell::x_gate(k / size.wide);
    const int row = weight_row(size, gate, k % size.wide);
    return row < 0 ? zeros : w + static_cast<ptrdiff_t>(row) * columns;
  });
}

template <class T, class Cell>
BackwardWeights<T> backward_weights(const BackwardSizes<T, Cell>& size, const T* packed) {
  return {{packed, size.gates_wide(), size.vectors}, {packed + size.hidden_size(), size.gates_wide(), size.features_vectors()}};
}

// The state that a step read, and whether it had just been set: one field of one row.
template <class T>
struct Before {
  const T* numbers;
  int count;  // numbers that may be read
};

template <class T>
RECURRA_INLINE bool starts_anew(const Direction& direction, const Plan& plan, int row, int t) {
  return direction.reset && direction.reset[static_cast<ptrdiff_t>(row) * plan.steps + t];
}

template <class T, class Cell>
RECURRA_INLINE Before<T> before(const Sizes<T, Cell>& size, const Call& call, const Direction& direction, int field, int rank, int step) {
  const Plan& plan = *call.plan;
  const int row = plan.row[rank], t = time_of(direction, plan.length[rank], step), H = size.hidden;
  if (starts_anew<T>(direction, plan, row, t)) return {static_cast<const T*>(direction.reset_state[field]) + static_cast<ptrdiff_t>(row) * H, H};
  if (step == 0) return {static_cast<const T*>(direction.state[field]) + static_cast<ptrdiff_t>(row) * H, H};
  if (field == 0) return {at<T>(direction.output, row, direction.reverse ? t + 1 : t - 1), H};
  return {static_cast<const T*>(direction.saved) + (plan.first[step - 1] + rank) * size.saved() + Cell::planes * size.wide, size.wide};
}

// Gradients of the planes before activation (`d_planes`), of the initial and of the reset states.
template <class T, class Cell, bool noisy>
void backward_task(const Call& call, const Task& task, const BackwardWeights<T>& weights, T* d_planes, T* scratch) {
  using V = Vector<T>;
  constexpr int W = width<T>;
  const BackwardSizes<T, Cell> size(call);
  const Plan& plan = *call.plan;
  const Direction& direction = call.directions[task.direction];
  const int rows = task.end - task.begin, H = size.hidden;
  const ptrdiff_t wide = size.wide;  // times rows it may be more than an int holds
  if (rows == 0) return;
  const T* mask = static_cast<const T*>(direction.dropout);
  // Gradients of the state that do not pass through the weights: of h, and of c.
  T *carry = scratch, *d_c = scratch + static_cast<size_t>(rows) * wide;
  for (int r = 0; r < rows; ++r) {
    const ptrdiff_t row = static_cast<ptrdiff_t>(plan.row[task.begin + r]) * H;
    copy_row(carry + r * wide, static_cast<const T*>(direction.d_last[0]) + row, H, wide);
    if (Cell::fields > 1) copy_row(d_c + r * wide, static_cast<const T*>(direction.d_last[1]) + row, H, wide);
    for (int field = 0; field < Cell::fields; ++field)
      if (direction.d_reset_state[field]) std::memset(static_cast<T*>(direction.d_reset_state[field]) + row, 0, sizeof(T) * H);
  }
  const auto running = [&](int step) {
    const int n = plan.active[step] - task.begin;
    return n < 0 ? 0 : n > rows ? rows : n;
  };
  const auto planes_of = [&](int step, int r) { return d_planes + (plan.first[step] + task.begin + r) * size.d_planes(); };

  // One vector of units of one row: from the gradient of the state after the step to that of its planes. A step of -1 is
  // the state before the first.
  const auto unit = [&](int step, int r, int j, V product, bool read_later) {
    const int rank = task.begin + r, row = plan.row[rank], inside = H - j;
    T *carry_here = carry + r * wide + j, *d_c_here = d_c + r * wide + j;
    V dh = load(carry_here), dc{};
    if (Cell::fields > 1) dc = load(d_c_here);
    if (mask) product = product * load(mask + static_cast<ptrdiff_t>(row) * H + j, inside);
    dh = dh + product;
    if (read_later && starts_anew<T>(direction, plan, row, time_of(direction, plan.length[rank], step + 1))) {
      const auto move = [&](int field, V& gradient) {
        T* to = static_cast<T*>(direction.d_reset_state[field]) + static_cast<ptrdiff_t>(row) * H + j;
        store(to, load(to, inside) + gradient, inside);
        gradient = V{};
      };
      move(0, dh);
      if (Cell::fields > 1) move(1, dc);
    }
    if (step < 0) {
      store(static_cast<T*>(direction.d_state[0]) + static_cast<ptrdiff_t>(row) * H + j, dh, inside);
      if (Cell::fields > 1) store(static_cast<T*>(direction.d_state[1]) + static_cast<ptrdiff_t>(row) * H + j, dc, inside);
      return;
    }
    const int t = time_of(direction, plan.length[rank], step);
    dh = dh + load(at<T>(direction.d_output, row, t) + j, inside);
    const T* p = static_cast<const T*>(direction.saved) + (plan.first[step] + rank) * size.saved() + j;
    V h_before{}, c_before{}, c_new{}, kept_h{}, kept_c{};
    if (Cell::direct) {
      const Before<T> from = before(size, call, direction, 0, rank, step);
      h_before = load(from.numbers + j, from.count - j);
    }
    if (Cell::fields > 1) {
      const Before<T> from = before(size, call, direction, 1, rank, step);
      c_before = load(from.numbers + j, from.count - j);
      c_new = noisy ? Cell::cells(p, wide, c_before) : load(p + Cell::planes * wide);
    }
    if (noisy) {
      const V share = zone<T>(direction, 0, row, t, j, H);
      kept_h = share * dh;
      dh = dh - kept_h;
      if (Cell::fields > 1) {
        kept_c = zone<T>(direction, 1, row, t, j, H) * dc;
        dc = dc - kept_c;
      }
    }
    V dc_before{}, dh_before{};
    Cell::backward(dh, dc, h_before, c_before, c_new, p, wide, planes_of(step, r) + j, dc_before, dh_before);
    store(carry_here, dh_before + kept_h);
    if (Cell::fields > 1) store(d_c_here, dc_before + kept_c);
  };

  // What `unit` reads of some units of a row is long out of the caches: asked for before the product that it waits for.
  const auto fetch_units = [&](int step, int r, int j, int count) __attribute__((always_inline)) {
    const int rank = task.begin + r, row = plan.row[rank], t = time_of(direction, plan.length[rank], step);
    const T* p = static_cast<const T*>(direction.saved) + (plan.first[step] + rank) * size.saved() + j;
    for (int plane = 0; plane < Cell::planes + Cell::fields - 1; ++plane) fetch(p + plane * wide, count);
    fetch(at<T>(direction.d_output, row, t) + j, count);
    for (int field = Cell::direct ? 0 : 1; field < Cell::fields; ++field) fetch(before(size, call, direction, field, rank, step).numbers + j, count);
    for (const Sequence& shares : direction.zone)
      if (noisy && shares.data) direction.zone_marks ? fetch(at<uint8_t>(shares, row, t) + j, count) : fetch(at<T>(shares, row, t) + j, count);
  };

  Tile<T> tile;
  for (int step = plan.longest - 1; step >= -1; --step) {
    const int n = step < 0 ? rows : running(step), later = step + 1 < plan.longest ? running(step + 1) : 0;
    for (int panel = 0; panel < size.hidden_panels(); ++panel) {
      const T* weight = weights.hidden.panel(panel);
      const int vectors = weights.hidden.vectors_of(panel);
      for_tiles(later, tile_rows(vectors), [&](int first, int height) {
        const T* from[8];
        for (int m = 0; m < height; ++m) from[m] = planes_of(step + 1, first + m) + Cell::h_first * wide;
        if (step >= 0)
          for (int m = 0; m < height; ++m) fetch_units(step, first + m, panel * panel_vectors * W, vectors * W);
        multiply_tile<T>(from, height, weight, vectors, size.gates_wide(), nullptr, tile.rows);
        for (int m = 0; m < height; ++m)
          for (int v = 0; v < vectors; ++v) unit(step, first + m, (panel * panel_vectors + v) * W, load(tile.rows[m] + v * W), true);
      });
      for (int r = later; r < n; ++r)
        for (int v = 0; v < vectors; ++v) unit(step, r, (panel * panel_vectors + v) * W, V{}, false);
    }
  }
}

// Gradients of one group of W planes' columns: rows of d_w_ih or d_w_hh and their biases, summed over all real steps.
// Groups are numbered over the x planes, then over the h planes.
constexpr int gradient_block = 256;  // real steps at a time
constexpr int group_batch = 8;       // groups gathered at a time, whose numbers lie side by side

template <class T, class Cell>
void weight_gradients(const BackwardSizes<T, Cell>& size, const Call& call, const Direction& direction, const T* d_planes, int begin, int end, T* scratch) {
  constexpr int W = width<T>;
  const Plan& plan = *call.plan;
  const int groups = Cell::gates * size.vectors;
  for (int part = 0; part < 2; ++part) {
    const bool recurrent = part == 1;
    const int first = recurrent ? (begin > groups ? begin : groups) : begin, last = recurrent ? end : (end < groups ? end : groups);
    if (first >= last) continue;
    const int columns = recurrent ? size.hidden : size.features;
    const int vectors = recurrent ? size.vectors : size.features_vectors();
    T* d_w = static_cast<T*>(recurrent ? direction.d_w_hh : direction.d_w_ih);
    T* d_b = static_cast<T*>(recurrent ? direction.d_b_hh : direction.d_b_ih);
    if (!d_w && !d_b) continue;
    const ptrdiff_t stride = static_cast<ptrdiff_t>(vectors) * W;
    T* sums = scratch;
    T* biases = sums + (last - first) * W * stride;
    T* group_packed = biases + (last - first) * W;
    T* packed = group_packed + group_batch * gradient_block * W;
    std::memset(sums, 0, sizeof(T) * (last - first) * W * (stride + 1));
    for (int64_t k = 0; k < plan.total; k += gradient_block) {
      const int depth = plan.total - k < gradient_block ? static_cast<int>(plan.total - k) : gradient_block;
      for (int panel = 0; d_w && panel * panel_vectors < vectors; ++panel) {
        T* to = packed + static_cast<size_t>(panel) * panel_vectors * gradient_block * W;
        pack_rows(to, panel, depth, columns, vectors, [&](int i) -> const T* {
          const int rank = plan.rank_of[k + i], step = plan.step_of[k + i];
          if (!recurrent) return at<T>(call.x, plan.row[rank], time_of(direction, plan.length[rank], step));
          return before(size, call, direction, 0, rank, step).numbers;
        });
        if (recurrent && direction.dropout) {
          const T* mask = static_cast<const T*>(direction.dropout);
          const int wide = vectors - panel * panel_vectors < panel_vectors ? vectors - panel * panel_vectors : panel_vectors;
          for (int i = 0; i < depth; ++i)
            for (int n = 0; n < wide; ++n) {
              const int j = (panel * panel_vectors + n) * W;
              T* here = to + (static_cast<ptrdiff_t>(i) * wide + n) * W;
              store(here, load(here) * load(mask + static_cast<ptrdiff_t>(plan.row[plan.rank_of[k + i]]) * size.hidden + j, size.hidden - j));
            }
        }
      }
      for (int batch = first; batch < last; batch += group_batch) {
        const int batch_end = batch + group_batch < last ? batch + group_batch : last;
        const int column = recurrent ? batch - groups + Cell::h_first * size.vectors : batch;
        gather_groups<T, group_batch>(d_planes + k * size.d_planes() + column * W, size.d_planes(), depth, batch_end - batch, gradient_block, group_packed, biases + (batch - first) * W);
        for (int group = batch; group < batch_end; ++group)
          for (int panel = 0; d_w && panel * panel_vectors < vectors; ++panel) {
            const int wide = vectors - panel * panel_vectors < panel_vectors ? vectors - panel * panel_vectors : panel_vectors;
            columns_times_panel(group_packed + (group - batch) * gradient_block * W,
                                packed + static_cast<size_t>(panel) * panel_vectors * gradient_block * W, depth, wide,
                                sums + (group - first) * W * stride + panel * panel_vectors * W, stride);
          }
      }
    }
    for (int group = first; group < last; ++group) {
      const int plane = (recurrent ? group - groups : group) / size.vectors, vector = (recurrent ? group - groups : group) % size.vectors;
      for (int lane = 0; lane < W; ++lane) {
        const int row = weight_row(size, recurrent ? plane : Cell::x_gate(plane), vector * W + lane);
        if (row < 0) continue;
        if (d_w) std::memcpy(d_w + static_cast<ptrdiff_t>(row) * columns, sums + ((group - first) * W + lane) * stride, sizeof(T) * columns);
        if (d_b) d_b[row] = biases[(group - first) * W + lane];
      }
    }
  }
}

template <class T, class Cell>
size_t gradient_scratch(const BackwardSizes<T, Cell>& size, int groups) {
  const size_t widest = static_cast<size_t>(size.vectors > size.features_vectors() ? size.vectors : size.features_vectors()) * width<T>;
  return groups * width<T> * (widest + 1) + gradient_block * (group_batch * width<T> + widest);
}

// Gradients of the input of one block of real steps: of each step `d_wide` numbers, which begin with those of the planes
// that the input reached. What a second direction gives is summed apart (`apart` has room for a block) and then added, so
// that both directions in one call are the same to the last bit as a call of each.
template <class T>
void input_gradients(const Call& call, const Direction& direction, const Panels<T>& weights, const T* d_planes, ptrdiff_t d_wide, int64_t block, T* apart) {
  const Plan& plan = *call.plan;
  const int features = call.features;
  Pointers<T> some;
  T* sums[chunk_rows];
  for (int64_t i = block * chunk_rows; i < plan.total && some.count < chunk_rows; ++i) {
    const int rank = plan.rank_of[i];
    some.from[some.count] = d_planes + i * d_wide;
    sums[some.count] = apart ? apart + static_cast<ptrdiff_t>(some.count) * features : nullptr;
    some.to[some.count++] = at<T>(call.d_x, plan.row[rank], time_of(direction, plan.length[rank], plan.step_of[i]));
  }
  rows_times_panels<T>(some.from, apart ? sums : some.to, some.count, weights, Start::bias, nullptr, features);
  for (int i = 0; apart && i < some.count; ++i)
    for (int j = 0; j < features; j += width<T>) store(some.to[i] + j, load(some.to[i] + j, features - j) + load(sums[i] + j, features - j), features - j);
}

// Numbers that the sums of a second direction need.
RECURRA_INLINE size_t apart_size(const Call& call) {
  return call.direction_count > 1 && call.d_x.data ? static_cast<size_t>(chunk_rows) * call.features : 0;
}

template <class T, class Cell>
bool backward(const Call& call) {
  const BackwardSizes<T, Cell> size(call);
  const Plan& plan = *call.plan;
  bool noisy = false;
  for (int d = 0; d < call.direction_count; ++d) {
    const Direction& each = call.directions[d];
    noisy = noisy || each.zone[0].data || each.zone[1].data || each.zone_rate[0] != 0 || each.zone_rate[1] != 0;
  }
  const size_t planes = static_cast<size_t>(plan.total) * size.d_planes();
  size_t most_rows = 0;
  for (int i = 0; i < call.task_count; ++i) {
    const size_t rows = call.tasks[i].end - call.tasks[i].begin;
    most_rows = rows > most_rows ? rows : most_rows;
  }
  const int groups = 2 * Cell::gates * size.vectors;
  // Groups a thread takes at once: all of a direction where threads are few, so that inputs are packed once.
  const int shares = (call.threads + call.direction_count - 1) / call.direction_count;
  const int share = (groups + shares - 1) / shares;
  const size_t task_scratch = most_rows * size.wide * 2, share_scratch = gradient_scratch(size, share);
  const size_t zeros_size = size.features > size.hidden ? size.features : size.hidden;
  const Buffer<T> packed(size.packed_size() * call.direction_count), d_planes(planes * call.direction_count);
  const Buffer<T> scratch(task_scratch * call.task_count), shares_scratch(share_scratch * shares * call.direction_count), zeros(zeros_size);
  const Buffer<T> apart(apart_size(call) * call.threads);
  if (!packed.data || !d_planes.data || !scratch.data || !shares_scratch.data || !zeros.data || !apart.data) return false;
  std::memset(zeros.data, 0, sizeof(T) * zeros_size);
  const int items = size.hidden_panels() + size.features_panels();
  const int64_t blocks = (plan.total + chunk_rows - 1) / chunk_rows;
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    const recurra::DenormalsAreZero mode;
#pragma omp for schedule(static)
    for (int item = 0; item < items * call.direction_count; ++item)
      pack_backward<T, Cell>(size, call.directions[item / items], zeros.data, packed.data + size.packed_size() * (item / items), item % items);
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < call.task_count; ++i) {
      const Task& task = call.tasks[i];
      const auto weights = backward_weights<T, Cell>(size, packed.data + size.packed_size() * task.direction);
      T* gradients = d_planes.data + planes * task.direction;
      if (noisy)
        backward_task<T, Cell, true>(call, task, weights, gradients, scratch.data + task_scratch * i);
      else
        backward_task<T, Cell, false>(call, task, weights, gradients, scratch.data + task_scratch * i);
    }
    if (call.d_x.data) {
#pragma omp for schedule(static)
      for (int row = 0; row < plan.batch; ++row)
        for (int t = plan.length[row]; t < plan.steps; ++t) std::memset(at<T>(call.d_x, plan.row[row], t), 0, sizeof(T) * size.features);
      for (int d = 0; d < call.direction_count; ++d) {
        const auto weights = backward_weights<T, Cell>(size, packed.data + size.packed_size() * d);
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; ++block)
          input_gradients<T>(call, call.directions[d], weights.input, d_planes.data + planes * d, size.d_planes(), block,
                             d ? apart.data + apart_size(call) * omp_get_thread_num() : nullptr);
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < shares * call.direction_count; ++i) {
      const int d = i / shares, begin = (i % shares) * share, end = begin + share < groups ? begin + share : groups;
      weight_gradients<T, Cell>(size, call, call.directions[d], d_planes.data + planes * d, begin, end, shares_scratch.data + share_scratch * i);
    }
  }
  return true;
}

}  // namespace RECURRA_ISA
