// Elementwise scans with the input product in front: x -> gates -> states -> output, forward and backward.
//
// Forward, a thread takes a row through all its steps: the gates of some steps as one product, then the scan over them. Where
// there is a way back the gates are kept. Backward, a window of steps of all rows at a time: the scan backwards, and from the
// gates' gradients the window's part in the gradients of weights and inputs. Only real steps are computed. Sums over steps,
// rows and gates have one order, whatever the threads.
#pragma once

#include "../cpu/recurrence.h"
#include "../linear_scan/cpu.h"
#include "units.h"

namespace RECURRA_ISA {

// Steps whose products are computed by one call.
constexpr int64_t scan_chunk = 192;

// Bytes of a window's gradients, and its steps at least, so that threads do not wait for each other too often.
constexpr int64_t scan_window_bytes = 1 << 21, scan_window_steps = 16;

// Terms of a weight gradient that stay in the first cache.
constexpr int scan_depth = 128;

// Vectors of gates' columns whose weights a thread takes at a time: they lie side by side.
constexpr int scan_groups = 4;

// The gates of a step stand one after the other, each filled up with zeros to whole vectors.
template <class T>
struct GateLayout {
  int64_t features, columns, products, each, wide;

  explicit GateLayout(const ScanCall& call)
      : features(call.features), columns(call.columns), products(call.products), each(padded<T>(static_cast<int>(call.columns))),
        wide(call.products * each) {}

  // Row of the weights behind a number of a step, or -1 in what is filled up.
  int64_t weight_row(int64_t place) const { return place % each < columns ? place / each * columns + place % each : -1; }

  int gate_vectors() const { return static_cast<int>(each / width<T>); }
  int64_t gate_panels() const { return (gate_vectors() + panel_vectors - 1) / panel_vectors; }
  int64_t items() const { return products * gate_panels(); }

  // One panel of one gate's weights, and at the first also the gate's biases.
  void pack(const ScanCall& call, T* panels, T* bias, int64_t item) const {
    const int64_t gate = item / gate_panels(), panel = item % gate_panels();
    const T *weight = static_cast<const T*>(call.weight), *from = static_cast<const T*>(call.bias);
    T* to = panels + (gate * each + panel * panel_vectors * width<T>)*features;
    pack_columns(to, static_cast<int>(panel), static_cast<int>(features), gate_vectors(), [&](int column) -> const T* {
      return column < columns ? weight + (gate * columns + column) * features : nullptr;
    });
    if (panel == 0) copy_row(bias + gate * each, from + gate * columns, static_cast<int>(columns), static_cast<int>(each));
  }
};

// Weights as the products of inputs read them.
template <class T>
struct InputWeights {
  const T *panels, *bias;
};

// Some columns of one row, with the products before the scan.
template <class Unit, class T>
struct LayerTask : ScanTask<Unit, T> {
  using Base = ScanTask<Unit, T>;
  using RowGates = typename Base::RowGates;
  using Base::call, Base::row, Base::first, Base::end, Base::length;

  const GateLayout<T>& layout;

  LayerTask(const ScanCall& call, const GateLayout<T>& layout, int64_t row, int64_t first, int64_t end, T* sums = nullptr)
      : Base(call, row, first, end, sums), layout(layout) {}

  T* input(int64_t n) const {
    return static_cast<T*>(const_cast<void*>(call.x)) + row * call.x_row + this->time(n) * call.x_step;
  }
  T* kept(int64_t n) const { return static_cast<T*>(call.kept) + (row * call.steps + n) * layout.wide; }
  T* grad_input(int64_t n) const {
    return static_cast<T*>(call.grad_x) + (row * call.steps + this->time(n)) * call.features;
  }

  // The gates of steps n0 to n1, in `to` one step after the other.
  void multiply(int64_t n0, int64_t n1, const InputWeights<T>& weights, T* to) const {
    const T* from[scan_chunk];
    T* into[scan_chunk];
    const int64_t columns = layout.each < end ? layout.each : end;
    const int vectors = static_cast<int>((columns - first + width<T> - 1) / width<T>);
    for (int64_t n = n0; n < n1; n += scan_chunk) {
      const int count = static_cast<int>(n1 - n < scan_chunk ? n1 - n : scan_chunk);
      for (int g = 0; g < layout.products; ++g) {
        const int64_t place = g * layout.each + first;
        for (int i = 0; i < count; ++i) {
          from[i] = input(n + i);
          into[i] = to + (n + i - n0) * layout.wide + place;
        }
        const Panels<T> panels{weights.panels + place * layout.features, static_cast<int>(layout.features), vectors};
        rows_times_panels<T>(from, into, count, panels, Start::bias, weights.bias + place, vectors * width<T>);
      }
    }
  }

  // The gates that `multiply` wrote. One gate more than products is the input itself.
  RowGates gates_at(T* here, int64_t n0) const {
    RowGates gates;
    for (int g = 0; g < Unit::gates; ++g) {
      gates.data[g] = g < layout.products ? here + g * layout.each : input(n0);
      gates.step[g] = g < layout.products ? layout.wide : call.reverse ? -call.x_step : call.x_step;
    }
    return gates;
  }

  // Their gradients.
  RowGates gradients_at(T* here, int64_t n0) const {
    RowGates gates = gates_at(here, n0);
    if (Unit::gates > layout.products) {
      gates.data[Unit::gates - 1] = call.grad_x ? grad_input(n0) : nullptr;
      gates.step[Unit::gates - 1] = call.reverse ? -call.features : call.features;
    }
    return gates;
  }

  void run_forward(const InputWeights<T>& weights, T* scratch) const {
    for (int64_t n0 = 0; n0 < length; n0 += scan_chunk) {
      const int64_t n1 = n0 + scan_chunk < length ? n0 + scan_chunk : length;
      T* here = call.kept ? kept(n0) : scratch;
      multiply(n0, n1, weights, here);
      this->forward(n0, n1, gates_at(here, n0));
    }
    this->finish();
  }
};

template <class Unit, class T>
bool layer_forward(const ScanCall& call) {
  const GateLayout<T> layout(call);
  const Blocks<T> blocks(call);
  const int64_t tasks = call.rows * blocks.count;
  const int threads = static_cast<int>(call.threads < tasks ? call.threads : tasks);
  const Buffer<T> panels(layout.wide * layout.features), bias(layout.wide), scratch(call.kept ? 0 : threads * scan_chunk * layout.wide);
  if (!panels.data || !bias.data || !scratch.data) return false;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const recurra::DenormalsAreZero mode;
#pragma omp for schedule(static)
    for (int64_t item = 0; item < layout.items(); ++item) layout.pack(call, panels.data, bias.data, item);
#pragma omp for schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
      T* mine = call.kept ? nullptr : scratch.data + thread * scan_chunk * layout.wide;
      for (int64_t i = thread; i < tasks; i += threads) {
        const int64_t block = i % blocks.count;
        LayerTask<Unit, T>(call, layout, i / blocks.count, blocks.begin(block), blocks.end(block, call))
            .run_forward({panels.data, bias.data}, mine);
      }
    }
  }
  return true;
}

// The backward pass, which every thread of a team runs on one object.
template <class Unit, class T>
struct LayerBackward {
  static constexpr int W = width<T>;
  using Task = LayerTask<Unit, T>;

  const ScanCall& call;
  const GateLayout<T> layout;
  const Blocks<T> blocks;
  const int64_t tasks, features, input_vectors, input_panels, window, longest;
  const Buffer<T> transposed;                        // weights
  const Buffer<T> gradients, inputs;                 // of a window: of the gates, step by step; and x in panels
  const Buffer<T> grad_weight, grad_bias, sums;
  const Buffer<int64_t> starts;                      // (B + 1) real steps in the window of all rows before
  const Buffer<const T*> from;                       // the window's inputs and their gradients, step by step
  const Buffer<T*> to;

  explicit LayerBackward(const ScanCall& call)
      : call(call), layout(call), blocks(call), tasks(call.rows * blocks.count), features(call.features),
        input_vectors((features + W - 1) / W), input_panels((input_vectors + panel_vectors - 1) / panel_vectors),
        window(window_of(call, layout)), longest(longest_of(call)),
        transposed(layout.wide * input_vectors * W), gradients(call.rows * window * layout.wide),
        inputs(call.rows * window * input_vectors * W), grad_weight(layout.wide * input_vectors * W), grad_bias(layout.wide),
        sums(call.rows * 2 * Unit::parameters * call.columns), starts(call.rows + 1), from(call.rows * window),
        to(call.rows * window) {}

  bool ready() const {
    return transposed.data && gradients.data && inputs.data && grad_weight.data && grad_bias.data &&
           sums.data && starts.data && from.data && to.data;
  }

  static int64_t window_of(const ScanCall& call, const GateLayout<T>& layout) {
    const int64_t fitting = scan_window_bytes / (static_cast<int64_t>(sizeof(T)) * call.rows * layout.wide);
    const int64_t wanted = fitting < scan_window_steps ? scan_window_steps : fitting;
    return wanted < call.steps ? wanted : call.steps;
  }

  static int64_t longest_of(const ScanCall& call) {
    int64_t longest = 0;
    for (int64_t row = 0; row < call.rows; ++row) {
      const int64_t length = Task::real_steps(call, row);
      longest = length > longest ? length : longest;
    }
    return longest;
  }

  Task task(int64_t i) const {
    const int64_t row = i / blocks.count, block = i % blocks.count;
    return Task(call, layout, row, blocks.begin(block), blocks.end(block, call),
                sums.data + row * 2 * Unit::parameters * call.columns);
  }

  void run() const {
    prepare();
    for (int64_t n0 = (longest - 1) / window * window; n0 >= 0 && longest; n0 -= window) {
#pragma omp single
      number_steps(n0);
      const int64_t count = starts.data[call.rows];
#pragma omp for schedule(static) nowait
      for (int64_t panel = 0; panel < input_panels; ++panel) pack_inputs(static_cast<int>(panel), static_cast<int>(count));
#pragma omp for schedule(static, 1)
      for (int64_t i = 0; i < tasks; ++i) scan_back(task(i), n0);
#pragma omp for schedule(dynamic, 1) nowait
      for (int64_t group = 0; group < layout.wide / W; group += scan_groups) add_weights(group, count);
      if (!call.grad_x) continue;
      // As many chunks for each thread.
      const int64_t chunks = ((count + scan_chunk - 1) / scan_chunk + call.threads - 1) / call.threads * call.threads;
#pragma omp for schedule(dynamic, 1)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) add_inputs(count * chunk / chunks, count * (chunk + 1) / chunks);
    }
    finish();
  }

  void prepare() const {
#pragma omp for schedule(static)
    for (int64_t panel = 0; panel < input_panels; ++panel) {
      // Any weights do for what the gates are filled up with.
      const T* weight = static_cast<const T*>(call.weight);
      pack_rows(transposed.data + panel * panel_vectors * W * layout.wide, static_cast<int>(panel), static_cast<int>(layout.wide),
                static_cast<int>(features), static_cast<int>(input_vectors), [&](int place) {
                  const int64_t row = layout.weight_row(place);
                  return weight + (row < 0 ? 0 : row) * features;
                });
    }
#pragma omp for schedule(static)
    for (int64_t place = 0; place < layout.wide; ++place) {
      grad_bias.data[place] = 0;
      std::memset(grad_weight.data + place * input_vectors * W, 0, sizeof(T) * input_vectors * W);
    }
    // What the gates are filled up with has no gradients.
    if (layout.each > layout.columns) {
#pragma omp for schedule(static)
      for (int64_t step = 0; step < call.rows * window; ++step) std::memset(gradients.data + step * layout.wide, 0, sizeof(T) * layout.wide);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tasks; ++i) task(i).begin_backward();
  }

  // Real steps of the window that begins at n0, row after row.
  void number_steps(int64_t n0) const {
    int64_t count = 0;
    for (int64_t row = 0; row < call.rows; ++row) {
      starts.data[row] = count;
      const Task one(call, layout, row, 0, 0);
      for (int64_t n = n0; n < n0 + window && n < one.length; ++n, ++count) {
        from.data[count] = one.input(n);
        to.data[count] = call.grad_x ? one.grad_input(n) : nullptr;
      }
    }
    starts.data[call.rows] = count;
  }

  void scan_back(const Task& task, int64_t n0) const {
    const int64_t n1 = n0 + starts.data[task.row + 1] - starts.data[task.row];
    if (n0 == n1) return;
    T* here = gradients.data + starts.data[task.row] * layout.wide;
    task.backward(n0, n1, task.gates_at(Unit::keeps_gates ? task.kept(n0) : here, n0), task.gradients_at(here, n0));
  }

  void pack_inputs(int panel, int count) const {
    pack_rows(inputs.data + static_cast<int64_t>(panel) * panel_vectors * W * count, panel, count, static_cast<int>(features), static_cast<int>(input_vectors),
              [&](int step) { return from.data[step]; });
  }

  // What the gradients of a window's gates at steps [begin, end) add to those of the inputs.
  void add_inputs(int64_t begin, int64_t end) const {
    const T* rows[scan_chunk];
    for (int64_t i = begin; i < end; ++i) rows[i - begin] = gradients.data + i * layout.wide;
    const Panels<T> weights{transposed.data, static_cast<int>(layout.wide), static_cast<int>(input_vectors)};
    rows_times_panels<T>(rows, to.data + begin, static_cast<int>(end - begin), weights, Unit::gates > layout.products ? Start::add : Start::bias, nullptr,
                         static_cast<int>(features));
  }

  // And to those of some weights: a few vectors of gates' columns against all inputs. Sums of `scan_depth` terms are made apart and
  // then added up: short chains keep the rounding error of long sums small.
  void add_weights(int64_t first_group, int64_t count) const {
    const int64_t left = layout.wide / W - first_group, place = first_group * W;
    const int groups = static_cast<int>(left < scan_groups ? left : scan_groups);
    alignas(64) T gathered[scan_groups * scan_depth * W];
    for (int64_t first = 0; first < count; first += scan_depth) {
      const int depth = static_cast<int>(count - first < scan_depth ? count - first : scan_depth);
      alignas(64) T totals[scan_groups * W] = {};
      gather_groups<T, scan_groups>(gradients.data + first * layout.wide + place, layout.wide, depth, groups, scan_depth, gathered, totals);
      for (int group = 0; group < groups; ++group) {
        T* bias = grad_bias.data + place + group * W;
        store(bias, load(bias) + load(totals + group * W));
        for (int64_t panel = 0; panel < input_panels; ++panel) {
          const int64_t rest = input_vectors - panel * panel_vectors, vectors = rest < panel_vectors ? rest : panel_vectors;
          columns_times_panel<T>(gathered + group * scan_depth * W, inputs.data + panel * panel_vectors * W * count + first * vectors * W,
                                 depth, static_cast<int>(vectors),
                                 grad_weight.data + ((place + group * W) * input_vectors + panel * panel_vectors) * W, input_vectors * W);
        }
      }
    }
  }

  void finish() const {
    T *weight = static_cast<T*>(call.grad_weight), *biases = static_cast<T*>(call.grad_bias);
#pragma omp for schedule(static)
    for (int64_t place = 0; place < layout.wide; ++place) {
      const int64_t row = layout.weight_row(place);
      if (row < 0) continue;
      biases[row] = grad_bias.data[place];
      std::memcpy(weight + row * features, grad_weight.data + place * input_vectors * W, sizeof(T) * features);
    }
    T* parameters = static_cast<T*>(call.grad_parameters);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < Unit::parameters * call.columns; ++j) {
      parameters[j] = 0;
      for (int64_t row = 0; row < call.rows; ++row) parameters[j] += sums.data[(2 * row + 1) * Unit::parameters * call.columns + j];
    }
    if (!call.grad_x) return;
#pragma omp for schedule(static)
    for (int64_t row = 0; row < call.rows; ++row) {
      const int64_t length = Task::real_steps(call, row);
      std::memset(static_cast<T*>(call.grad_x) + (row * call.steps + length) * features, 0,
                  sizeof(T) * (call.steps - length) * features);
    }
  }
};

template <class Unit, class T>
bool layer_backward(const ScanCall& call) {
  const LayerBackward<Unit, T> pass(call);
  if (!pass.ready()) return false;
  const int threads = static_cast<int>(call.threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const recurra::DenormalsAreZero mode;
    pass.run();
  }
  return true;
}

// The units by their numbers; those in units.py follow them. False when memory ran out.
template <class T>
bool elementwise_scan(bool backward, const ScanCall& call) {
  switch (call.unit) {
#define RECURRA_UNIT(number, name) \
  case number:                     \
    return backward ? layer_backward<name, T>(call) : layer_forward<name, T>(call);
    RECURRA_UNIT(1, MinGRUUnit)
    RECURRA_UNIT(2, MinLSTMUnit)
    RECURRA_UNIT(3, SRUUnit)
    RECURRA_UNIT(4, QRNNUnit)
    RECURRA_UNIT(5, RGLRUUnit)
    RECURRA_UNIT(6, IndRNNUnit<false>)
    RECURRA_UNIT(7, IndRNNUnit<true>)
#undef RECURRA_UNIT
    default:
      linear_scan<T>(backward, call);
      return true;
  }
}

}  // namespace RECURRA_ISA
