// The Python class `_cpu.Stepper`: packed weights and states that stay between steps. `kernels/stepper.py` is its only caller.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "crew.h"
#include "module.h"
#include "step_call.h"

namespace nb = nanobind;
using namespace recurra;

namespace {

// Multiplications of a step under which a second thread costs more than it brings (a step of 8 microseconds), and of a
// call under which the interpreter is kept: to give it away takes 0.4 microseconds, a third of a small step.
constexpr double worth_a_thread = 2e5, worth_the_interpreter = 2e7;

// Memory of its own, zeros at first.
class Block {
 public:
  explicit Block(size_t bytes) : bytes_(bytes), data_(take(bytes)) {
    if (!data_) throw std::bad_alloc();
    std::memset(data_, 0, bytes);
  }
  Block(Block&& other) noexcept : bytes_(other.bytes_), data_(std::exchange(other.data_, nullptr)) {}
  Block& operator=(Block&&) = delete;
  ~Block() { give(data_, bytes_); }
  char* data() const { return static_cast<char*>(data_); }

 private:
  size_t bytes_;
  void* data_;
};

// What never changes, shared by a stepper and its forks.
struct Layers {
  const Kernels* kernels = nullptr;
  StepNumbers numbers = StepNumbers::float32;
  size_t itemsize = 4;  // of inputs, outputs and states
  std::vector<StepLayer> layers;
  std::vector<Block> memory;
  const void *vectors = nullptr, *products = nullptr;
  int64_t vocabulary = 0;
  double work = 0;             // multiplications of a step of one stream
  ptrdiff_t state_numbers = 0; // of one stream

  const StepKernels& step() const { return *kernels->step; }
  const void* keep(uintptr_t from, size_t count) {
    if (!from) return nullptr;
    memory.emplace_back(count * itemsize);
    std::memcpy(memory.back().data(), reinterpret_cast<const void*>(from), count * itemsize);
    return memory.back().data();
  }
  static int fields(const StepLayer& layer) { return layer.operation == Operation::lstm ? 2 : 1; }
  ptrdiff_t wide(const StepLayer& layer) const {
    const ptrdiff_t lanes = kernels->vector_bytes / static_cast<ptrdiff_t>(itemsize);
    return (layer.hidden + lanes - 1) / lanes * lanes;
  }
};

class Stepper {
 public:
  Stepper(std::shared_ptr<Layers> layers, int streams, int threads) : layers_(std::move(layers)), asked_threads_(threads) {
    const double work = layers_->work * streams;
    call_.streams = streams;
    threads_ = static_cast<int>(std::max(1.0, std::min<double>(threads, work / worth_a_thread)));
    call_.layers = layers_->layers.data();
    call_.layer_count = static_cast<int>(layers_->layers.size());
    call_.vectors = layers_->vectors, call_.products = layers_->products;
    for (const StepLayer& layer : layers_->layers) {
      const size_t bytes = streams * layers_->wide(layer) * layers_->itemsize;
      const auto block = [&] { return memory_.emplace_back(bytes).data(); };
      void *h = block(), *h_next = block();
      states_.push_back({h, h_next, Layers::fields(layer) > 1 ? block() : nullptr});
    }
    call_.states = states_.data();
  }

  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;

  // One step of contiguous inputs, (streams, F) or (streams) tokens, to contiguous outputs.
  void step(uintptr_t x, uintptr_t output) {
    const size_t streams = call_.streams;
    const size_t x_bytes = layers_->vocabulary ? streams * sizeof(int64_t) : streams * features() * layers_->itemsize;
    // What is written first would be read as input.
    if (x < output + streams * hidden() * layers_->itemsize && output < x + x_bytes)
      throw nb::value_error("out shares memory with x: give it memory of its own.");
    run(x, features(), features(), output, hidden(), hidden(), 1);
  }

  // The same from and to what keeps numbers in memory that other languages can read; false when these do not fit.
  bool step_buffers(nb::handle x, nb::handle output) {
    const Buffer from(x, false), to(output, true);
    const bool tokens = layers_->vocabulary;
    if (!from.holds(tokens ? "lq" : layers_->itemsize == 8 ? "d" : "f", tokens ? 8 : layers_->itemsize, call_.streams, tokens ? 0 : features()) ||
        !to.holds(layers_->itemsize == 8 ? "d" : "f", layers_->itemsize, call_.streams, hidden()))
      return false;
    step(from.address(), to.address());
    return true;
  }

  // Strides in numbers; tokens are contiguous.
  void run(uintptr_t x, ptrdiff_t x_stream, ptrdiff_t x_step, uintptr_t output, ptrdiff_t output_stream, ptrdiff_t output_step, int steps) {
    const Turn turn(busy_);
    make_room(steps);
    if (layers_->vocabulary)
      read_tokens(reinterpret_cast<const int64_t*>(x));
    else
      call_.x = {reinterpret_cast<void*>(x), x_stream, x_step};
    call_.output = {reinterpret_cast<void*>(output), output_stream, output_step};
    call_.crew = hire(threads_);
    if (layers_->work * call_.streams * steps < worth_the_interpreter) {
      layers_->step().run(layers_->numbers, call_);
    } else {
      nb::gil_scoped_release release;
      layers_->step().run(layers_->numbers, call_);
    }
    dismiss(call_.crew);
  }

  // Reads the weights with the threads of a step, and does nothing else.
  void read_weights() {
    const Turn turn(busy_);
    make_room(1);
    call_.crew = hire(threads_);
    layers_->step().read_weights(layers_->numbers, call_);
    dismiss(call_.crew);
  }

  // The states of all streams, (streams, numbers of a stream): layer by layer, field by field.
  void read_state(uintptr_t to) const {
    char* at = reinterpret_cast<char*>(to);
    for (int row = 0; row < call_.streams; ++row)
      for_fields(row, [&](char* field, size_t bytes) {
        std::memcpy(at, field, bytes);
        at += bytes;
      });
  }

  // Into some streams; with `apart` 0 all of them get the one state that is given, else it is the numbers between two.
  void write_state(const std::vector<int>& rows, uintptr_t from, ptrdiff_t apart) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const char* at = reinterpret_cast<const char*>(from) + static_cast<ptrdiff_t>(i) * apart * static_cast<ptrdiff_t>(layers_->itemsize);
      for_fields(rows[i], [&](char* field, size_t bytes) {
        std::memcpy(field, at, bytes);
        at += bytes;
      });
    }
  }

  std::unique_ptr<Stepper> fork(int streams) const { return std::make_unique<Stepper>(layers_, streams, asked_threads_); }
  int threads() const { return threads_; }
  ptrdiff_t state_numbers() const { return layers_->state_numbers; }

 private:
  // Large calls give the interpreter away, and another Python thread may come in between.
  class Turn {
   public:
    explicit Turn(std::atomic<bool>& busy) : busy_(busy) {
      if (busy_.exchange(true)) throw std::runtime_error("Another Python thread is in the middle of a step of this stepper: fork one for each thread.");
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { busy_.store(false); }

   private:
    std::atomic<bool>& busy_;
  };

  class Buffer {
   public:
    Buffer(nb::handle from, bool writable) {
      there_ = PyObject_GetBuffer(from.ptr(), &view_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) == 0;
      if (!there_) PyErr_Clear();
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
      if (there_) PyBuffer_Release(&view_);
    }
    // Whether it is (rows, columns), or (rows) when there are no columns, of numbers of one of these formats.
    bool holds(const char* formats, size_t itemsize, ptrdiff_t rows, ptrdiff_t columns) const {
      return there_ && view_.format && view_.format[0] && !view_.format[1] && std::strchr(formats, view_.format[0]) &&
             view_.itemsize == static_cast<Py_ssize_t>(itemsize) && view_.ndim == (columns ? 2 : 1) && view_.shape[0] == rows &&
             (!columns || view_.shape[1] == columns);
    }
    uintptr_t address() const { return reinterpret_cast<uintptr_t>(view_.buf); }

   private:
    Py_buffer view_;
    bool there_;
  };

  void make_room(int steps) {
    call_.steps = steps;
    if (steps <= most_steps_) return;
    scratch_.clear(), most_steps_ = 0;
    call_.scratch = scratch_.emplace_back(layers_->step().scratch_bytes(layers_->numbers, call_)).data();
    most_steps_ = steps;
  }

  int features() const { return layers_->layers.front().features; }
  int hidden() const { return layers_->layers.back().hidden; }

  void read_tokens(const int64_t* tokens) {
    const ptrdiff_t count = static_cast<ptrdiff_t>(call_.streams) * call_.steps;
    for (ptrdiff_t i = 0; i < count; ++i)
      if (tokens[i] < 0 || tokens[i] >= layers_->vocabulary)
        throw nb::index_error(("Token " + std::to_string(tokens[i]) + " is not in the embedding: its rows are 0 to " +
                               std::to_string(layers_->vocabulary - 1) + ".").c_str());
    call_.tokens = tokens;
  }

  // f(memory of a field of one stream, bytes), in the order of a snapshot.
  template <class F>
  void for_fields(int row, F&& f) const {
    for (size_t i = 0; i < states_.size(); ++i) {
      const StepLayer& layer = layers_->layers[i];
      const size_t first = row * layers_->wide(layer) * layers_->itemsize, bytes = layer.hidden * layers_->itemsize;
      f(static_cast<char*>(states_[i].h) + first, bytes);
      if (states_[i].c) f(static_cast<char*>(states_[i].c) + first, bytes);
    }
  }

  std::shared_ptr<Layers> layers_;
  int asked_threads_, threads_, most_steps_ = 0;
  std::vector<Block> memory_, scratch_;
  std::vector<StepState> states_;
  StepCall call_{};
  std::atomic<bool> busy_{false};
};

// One layer from a tuple of its operation, sizes, addresses of its weights and what is done with its outputs.
void add_layer(Layers& to, nb::tuple from) {
  size_t at = 0;
  const auto number = [&] { return nb::cast<int64_t>(from[at++]); };
  const auto real = [&] { return nb::cast<double>(from[at++]); };
  StepLayer layer{};
  layer.operation = operation_of(nb::cast<std::string>(from[at++]));
  layer.features = static_cast<int>(number()), layer.hidden = static_cast<int>(number());
  StepWeights weights{};
  for (const void** each : {&weights.w_ih, &weights.w_hh, &weights.b_ih, &weights.b_hh}) *each = reinterpret_cast<const void*>(number());
  layer.zone_rate[0] = real(), layer.zone_rate[1] = real();
  layer.residual = number();
  layer.norm_weight = to.keep(static_cast<uintptr_t>(number()), layer.hidden);
  layer.norm_bias = to.keep(static_cast<uintptr_t>(number()), layer.hidden);
  layer.norm_epsilon = real();
  const size_t bytes = to.step().packed_bytes(layer.operation, to.numbers, layer.features, layer.hidden);
  void* packed = to.memory.emplace_back(bytes).data();
  to.step().pack(layer.operation, to.numbers, layer.features, layer.hidden, weights, packed);
  layer.packed = packed;
  to.work += static_cast<double>(bytes) / static_cast<double>(to.numbers == StepNumbers::float32_of_half ? 2 : to.itemsize);
  to.state_numbers += static_cast<ptrdiff_t>(layer.hidden) * Layers::fields(layer);
  to.layers.push_back(layer);
}

std::unique_ptr<Stepper> make_stepper(bool double_precision, bool half_weights, nb::list layers, uintptr_t vectors, int64_t vocabulary, bool folded, int streams,
                                      int threads) {
  auto made = std::make_shared<Layers>();
  made->kernels = &chosen_kernels();
  made->numbers = double_precision ? StepNumbers::float64 : half_weights ? StepNumbers::float32_of_half : StepNumbers::float32;
  made->itemsize = double_precision ? 8 : 4;
  for (nb::handle layer : layers) add_layer(*made, nb::borrow<nb::tuple>(layer));
  const StepLayer& first = made->layers.front();
  made->vocabulary = vocabulary;
  if (folded) {
    void* products = made->memory.emplace_back(made->step().folded_bytes(first.operation, made->numbers, first.hidden, static_cast<int>(vocabulary))).data();
    run_team(threads, [&] {
      made->step().fold(made->numbers, first, reinterpret_cast<const void*>(vectors), static_cast<int>(vocabulary), products);
    });
    made->products = products;
  }
  if (!folded || first.residual) made->vectors = made->keep(vectors, static_cast<size_t>(vocabulary) * first.features);
  return std::make_unique<Stepper>(made, streams, threads);
}

}  // namespace

void recurra::define_stepper(nb::module_& module) {
  nb::class_<Stepper>(module, "Stepper")
      .def("step", &Stepper::step)
      .def("step_buffers", &Stepper::step_buffers)
      .def("run", &Stepper::run)
      .def("read_weights", &Stepper::read_weights)
      .def("read_state", &Stepper::read_state)
      .def("write_state", &Stepper::write_state)
      .def("fork", &Stepper::fork)
      .def_prop_ro("threads", &Stepper::threads)
      .def_prop_ro("state_numbers", &Stepper::state_numbers);
  module.def("make_stepper", make_stepper);
}
