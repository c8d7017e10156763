// The forward pass of row_recurrence.h.
#pragma once

#include "row_recurrence.h"

namespace RECURRA_ISA {

// Weights of one direction, packed for the forward pass: the input's panels, the recurrent ones', the biases of the
// input's product, the vectors.
template <class T>
struct RowWeights {
  const RowSizes<T>& size;
  ForwardMatrix<T> hidden, second;

  explicit RowWeights(const RowSizes<T>& size) : size(size), hidden{size.hidden}, second{size.second} {}
  int input_vectors() const { return size.gates_wide() / width<T>; }
  int input_panels() const { return (input_vectors() + panel_vectors - 1) / panel_vectors; }
  size_t hidden_at() const { return static_cast<size_t>(size.features) * size.gates_wide(); }
  size_t second_at() const { return hidden_at() + hidden.size(); }
  size_t bias_at() const { return second_at() + (size.twice() ? second.size() : 0); }
  size_t vectors_at() const { return bias_at() + size.gates_wide(); }
  size_t total() const { return vectors_at() + vectors_size(size); }
  Panels<T> input(const T* packed) const { return {packed, size.features, input_vectors()}; }
  int items() const { return input_panels() + hidden.panels() + (size.twice() ? second.panels() : 0) + 1; }

  void pack(const Direction& direction, T* to, int item) const {
    if (item < input_panels()) {
      T* panel = to + static_cast<size_t>(item) * panel_vectors * width<T> * size.features;
      return pack_columns(panel, item, size.features, input_vectors(), [&](int column) -> const T* {
        const int unit = column % size.wide;
        return unit < size.units ? static_cast<const T*>(size.input.weight(direction.w_ih, sizeof(T), column / size.wide, unit)) : nullptr;
      });
    }
    item -= input_panels();
    if (item < hidden.panels()) return hidden.pack(static_cast<const T*>(direction.w_hh), to + hidden_at(), item);
    item -= hidden.panels();
    if (size.twice() && item < second.panels()) return second.pack(static_cast<const T*>(size.second_weight(direction)), to + second_at(), item);
    pack_vectors(size, direction, to + vectors_at());
    const T *b_ih = static_cast<const T*>(direction.b_ih), *b_hh = static_cast<const T*>(direction.b_hh);
    for (int gate = 0; gate < size.form.gates; ++gate)
      for (int j = 0; j < size.wide; ++j) {
        const int row = gate * size.units + j;
        to[bias_at() + gate * size.wide + j] = j < size.units && !size.form.normalized ? b_ih[row] + b_hh[row] : T(0);
      }
  }
};

template <class T>
class RowForward {
 public:
  RowForward(const Call& call, const Equations<T>& equations, const RowWeights<T>& weights, const T* packed, const Task& task, T* ready, T* scratch)
      : call(call), plan(*call.plan), equations(equations), form(equations.form), weights(weights), size(weights.size), packed(packed), task(task),
        direction(call.directions[task.direction]), rows(task.end - task.begin), saving(direction.saved), ready(ready) {
    const size_t block = static_cast<size_t>(rows) * size.state_wide();
    for (int field = 0; field < form.fields; ++field, scratch += 2 * block) old[field] = scratch, now[field] = scratch + block;
    read = scratch, scratch += block;
    products = scratch, scratch += static_cast<size_t>(rows) * weights.hidden.columns();
    seconds = scratch, scratch += size.twice() ? static_cast<size_t>(rows) * weights.second.columns() : 0;
    kept = scratch, scratch += saving ? 0 : static_cast<size_t>(rows) * size.kept_wide();
    planes_here = scratch;
  }

  static size_t scratch_size(const RowWeights<T>& weights, int rows, bool saving) {
    const RowSizes<T>& size = weights.size;
    const size_t a_row = static_cast<size_t>(size.state_wide()) * (2 * size.form.fields + 1) + weights.hidden.columns() +
                         (size.twice() ? weights.second.columns() : 0) + (saving ? 0 : size.kept_wide());
    return rows * a_row + (saving ? 0 : static_cast<size_t>(rows > chunk_rows ? rows : chunk_rows) * size.gates_wide());
  }

  void run() {
    if (rows == 0) return;
    for (int r = 0; r < rows; ++r) {
      enter(r, direction.state);
      const int rank = task.begin + r;
      for (int t = plan.length[rank]; t < plan.steps; ++t) std::memset(at<T>(direction.output, plan.row[rank], t), 0, sizeof(T) * size.outputs);
    }
    leave(running(plan, task, 0), rows);
    int chunk = chunk_rows / rows;
    if (chunk < 1) chunk = 1;
    for (begin = 0; running(plan, task, begin) > 0; begin += chunk) {
      const int end = begin + chunk < plan.longest ? begin + chunk : plan.longest;
      if (!ready) own_products(end);
      for (int step = begin; step < end && running(plan, task, step) > 0; ++step) {
        read_state(step);
        run_step(step);
        leave(running(plan, task, step + 1), running(plan, task, step));
      }
    }
  }

 private:
  T* state(T* const* which, int field, int r) const { return which[field] + static_cast<ptrdiff_t>(r) * size.state_wide(); }
  int time(int step, int r) const { return time_of(direction, plan.length[task.begin + r], step); }
  T* planes_of(int step, int r) const {
    return saving ? static_cast<T*>(direction.saved) + (plan.first[step] + task.begin + r) * size.saved()
           : ready ? ready + (plan.first[step] + task.begin + r) * size.gates_wide()
                   : planes_here + (static_cast<size_t>(step - begin) * rows + r) * size.gates_wide();
  }
  T* kept_of(int step, int r) const { return saving ? planes_of(step, r) + size.gates_wide() : kept + static_cast<size_t>(r) * size.kept_wide(); }
  T* between_of(int step, int r) const { return kept_of(step, r) + size.extra_wide(); }

  void enter(int r, const void* const* from) {
    for (int field = 0; field < form.fields; ++field) {
      const int count = size.field_size(field);
      copy_row(state(old, field, r), static_cast<const T*>(from[field]) + static_cast<ptrdiff_t>(plan.row[task.begin + r]) * count, count, size.field_wide(field));
    }
  }

  // Rows [from, to) have no more steps.
  void leave(int from, int to) {
    for (int field = 0; field < form.fields; ++field)
      for (int r = from; r < to; ++r) {
        const int count = size.field_size(field);
        std::memcpy(static_cast<T*>(direction.last[field]) + static_cast<ptrdiff_t>(plan.row[task.begin + r]) * count, state(old, field, r), sizeof(T) * count);
      }
  }

  void own_products(int end) {
    const Panels<T> panels = weights.input(packed);
    Pointers<T> some;
    const auto flush = [&] {
      rows_times_panels<T>(some.from, some.to, some.count, panels, Start::bias, packed + weights.bias_at(), size.gates_wide());
      some.count = 0;
    };
    for (int step = begin; step < end; ++step)
      for (int r = 0; r < running(plan, task, step); ++r) {
        some.from[some.count] = at<T>(call.x, plan.row[task.begin + r], time(step, r));
        some.to[some.count++] = planes_of(step, r);
        if (some.count == chunk_rows) flush();
      }
    if (some.count) flush();
  }

  // Resets, and the h that the products read.
  void read_state(int step) {
    for (int r = 0; r < running(plan, task, step); ++r) {
      const int row = plan.row[task.begin + r];
      if (starts_anew<T>(direction, plan, row, time(step, r))) enter(r, direction.reset_state);
      if (!direction.dropout) continue;
      const T* mask = static_cast<const T*>(direction.dropout) + static_cast<ptrdiff_t>(row) * size.outputs;
      for (int j = 0; j < size.out_wide; j += width<T>) store(state(&read, 0, r) + j, load(state(old, 0, r) + j) * load(mask + j, size.outputs - j));
    }
  }

  void run_step(int step) {
    const int n = running(plan, task, step);
    T* const* reading = direction.dropout ? &read : old;
    bool silent = step == 0;
    for (int r = 0; silent && r < n; ++r) silent = all_zero(state(reading, 0, r), size.out_wide);
    if (silent)
      std::memset(products, 0, sizeof(T) * n * weights.hidden.columns());
    else
      weights.hidden.multiply(packed + weights.hidden_at(), n, [&](int r) { return state(reading, 0, r); }, [&](int r) { return product_of(r); });
    Row<T> row{};
    row.units = size.units, row.wide = size.wide, row.out_wide = size.out_wide;
    row.inside = packed + weights.vectors_at(), row.vectors = row.inside + size.wide;
    row.rate = inner_rate<T>(form, direction);
    const auto over_rows = [&](void (*step_of)(const Row<T>&)) {
      for (int r = 0; r < n; ++r) {
        row.product = product_of(r), row.second = second_of(r);
        row.planes = planes_of(step, r), row.extra = kept_of(step, r), row.between = between_of(step, r);
        row.read = state(reading, 0, r);
        for (int field = 0; field < form.fields; ++field) row.old[field] = state(old, field, r), row.now[field] = state(now, field, r);
        step_of(row);
      }
    };
    over_rows(equations.forward);
    if (size.twice()) {
      weights.second.multiply(packed + weights.second_at(), n, [&](int r) { return between_of(step, r); }, [&](int r) { return second_of(r); });
      over_rows(equations.forward_end);
    }
    for (int r = 0; r < n; ++r) finish(step, r);
    for (int field = 0; field < form.fields; ++field) {
      T* swap = old[field];
      old[field] = now[field], now[field] = swap;
    }
  }

  T* product_of(int r) const { return products + static_cast<ptrdiff_t>(r) * weights.hidden.columns(); }
  T* second_of(int r) const { return seconds + static_cast<ptrdiff_t>(r) * weights.second.columns(); }

  // Zoneout, the output, and the state for the way back.
  void finish(int step, int r) {
    const int row = plan.row[task.begin + r], t = time(step, r);
    for (int field = 0; field < form.fields; ++field) {
      const T* before = state(old, field, r);
      T* after = state(now, field, r);
      if (zoned(form, direction, field))
        for (int j = 0; j < size.field_wide(field); j += width<T>) {
          const Vector<T> share = zone<T>(direction, form.one_zone && field ? 1 : field, row, t, j, size.field_size(field));
          store(after + j, fma(share, load(before + j) - load(after + j), load(after + j)));
        }
      if (saving && field) std::memcpy(planes_of(step, r) + size.states_at() + (field - 1) * size.wide, after, sizeof(T) * size.wide);
    }
    std::memcpy(at<T>(direction.output, row, t), state(now, 0, r), sizeof(T) * size.outputs);
  }

  const Call& call;
  const Plan& plan;
  const Equations<T>& equations;
  const Form& form;
  const RowWeights<T>& weights;
  const RowSizes<T>& size;
  const T* packed;
  const Task& task;
  const Direction& direction;
  const int rows;
  const bool saving;
  T* const ready;  // see SharedProducts
  int begin = 0;  // first step of the chunk
  T *old[most_fields], *now[most_fields], *read, *products, *seconds, *kept, *planes_here;
};

template <class T>
bool row_forward(const Equations<T>& equations, const Call& call) {
  const RowSizes<T> size(equations.form, call);
  const RowWeights<T> weights(size);
  const bool saving = call.directions[0].saved;
  size_t most = 0;
  for (int i = 0; i < call.task_count; ++i) {
    const size_t needed = RowForward<T>::scratch_size(weights, call.tasks[i].end - call.tasks[i].begin, saving);
    most = needed > most ? needed : most;
  }
  const Buffer<T> packed(weights.total() * call.direction_count), scratch(most * call.task_count);
  const SharedProducts<T> shared(call, size.saved(), size.gates_wide());
  if (!packed.data || !scratch.data || !shared.planes.data) return false;
  const int items = weights.items();
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    const recurra::DenormalsAreZero mode;
#pragma omp for schedule(static)
    for (int item = 0; item < items * call.direction_count; ++item)
      weights.pack(call.directions[item / items], packed.data + weights.total() * (item / items), item % items);
    if (shared.wanted) {
#pragma omp for schedule(static)
      for (int thread = 0; thread < call.threads; ++thread)
        shared.share(call, thread, [&](int d, int64_t begin, int64_t end) {
          const T* own = packed.data + weights.total() * d;
          input_products<T>(call, call.directions[d], weights.input(own), own + weights.bias_at(), size.gates_wide(), begin, end, shared.of(call, d), shared.stride);
        });
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < call.task_count; ++i) {
      const int d = call.tasks[i].direction;
      RowForward<T>(call, equations, weights, packed.data + weights.total() * d, call.tasks[i], shared.of(call, d), scratch.data + most * i).run();
    }
  }
  return true;
}

}  // namespace RECURRA_ISA
