// The Python module `recurra.kernels._cpu`: addresses of tensors in, kernels of the best instruction set run, the
// interpreter free meanwhile. Nothing here knows torch; `kernels/compiled.py` is its only caller.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../linear_scan/call.h"
#include "call.h"
#include "module.h"

namespace nb = nanobind;
using namespace recurra;

#define RECURRA_DECLARE(name)      \
  namespace name {                 \
  extern const recurra::Kernels kernels; \
  }
RECURRA_DECLARE(baseline)
#ifdef RECURRA_X86
RECURRA_DECLARE(avx2)
RECURRA_DECLARE(avx512)
#endif

namespace {

struct InstructionSet {
  const char* name;
  const Kernels* kernels;
  bool there;
};

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = {
#ifdef RECURRA_X86
      {"avx512", &avx512::kernels,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")},
      {"avx2", &avx2::kernels, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")},
#endif
      {"baseline", &baseline::kernels, true},
  };
  return sets;
}

std::atomic<const InstructionSet*>& chosen() {
  static std::atomic<const InstructionSet*> set{
      &*std::find_if(instruction_sets().begin(), instruction_sets().end(), [](const auto& each) { return each.there; })};
  return set;
}

struct PlanMemory {
  std::vector<int32_t> row, length, active, rank_of, step_of;
  std::vector<int64_t> first;
  Plan plan;

  PlanMemory(int batch, int steps, const int64_t* lengths) : row(batch), length(batch), active(steps + 1), first(steps + 1) {
    std::iota(row.begin(), row.end(), 0);
    for (int i = 0; lengths && i < batch; ++i)
      if (lengths[i] < 0 || lengths[i] > steps)
        throw nb::value_error(("lengths must be from 0 to " + std::to_string(steps) + ", the steps of the input; one is " + std::to_string(lengths[i]) + ".").c_str());
    if (lengths) std::stable_sort(row.begin(), row.end(), [&](int a, int b) { return lengths[a] > lengths[b]; });
    for (int rank = 0; rank < batch; ++rank) length[rank] = lengths ? static_cast<int32_t>(lengths[row[rank]]) : steps;
    const int longest = batch ? length[0] : 0;
    int64_t total = 0;
    int running = batch;
    for (int step = 0; step <= steps; ++step) {
      while (running && length[running - 1] <= step) --running;
      active[step] = running;
      first[step] = total;
      total += running;
    }
    rank_of.resize(total), step_of.resize(total);
    int64_t number = 0;
    for (int step = 0; step < longest; ++step)
      for (int rank = 0; rank < active[step]; ++rank, ++number) rank_of[number] = rank, step_of[number] = step;
    plan = {batch, steps, longest, total, row.data(), length.data(), active.data(), first.data(), rank_of.data(), step_of.data()};
  }
};

// Ranks cut into shares of nearly equal numbers of steps, for each direction.
std::vector<Task> divide(const Plan& plan, int directions, int threads) {
  const int shares = threads == 1 ? 1 : (threads % directions == 0 ? threads / directions : threads);
  std::vector<Task> tasks;
  for (int d = 0; d < directions; ++d) {
    int rank = 0;
    int64_t done = 0;
    for (int share = 0; share < shares; ++share) {
      const int begin = rank;
      const int64_t goal = plan.total * (share + 1) / shares;
      while (rank < plan.batch && (share + 1 == shares || done + plan.length[rank] / 2 < goal)) done += plan.length[rank++];
      if (rank > begin) tasks.push_back({d, begin, rank});
    }
  }
  // The longest first, so that no thread is left with it at the end.
  std::stable_sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) { return plan.length[a.begin] > plan.length[b.begin]; });
  return tasks;
}

// Reads a tuple of addresses and strides in the order of its fields.
class Reader {
 public:
  explicit Reader(nb::handle from) : from_(nb::borrow<nb::tuple>(from)) {}
  int64_t number() { return nb::cast<int64_t>(from_[at_++]); }
  template <class P = void>
  P* address() {
    return reinterpret_cast<P*>(nb::cast<uintptr_t>(from_[at_++]));
  }
  Sequence sequence() {
    Sequence read{};
    read.data = address();
    read.row = number();
    read.step = number();
    return read;
  }

 private:
  nb::tuple from_;
  size_t at_ = 0;
};

Direction read_direction(nb::handle from) {
  Reader read(from);
  const auto each = [&](auto& addresses) {
    for (auto& one : addresses) one = read.address();
  };
  Direction d{};
  d.reverse = read.number();
  d.w_ih = read.address(), d.w_hh = read.address(), d.b_ih = read.address(), d.b_hh = read.address();
  each(d.more), each(d.state);
  d.reset = read.address<const uint8_t>();
  each(d.reset_state);
  d.dropout = read.address();
  d.zone[0] = read.sequence(), d.zone[1] = read.sequence(), d.zone_marks = read.number();
  d.saved = read.address();
  d.output = read.sequence();
  each(d.last);
  d.d_output = read.sequence();
  each(d.d_last);
  d.d_w_ih = read.address(), d.d_w_hh = read.address(), d.d_b_ih = read.address(), d.d_b_hh = read.address();
  each(d.d_more), each(d.d_state), each(d.d_reset_state);
  return d;
}

Operation recurrence_of(const std::string& name) {
  if (name == "layernorm_lstm") return Operation::layernorm_lstm;
  if (name == "layernorm_gru") return Operation::layernorm_gru;
  if (name == "gru_reset_before") return Operation::gru_reset_before;
  if (name == "projected_lstm") return Operation::projected_lstm;
  if (name == "peephole_lstm") return Operation::peephole_lstm;
  if (name == "slstm") return Operation::slstm;
  return operation_of(name);
}

// Under this many multiplications a second thread costs more than it brings.
constexpr double worth_a_thread = 1e5;

void run(bool backward, const std::string& operation, bool double_precision, const std::vector<int64_t>& sizes, uintptr_t lengths,
         nb::tuple sequences, nb::tuple directions, std::vector<double> rates, int threads) {
  const Operation what = recurrence_of(operation);
  for (const int64_t size : sizes)
    if (size > INT32_MAX) throw nb::value_error(("The compiled kernels count rows, steps and units up to 2^31 - 1; one is " + std::to_string(size) + ".").c_str());
  const PlanMemory memory(static_cast<int>(sizes[0]), static_cast<int>(sizes[1]), reinterpret_cast<const int64_t*>(lengths));
  std::vector<Direction> each;
  for (nb::handle direction : directions) each.push_back(read_direction(direction));
  for (size_t i = 0; i < rates.size(); ++i) each[i / 2].zone_rate[i % 2] = rates[i];
  Reader read(sequences);
  Call call{};
  call.features = static_cast<int>(sizes[2]), call.hidden = static_cast<int>(sizes[3]);
  call.outputs = static_cast<int>(sizes[4]), call.head = static_cast<int>(sizes[5]);
  call.x = read.sequence(), call.d_x = read.sequence();
  call.plan = &memory.plan;
  call.directions = each.data(), call.direction_count = static_cast<int>(each.size());
  const double work = static_cast<double>(memory.plan.total) * call.hidden * (call.features + call.hidden) * call.direction_count;
  call.threads = static_cast<int>(std::max(1.0, std::min<double>(threads, work / worth_a_thread)));
  const std::vector<Task> tasks = divide(memory.plan, call.direction_count, call.threads);
  call.tasks = tasks.data(), call.task_count = static_cast<int>(tasks.size());
  const Kernels& kernels = *chosen().load()->kernels;
  bool enough = true;
  {
    nb::gil_scoped_release release;
    run_team(call.threads, [&] { enough = (backward ? kernels.backward : kernels.forward)(what, double_precision, call); });
  }
  if (!enough) throw std::bad_alloc();
}

void run_scan(bool backward, bool double_precision, const std::vector<int64_t>& fields) {
  static_assert(sizeof(void*) == 8 && sizeof(ScanCall) % 8 == 0, "a call is read from integers of eight bytes");
  ScanCall call;
  if (fields.size() * 8 != sizeof(call)) throw nb::value_error("a scan's fields do not fit this build of the kernels");
  std::memcpy(&call, fields.data(), sizeof(call));
  const double work = static_cast<double>(call.rows) * call.steps * call.columns * (1 + call.features * call.products);
  call.threads = static_cast<int64_t>(std::max(1.0, std::min<double>(call.threads, work / worth_a_thread)));
  const Kernels& kernels = *chosen().load()->kernels;
  bool enough = true;
  {
    nb::gil_scoped_release release;
    run_team(static_cast<int>(call.threads), [&] { enough = kernels.scan(backward, double_precision, call); });
  }
  if (!enough) throw std::bad_alloc();
}

// Memory as an array of bytes, which gives it back when nothing refers to it any more.
nb::ndarray<nb::numpy, uint8_t> room(size_t bytes) {
  struct Block {
    void* memory;
    size_t bytes;
  };
  void* memory = take(bytes);
  if (!memory) throw std::bad_alloc();
  const nb::capsule owner(new Block{memory, bytes}, [](void* block) noexcept {
    const Block* const mine = static_cast<Block*>(block);
    give(mine->memory, mine->bytes);
    delete mine;
  });
  return nb::ndarray<nb::numpy, uint8_t>(memory, {bytes}, owner);
}

}  // namespace

namespace recurra {

namespace {

std::atomic<bool> forked{false};

void watch_forks() {
  keep_memory_over_forks();
#if !defined(_WIN32)
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif
}

}  // namespace

bool is_forked() { return forked; }

const Kernels& chosen_kernels() { return *chosen().load()->kernels; }

Operation operation_of(const std::string& name) {
  if (name == "elman") return Operation::elman_tanh;
  if (name == "elman_relu") return Operation::elman_relu;
  if (name == "lstm") return Operation::lstm;
  if (name == "gru") return Operation::gru;
  throw nb::value_error(("there is no compiled operation " + name).c_str());
}

}  // namespace recurra

NB_MODULE(_cpu, m) {
  watch_forks();
  nb::register_exception_translator([](const std::exception_ptr& failed, void*) {
    try {
      std::rethrow_exception(failed);
    } catch (const std::bad_alloc&) {
      PyErr_SetString(PyExc_MemoryError,
                      "There is not enough memory for what the compiled kernels need beside their inputs and outputs: "
                      "take fewer rows or steps at a time.");
    }
  });
  m.def("forward", [](const std::string& operation, bool double_precision, const std::vector<int64_t>& sizes, uintptr_t lengths,
                      nb::tuple sequences, nb::tuple directions, std::vector<double> rates, int threads) {
    run(false, operation, double_precision, sizes, lengths, sequences, directions, rates, threads);
  });
  m.def("backward", [](const std::string& operation, bool double_precision, const std::vector<int64_t>& sizes, uintptr_t lengths,
                       nb::tuple sequences, nb::tuple directions, std::vector<double> rates, int threads) {
    run(true, operation, double_precision, sizes, lengths, sequences, directions, rates, threads);
  });
  m.def("scan", run_scan);
  m.def("room", room);
  define_stepper(m);
  m.def("instruction_set", [] { return std::string(chosen().load()->name); });
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const auto& each : instruction_sets())
      if (each.there) names.push_back(each.name);
    return names;
  });
  m.def("use_instruction_set", [](const std::string& name) {
    for (const auto& each : instruction_sets())
      if (each.there && name == each.name) {
        chosen() = &each;
        return;
      }
    throw nb::value_error(("this machine has no instruction set " + name).c_str());
  });
  m.def("vector_bytes", [] { return chosen().load()->kernels->vector_bytes; });
}
