// The backward pass of row_recurrence.h through the steps; sums over all steps are in row_gradient.h.
#pragma once

#include "row_recurrence.h"

namespace RECURRA_ISA {

// Weights of one direction, packed for the backward pass.
template <class T>
struct RowBackwardWeights {
  const RowSizes<T>& size;
  BackwardMatrix<T> input, hidden, second;

  explicit RowBackwardWeights(const RowSizes<T>& size) : size(size), input{size.input}, hidden{size.hidden}, second{size.second} {}
  size_t hidden_at() const { return input.size(); }
  size_t second_at() const { return hidden_at() + hidden.size(); }
  size_t vectors_at() const { return second_at() + (size.twice() ? second.size() : 0); }
  size_t total() const { return vectors_at() + vectors_size(size); }
  int items() const { return input.panels() + hidden.panels() + (size.twice() ? second.panels() : 0) + 1; }

  void pack(const Direction& direction, const T* zeros, T* to, int item) const {
    if (item < input.panels()) return input.pack(static_cast<const T*>(direction.w_ih), zeros, to, item);
    item -= input.panels();
    if (item < hidden.panels()) return hidden.pack(static_cast<const T*>(direction.w_hh), zeros, to + hidden_at(), item);
    item -= hidden.panels();
    if (size.twice() && item < second.panels()) return second.pack(static_cast<const T*>(size.second_weight(direction)), zeros, to + second_at(), item);
    pack_vectors(size, direction, to + vectors_at());
  }
};

// A field of the state that a step of a rank read.
template <class T>
const T* state_before(const RowSizes<T>& size, const Call& call, const Direction& direction, int field, int rank, int step) {
  const Plan& plan = *call.plan;
  const int row = plan.row[rank], t = time_of(direction, plan.length[rank], step);
  const ptrdiff_t place = static_cast<ptrdiff_t>(row) * size.field_size(field);
  if (starts_anew<T>(direction, plan, row, t)) return static_cast<const T*>(direction.reset_state[field]) + place;
  if (step == 0) return static_cast<const T*>(direction.state[field]) + place;
  if (field == 0) return at<T>(direction.output, row, direction.reverse ? t + 1 : t - 1);
  return static_cast<const T*>(direction.saved) + (plan.first[step - 1] + rank) * size.saved() + size.states_at() + (field - 1) * size.wide;
}

template <class T>
class RowBackward {
 public:
  RowBackward(const Call& call, const Equations<T>& equations, const RowBackwardWeights<T>& weights, const T* packed, const Task& task, T* d_planes,
              T* sums, T* scratch)
      : call(call), plan(*call.plan), equations(equations), form(equations.form), weights(weights), size(weights.size), packed(packed), task(task),
        direction(call.directions[task.direction]), rows(task.end - task.begin), d_planes(d_planes), sums(sums) {
    const size_t block = static_cast<size_t>(rows) * size.state_wide();
    for (int field = 0; field < form.fields; ++field, scratch += 2 * block) d[field] = scratch, kept[field] = scratch + block;
    d_read = scratch, scratch += block;
    d_between = scratch, scratch += size.twice() ? block : 0;
    for (int field = 0; field < form.fields; ++field, scratch += size.state_wide()) before[field] = scratch;
    read = scratch;
  }

  static size_t scratch_size(const RowSizes<T>& size, int rows) {
    return static_cast<size_t>(size.state_wide()) * (static_cast<size_t>(rows) * (2 * size.form.fields + 1 + size.twice()) + size.form.fields + 1);
  }

  void run() {
    for (int r = 0; r < rows; ++r) start(r);
    for (int step = plan.longest - 1; step >= -1; --step) {
      const int n = step < 0 ? rows : running(plan, task, step), later = running(plan, task, step + 1);
      for (int r = 0; r < n; ++r) {
        if (r < later) arrive(step + 1, r);
        if (step < 0) continue;
        if (r + 4 < n) fetch(at<T>(direction.d_output, plan.row[task.begin + r + 4], time(step, r + 4)), size.outputs);
        enter(step, r);
      }
      if (step >= 0) run_step(step, n);
    }
    for (int r = 0; r < rows; ++r)
      for (int field = 0; field < form.fields; ++field) {
        const int count = size.field_size(field);
        std::memcpy(static_cast<T*>(direction.d_state[field]) + static_cast<ptrdiff_t>(plan.row[task.begin + r]) * count, gradient(field, r), sizeof(T) * count);
      }
  }

 private:
  T* gradient(int field, int r) const { return d[field] + static_cast<ptrdiff_t>(r) * size.state_wide(); }
  T* in_row(T* of, int r) const { return of + static_cast<ptrdiff_t>(r) * size.state_wide(); }
  int time(int step, int r) const { return time_of(direction, plan.length[task.begin + r], step); }
  T* planes_of(int step, int r) const { return d_planes + (plan.first[step] + task.begin + r) * size.d_wide(); }
  T* sums_of(int r) const { return sums + static_cast<ptrdiff_t>(task.begin + r) * size.form.sums * size.wide; }
  const T* mask_of(int r) const {
    return direction.dropout ? static_cast<const T*>(direction.dropout) + static_cast<ptrdiff_t>(plan.row[task.begin + r]) * size.outputs : nullptr;
  }

  void start(int r) {
    for (int field = 0; field < form.fields; ++field) {
      const int count = size.field_size(field);
      const ptrdiff_t place = static_cast<ptrdiff_t>(plan.row[task.begin + r]) * count;
      copy_row(gradient(field, r), static_cast<const T*>(direction.d_last[field]) + place, count, size.field_wide(field));
      if (direction.d_reset_state[field]) std::memset(static_cast<T*>(direction.d_reset_state[field]) + place, 0, sizeof(T) * count);
    }
    std::memset(sums_of(r), 0, sizeof(T) * form.sums * size.wide);
  }

  // From the state that a step read: what came through its products, and what goes to the reset state instead of the step before.
  void arrive(int step, int r) {
    const T* mask = mask_of(r);
    for (int j = 0; j < size.out_wide; j += width<T>) {
      const Vector<T> through = load(in_row(d_read, r) + j);
      store(gradient(0, r) + j, load(gradient(0, r) + j) + (mask ? through * load(mask + j, size.outputs - j) : through));
    }
    const int row = plan.row[task.begin + r];
    if (!starts_anew<T>(direction, plan, row, time(step, r))) return;
    for (int field = 0; field < form.fields; ++field) {
      const int count = size.field_size(field);
      T* to = static_cast<T*>(direction.d_reset_state[field]) + static_cast<ptrdiff_t>(row) * count;
      for (int j = 0; j < count; ++j) to[j] += gradient(field, r)[j];
      std::memset(gradient(field, r), 0, sizeof(T) * size.field_wide(field));
    }
  }

  // To the state that a step puts out, less what zoneout hands on.
  void enter(int step, int r) {
    const int row = plan.row[task.begin + r], t = time(step, r);
    const T* d_output = at<T>(direction.d_output, row, t);
    for (int j = 0; j < size.out_wide; j += width<T>) store(gradient(0, r) + j, load(gradient(0, r) + j) + load(d_output + j, size.outputs - j));
    for (int field = 0; field < form.fields; ++field)
      if (zoned(form, direction, field))
        for (int j = 0; j < size.field_wide(field); j += width<T>) {
          const Vector<T> all = load(gradient(field, r) + j);
          const Vector<T> part = all * zone<T>(direction, form.one_zone && field ? 1 : field, row, t, j, size.field_size(field));
          store(in_row(kept[field], r) + j, part);
          store(gradient(field, r) + j, all - part);
        }
  }

  void run_step(int step, int n) {
    Row<T> row{};
    row.units = size.units, row.wide = size.wide, row.out_wide = size.out_wide;
    row.inside = packed + weights.vectors_at(), row.vectors = row.inside + size.wide;
    row.rate = inner_rate<T>(form, direction);
    const auto over_rows = [&](void (*step_of)(const Row<T>&)) {
      for (int r = 0; r < n; ++r) {
        row.planes = static_cast<T*>(direction.saved) + (plan.first[step] + task.begin + r) * size.saved();
        row.extra = row.planes + size.gates_wide(), row.between = row.extra + size.extra_wide();
        row.d_planes = planes_of(step, r), row.d_between = in_row(d_between, r), row.d_read = in_row(d_read, r), row.sums = sums_of(r);
        for (int field = 0; field < form.fields; ++field) row.d[field] = gradient(field, r);
        fill_before(step, r, row);
        if (r + 1 < n) fetch_row(step, r + 1);
        step_of(row);
      }
    };
    if (size.twice()) {
      over_rows(equations.backward_begin);
      weights.second.multiply(packed + weights.second_at(), n, false, [&](int r) { return planes_of(step, r) + size.d_second_at(); },
                              [&](int r) { return in_row(d_between, r); });
    }
    over_rows(equations.backward);
    weights.hidden.multiply(packed + weights.hidden_at(), n, form.second == Second::new_values,
                            [&](int r) { return planes_of(step, r) + size.d_hidden_at(); }, [&](int r) { return in_row(d_read, r); });
    for (int field = 0; field < form.fields; ++field)
      if (zoned(form, direction, field))
        for (int r = 0; r < n; ++r)
          for (int j = 0; j < size.field_wide(field); j += width<T>) store(gradient(field, r) + j, load(gradient(field, r) + j) + load(in_row(kept[field], r) + j));
  }

  // What the next row reads is long out of the caches.
  RECURRA_INLINE void fetch_row(int step, int r) const {
    const int rank = task.begin + r;
    fetch(static_cast<const T*>(direction.saved) + (plan.first[step] + rank) * size.saved(), size.saved());
    for (int field = form.direct ? 0 : 1; field < form.fields; ++field) fetch(state_before(size, call, direction, field, rank, step), size.field_size(field));
  }

  // The state that the step read, with zeros in the padding.
  void fill_before(int step, int r, Row<T>& row) {
    for (int field = form.direct ? 0 : 1; field < form.fields; ++field) {
      const int count = size.field_size(field);
      row.old[field] = state_before(size, call, direction, field, task.begin + r, step);
      if (count == size.field_wide(field)) continue;
      copy_row(before[field], row.old[field], count, size.field_wide(field));
      row.old[field] = before[field];
    }
    row.read = row.old[0];
    const T* mask = mask_of(r);
    if (!form.direct || !mask) return;
    for (int j = 0; j < size.out_wide; j += width<T>) store(read + j, load(row.old[0] + j) * load(mask + j, size.outputs - j));
    row.read = read;
  }

  const Call& call;
  const Plan& plan;
  const Equations<T>& equations;
  const Form& form;
  const RowBackwardWeights<T>& weights;
  const RowSizes<T>& size;
  const T* packed;
  const Task& task;
  const Direction& direction;
  const int rows;
  T *d_planes, *sums;
  T *d[most_fields], *kept[most_fields], *d_read, *d_between, *before[most_fields], *read;
};

}  // namespace RECURRA_ISA
