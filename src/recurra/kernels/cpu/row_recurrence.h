// The second driver of gated recurrences: for equations that need a whole row at once (layer normalization), more than one
// product a step (a reset gate before the product, a projection), a block-diagonal matrix, or a state of many fields.
//
// It works as the first (recurrence.h) does and shares its parts, but in phases: a step's recurrent products of all rows of
// a task are written to memory, then the equations run over each row. An operation is a `Form`, which says what there is,
// and functions over a `Row`; see rows.cpp. They are called through pointers, so that the driver is compiled once a type.
//
// Gradients of matrices are products over all real steps, as in the first driver. Those of vectors that stand inside the
// equations are summed row by row of the batch, then over the rows in order: the same for every division into tasks.
#pragma once

#include "gradient.h"

namespace RECURRA_ISA {

using recurra::most_fields;

constexpr int most_vectors = 6;

// What a step has beside the products of the input and of the hidden state.
enum class Second {
  none,
  new_values,  // the last gate's recurrent product reads what the others made of h
  projection,  // the hidden state is a product of what the units put out
};

// A weight that is a vector of some gates.
struct VectorWeight {
  int source;  // 0: b_ih, 1: b_hh, from 2 on: Direction::more
  int gates;
  int sum;     // first plane of the row sums where its gradient is; two weights may have the same
};

struct Form {
  int gates, fields;
  int from_h;       // gates whose recurrent product reads h: the first ones
  Second second;
  bool normalized;  // biases stand inside the equations, and the two products have gradients of their own
  bool direct;      // the equations read h itself
  bool one_zone;    // zoneout moves all fields but h as one; a rate does it inside the equations
  int extra;        // planes saved beside those of the gates
  int numbers;      // single numbers saved
  int sums;         // planes of row sums
  int vector_count;
  VectorWeight vectors[most_vectors];
};

// One row at one step. Planes are `wide` numbers; what stands in the padding is finite, and zero where it is a gradient.
template <class T>
struct Row {
  int units, wide;      // H, padded H
  int out_wide;         // padded P
  const T* product;     // of h with the matrix: for each vector of units the gates side by side
  const T* second;      // of `between`: vectors of units
  T* planes;            // the input's product, one a gate; left with what the way back needs
  T* extra;             // more of that: `Form::extra` planes, then the numbers
  T* between;           // what the second product reads
  const T* old[most_fields];
  T* now[most_fields];
  const T* read;        // h with dropout
  const T* vectors;     // the vector weights, plane after plane
  const T* inside;      // one for a unit, zero in the padding
  T rate;               // share of its memory that a row keeps, where `Form::one_zone` has a rate
  // On the way back.
  T* d[most_fields];    // gradients of the state after the step, replaced by those of the state before
  T* d_planes;          // of the products: input's and recurrent one's (`normalized`: one behind the other), then the projection's
  const T* d_between;
  T* d_read;            // what reaches h with dropout other than through the matrix of `product`
  T* sums;
};

template <class T>
struct Equations {
  Form form;
  void (*forward)(const Row<T>&);
  void (*forward_end)(const Row<T>&);     // behind the second product
  void (*backward_begin)(const Row<T>&);  // before the second product's way back
  void (*backward)(const Row<T>&);
};

// Numbers [begin, begin + count).
struct Range {
  int begin, count;
};

// A weight matrix: for each gate a row a unit, in heads that read only their own part of the input.
struct Matrix {
  int gates, units, reads;
  int head;         // numbers of a row: `reads`, or those of a head
  ptrdiff_t first;  // row where it begins

  bool whole() const { return head == reads; }
  int block() const { return units / (reads / head); }  // units of a head
  const void* weight(const void* w, size_t size, int gate, int unit) const {
    return static_cast<const char*>(w) + (first + static_cast<ptrdiff_t>(gate) * units + unit) * head * size;
  }
  // What the units [unit, unit + count) read, and who reads the numbers [read, read + count).
  Range reads_of(int unit, int count) const { return heads(unit, count, units, block(), head); }
  Range units_of(int read, int count) const { return heads(read, count, reads, head, block()); }

 private:
  static Range heads(int at, int count, int all, int mine, int theirs) {
    const int last = (at + count < all ? at + count : all) - 1;
    return {at / mine * theirs, (last / mine - at / mine + 1) * theirs};
  }
};

// A matrix packed for the way forward: panels of the gates of some units side by side.
template <class T>
struct ForwardMatrix : Matrix {
  int units_vectors() const { return panel_vectors / gates; }  // vectors of units in a panel
  int panel_columns() const { return gates * units_vectors(); }
  int panels() const { return (padded<T>(units) / width<T> + units_vectors() - 1) / units_vectors(); }
  int columns() const { return panels() * panel_columns() * width<T>; }
  size_t panel_size() const { return static_cast<size_t>(panel_columns()) * width<T> * reads; }
  size_t size() const { return panel_size() * panels(); }

  void pack(const T* w, T* to, int panel) const {
    constexpr int W = width<T>;
    const int N = panel_columns(), first_unit = panel * units_vectors() * W;
    to += panel_size() * panel;
    const auto column = [&](int number) -> const T* {
      const int vector = number / W, unit = first_unit + vector / gates * W + number % W;
      return unit < units ? static_cast<const T*>(weight(w, sizeof(T), vector % gates, unit)) : nullptr;
    };
    if (whole()) return pack_columns(to, 0, reads, N, column);
    const Range range = reads_of(first_unit, units_vectors() * W);
    for (int number = 0; number < N * W; ++number) {
      const T* from = column(number);
      const int unit = first_unit + number / W / gates * W + number % W;
      const int begin = unit / block() * head - range.begin;
      for (int k = 0; k < range.count; ++k) to[static_cast<ptrdiff_t>(k) * N * W + number] = from && k >= begin && k < begin + head ? from[k - begin] : T(0);
    }
  }

  // from(row) -> what the matrix reads; to(row) -> `columns` numbers.
  template <class From, class To>
  void multiply(const T* packed, int rows, From&& from, To&& to) const {
    const int N = panel_columns();
    for (int panel = 0; panel < panels(); ++panel) {
      const Range range = reads_of(panel * units_vectors() * width<T>, units_vectors() * width<T>);
      for_tiles(rows, tile_rows(N), [&](int first, int height) {
        const T* read[8];
        T* written[8];
        for (int m = 0; m < height; ++m) {
          read[m] = from(first + m) + range.begin;
          written[m] = to(first + m) + static_cast<ptrdiff_t>(panel) * N * width<T>;
        }
        multiply_tile<T>(read, height, packed + panel_size() * panel, N, range.count, nullptr, written);
      });
    }
  }
};

// The same for the way back: from planes of gradients, one a gate, to those of what the matrix read.
template <class T>
struct BackwardMatrix : Matrix {
  int vectors() const { return padded<T>(reads) / width<T>; }
  int panels() const { return (vectors() + panel_vectors - 1) / panel_vectors; }
  int wide() const { return padded<T>(units); }
  size_t size() const { return static_cast<size_t>(gates) * wide() * padded<T>(reads); }
  T* panel(T* packed, int number) const { return packed + static_cast<size_t>(number) * panel_vectors * gates * wide() * width<T>; }

  void pack(const T* w, const T* zeros, T* packed, int number) const {
    constexpr int W = width<T>;
    T* to = panel(packed, number);
    if (whole())
      return pack_rows(to, number, gates * wide(), reads, vectors(), [&](int k) -> const T* {
        return k % wide() < units ? static_cast<const T*>(weight(w, sizeof(T), k / wide(), k % wide())) : zeros;
      });
    const int left = vectors() - number * panel_vectors, columns = (left < panel_vectors ? left : panel_vectors) * W;
    const int first = number * panel_vectors * W;
    const Range range = units_of(first, columns);
    for (int gate = 0; gate < gates; ++gate)
      for (int k = 0; k < range.count; ++k) {
        const int unit = range.begin + k, begin = unit / block() * head;
        const T* from = static_cast<const T*>(weight(w, sizeof(T), gate, unit));
        for (int column = 0; column < columns; ++column) {
          const int read = first + column - begin;
          *to++ = read >= 0 && read < head ? from[read] : T(0);
        }
      }
  }

  // from(row) -> planes; to(row) -> padded numbers, added to or replaced.
  template <class From, class To>
  void multiply(const T* packed, int rows, bool add, From&& from, To&& to) const {
    const int parts = whole() ? 1 : gates;
    for (int number = 0; number < panels(); ++number) {
      const int left = vectors() - number * panel_vectors, N = left < panel_vectors ? left : panel_vectors;
      const int first_column = number * panel_vectors * width<T>;
      const Range range = whole() ? Range{0, gates * wide()} : units_of(first_column, N * width<T>);
      const T* weight = packed + static_cast<size_t>(number) * panel_vectors * gates * wide() * width<T>;
      for_tiles(rows, tile_rows(N), [&](int first, int height) {
        const T* read[8];
        T* written[8];
        for (int m = 0; m < height; ++m) written[m] = to(first + m) + first_column;
        for (int part = 0; part < parts; ++part) {
          for (int m = 0; m < height; ++m) read[m] = from(first + m) + part * wide() + range.begin;
          multiply_tile<T>(read, height, weight + static_cast<size_t>(part) * range.count * N * width<T>, N, range.count,
                           add || part ? written : nullptr, written);
        }
      });
    }
  }
};

template <class T>
struct RowSizes {
  Form form;
  int features, units, outputs;  // F, H, P
  int wide, out_wide;            // padded H and P
  Matrix input, hidden, second;

  RowSizes(const Form& form, const Call& call)
      : form(form), features(call.features), units(call.hidden), outputs(call.outputs), wide(padded<T>(units)), out_wide(padded<T>(outputs)),
        input{form.gates, units, features, features, 0}, hidden{form.from_h, units, outputs, call.head, 0},
        second(form.second == Second::projection ? Matrix{1, outputs, units, units, 0} : Matrix{1, units, units, units, static_cast<ptrdiff_t>(form.from_h) * units}) {}

  bool twice() const { return form.second != Second::none; }
  int field_size(int field) const { return field ? units : outputs; }
  int field_wide(int field) const { return field ? wide : out_wide; }
  int state_wide() const { return wide > out_wide ? wide : out_wide; }
  const void* second_weight(const Direction& direction) const {
    return form.second == Second::projection ? direction.more[0] : direction.w_hh;
  }

  // Saved of a real step: planes of the gates, extra planes and numbers, what the second product read, fields but h.
  int gates_wide() const { return form.gates * wide; }
  int extra_wide() const { return form.extra * wide + padded<T>(form.numbers); }
  int kept_wide() const { return extra_wide() + (twice() ? wide : 0); }
  int states_at() const { return gates_wide() + kept_wide(); }
  int saved() const { return states_at() + (form.fields - 1) * wide; }

  // Gradients of a real step: planes of the input's product, of the recurrent one, of the projection.
  int d_hidden_at() const { return form.normalized ? gates_wide() : 0; }
  int d_second_at() const { return form.second == Second::projection ? gates_wide() : form.from_h * wide; }
  int d_wide() const { return gates_wide() * (form.normalized ? 2 : 1) + (form.second == Second::projection ? out_wide : 0); }

  int vector_planes() const {
    int planes = 0;
    for (int i = 0; i < form.vector_count; ++i) planes += form.vectors[i].gates;
    return planes;
  }
};

template <class Pointer>
RECURRA_INLINE Pointer vector_weight(int source, Pointer b_ih, Pointer b_hh, const Pointer* more) {
  return source == 0 ? b_ih : source == 1 ? b_hh : more[source - 2];
}

// The vector weights as the equations read them, and the mask of the padding before them.
template <class T>
void pack_vectors(const RowSizes<T>& size, const Direction& direction, T* to) {
  for (int j = 0; j < size.wide; ++j) *to++ = j < size.units ? T(1) : T(0);
  for (int i = 0; i < size.form.vector_count; ++i) {
    const T* from = static_cast<const T*>(vector_weight(size.form.vectors[i].source, direction.b_ih, direction.b_hh, direction.more));
    for (int gate = 0; gate < size.form.vectors[i].gates; ++gate, to += size.wide) copy_row(to, from + static_cast<ptrdiff_t>(gate) * size.units, size.units, size.wide);
  }
}

template <class T>
size_t vectors_size(const RowSizes<T>& size) {
  return static_cast<size_t>(size.vector_planes() + 1) * size.wide;
}

// Ranks of a task that still run at a step.
RECURRA_INLINE int running(const Plan& plan, const Task& task, int step) {
  if (step >= plan.longest) return 0;
  const int n = plan.active[step] - task.begin, rows = task.end - task.begin;
  return n < 0 ? 0 : n > rows ? rows : n;
}

// Whether a field moves by its own share of the previous state.
RECURRA_INLINE bool zoned(const Form& form, const Direction& direction, int field) {
  const int zone = form.one_zone && field ? 1 : field;
  return direction.zone[zone].data || (direction.zone_rate[zone] != 0 && !(form.one_zone && field));
}

template <class T>
RECURRA_INLINE T inner_rate(const Form& form, const Direction& direction) {
  return form.one_zone && !direction.zone[1].data ? static_cast<T>(direction.zone_rate[1]) : T(0);
}

}  // namespace RECURRA_ISA
