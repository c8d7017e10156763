// What the backward pass of row_recurrence.h sums over all steps: gradients of weights and inputs; and the pass as a whole.
#pragma once

#include "row_backward.h"

namespace RECURRA_ISA {

// The gradient of one weight matrix: planes of gradients times what the matrix read, over all real steps in their order.
template <class T>
struct MatrixGradient {
  enum class Read { x, h, between };

  Matrix matrix;
  Read read;
  int d_at;           // first plane in the gradients of a step
  void* d_w;
  void *d_b, *d_b_too;  // gradients of biases beside the product, which are one sum; null when there are none

  int vectors() const { return padded<T>(matrix.units) / width<T>; }
  int groups() const { return matrix.gates * vectors(); }  // of `width` columns of gradients
  int read_vectors() const { return padded<T>(matrix.reads) / width<T>; }
  int panels() const { return (read_vectors() + panel_vectors - 1) / panel_vectors; }
  int panel_of(int number) const { return read_vectors() - number * panel_vectors < panel_vectors ? read_vectors() - number * panel_vectors : panel_vectors; }

  size_t scratch_size(int groups) const {
    const size_t wide = static_cast<size_t>(read_vectors()) * width<T>;
    return groups * width<T> * (wide + 1) + gradient_block * (group_batch * width<T> + wide);
  }

  // Groups [begin, end), by one thread.
  void sum(const RowSizes<T>& size, const Call& call, const Direction& direction, const T* d_planes, int begin, int end, T* scratch) const {
    constexpr int W = width<T>;
    if (begin >= end) return;
    const int64_t total = call.plan->total;
    const ptrdiff_t stride = static_cast<ptrdiff_t>(read_vectors()) * W;
    T *sums = scratch, *biases = sums + (end - begin) * W * stride, *gathered = biases + (end - begin) * W;
    T* packed = gathered + group_batch * gradient_block * W;
    std::memset(sums, 0, sizeof(T) * (end - begin) * W * (stride + 1));
    for (int64_t k = 0; k < total; k += gradient_block) {
      const int depth = total - k < gradient_block ? static_cast<int>(total - k) : gradient_block;
      for (int panel = 0; panel < panels(); ++panel) pack(size, call, direction, k, depth, panel, packed + panel_at(panel));
      for (int first = begin; first < end; first += group_batch) {
        const int count = end - first < group_batch ? end - first : group_batch;
        gather_groups<T, group_batch>(d_planes + k * size.d_wide() + d_at + first * W, size.d_wide(), depth, count, gradient_block, gathered, biases + (first - begin) * W);
        for (int group = 0; group < count; ++group) {
          const Range range = matrix.reads_of((first + group) % vectors() * W, W);
          const int last = (range.begin + range.count - 1) / (panel_vectors * W);
          for (int panel = range.begin / (panel_vectors * W); panel <= last; ++panel)
            columns_times_panel(gathered + group * gradient_block * W, packed + panel_at(panel), depth, panel_of(panel),
                                sums + (first + group - begin) * W * stride + panel * panel_vectors * W, stride);
        }
      }
    }
    for (int group = begin; group < end; ++group) put(group, sums + (group - begin) * W * stride, stride, biases + (group - begin) * W);
  }

 private:
  static size_t panel_at(int panel) { return static_cast<size_t>(panel) * panel_vectors * gradient_block * width<T>; }

  // One panel of what the matrix read at `depth` steps.
  void pack(const RowSizes<T>& size, const Call& call, const Direction& direction, int64_t k, int depth, int panel, T* to) const {
    const Plan& plan = *call.plan;
    pack_rows(to, panel, depth, matrix.reads, read_vectors(), [&](int i) -> const T* {
      const int rank = plan.rank_of[k + i], step = plan.step_of[k + i];
      if (read == Read::x) return at<T>(call.x, plan.row[rank], time_of(direction, plan.length[rank], step));
      if (read == Read::h) return state_before(size, call, direction, 0, rank, step);
      return static_cast<const T*>(direction.saved) + (k + i) * size.saved() + size.gates_wide() + size.extra_wide();
    });
    if (read != Read::h || !direction.dropout) return;
    const int wide = panel_of(panel);
    for (int i = 0; i < depth; ++i) {
      const T* mask = static_cast<const T*>(direction.dropout) + static_cast<ptrdiff_t>(plan.row[plan.rank_of[k + i]]) * matrix.reads;
      for (int n = 0; n < wide; ++n, to += width<T>) {
        const int j = (panel * panel_vectors + n) * width<T>;
        store(to, load(to) * load(mask + j, matrix.reads - j));
      }
    }
  }

  void put(int group, const T* sums, ptrdiff_t stride, const T* biases) const {
    const int gate = group / vectors(), first = group % vectors() * width<T>;
    for (int lane = 0; lane < width<T> && first + lane < matrix.units; ++lane) {
      const int unit = first + lane;
      T* row = static_cast<T*>(const_cast<void*>(matrix.weight(d_w, sizeof(T), gate, unit)));
      std::memcpy(row, sums + lane * stride + unit / matrix.block() * matrix.head, sizeof(T) * matrix.head);
      if (d_b) static_cast<T*>(d_b)[gate * matrix.units + unit] = static_cast<T*>(d_b_too)[gate * matrix.units + unit] = biases[lane];
    }
  }
};

// The matrices of one direction; how many there are.
template <class T>
int matrix_gradients(const RowSizes<T>& size, const Direction& direction, MatrixGradient<T>* found) {
  using Read = typename MatrixGradient<T>::Read;
  const bool biased = !size.form.normalized, projection = size.form.second == Second::projection;
  found[0] = {size.input, Read::x, 0, direction.d_w_ih, biased ? direction.d_b_ih : nullptr, direction.d_b_hh};
  found[1] = {size.hidden, Read::h, size.d_hidden_at(), direction.d_w_hh, nullptr, nullptr};
  if (!size.twice()) return 2;
  found[2] = {size.second, Read::between, size.d_second_at(), projection ? direction.d_more[0] : direction.d_w_hh, nullptr, nullptr};
  return 3;
}

// One plane of one vector weight: the sum of the rows' sums, in the order of the ranks.
template <class T>
void vector_gradient(const RowSizes<T>& size, const Direction& direction, const T* sums, int batch, int number) {
  const VectorWeight& weight = size.form.vectors[number];
  T* to = static_cast<T*>(vector_weight(weight.source, direction.d_b_ih, direction.d_b_hh, direction.d_more));
  for (int gate = 0; gate < weight.gates; ++gate)
    for (int j = 0; j < size.wide; j += width<T>) {
      Vector<T> sum{};
      for (int rank = 0; rank < batch; ++rank) sum = sum + load(sums + (static_cast<ptrdiff_t>(rank) * size.form.sums + weight.sum + gate) * size.wide + j);
      store(to + static_cast<ptrdiff_t>(gate) * size.units + j, sum, size.units - j);
    }
}

template <class T>
bool row_backward(const Equations<T>& equations, const Call& call) {
  const RowSizes<T> size(equations.form, call);
  const RowBackwardWeights<T> weights(size);
  const Plan& plan = *call.plan;
  size_t most_rows = 0;
  for (int i = 0; i < call.task_count; ++i) {
    const size_t rows = call.tasks[i].end - call.tasks[i].begin;
    most_rows = rows > most_rows ? rows : most_rows;
  }
  constexpr int most_matrices = 3;
  MatrixGradient<T> matrices[most_matrices];
  const int kinds = matrix_gradients(size, call.directions[0], matrices);
  // Groups a thread takes at once: all of a matrix where threads are few, so that what it read is packed once.
  const int shares = (call.threads + call.direction_count - 1) / call.direction_count;
  size_t share_scratch = 0;
  for (int kind = 0; kind < kinds; ++kind) {
    const size_t needed = matrices[kind].scratch_size((matrices[kind].groups() + shares - 1) / shares);
    share_scratch = needed > share_scratch ? needed : share_scratch;
  }
  const int sum_items = call.direction_count * kinds * shares, vector_items = call.direction_count * size.form.vector_count;
  const size_t planes = static_cast<size_t>(plan.total) * size.d_wide(), row_sums = static_cast<size_t>(plan.batch) * size.form.sums * size.wide;
  const size_t task_scratch = RowBackward<T>::scratch_size(size, static_cast<int>(most_rows));
  const size_t zeros_size = size.features > size.state_wide() ? size.features : size.state_wide();
  const Buffer<T> packed(weights.total() * call.direction_count), d_planes(planes * call.direction_count), sums(row_sums * call.direction_count);
  const Buffer<T> scratch(task_scratch * call.task_count), shares_scratch(share_scratch * sum_items), zeros(zeros_size);
  if (!packed.data || !d_planes.data || !sums.data || !scratch.data || !shares_scratch.data || !zeros.data) return false;
  std::memset(zeros.data, 0, sizeof(T) * zeros_size);
  const Buffer<T> apart(apart_size(call) * call.threads);
  if (!apart.data) return false;
  const int items = weights.items();
  const int64_t blocks = (plan.total + chunk_rows - 1) / chunk_rows;
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    const recurra::DenormalsAreZero mode;
#pragma omp for schedule(static)
    for (int item = 0; item < items * call.direction_count; ++item)
      weights.pack(call.directions[item / items], zeros.data, packed.data + weights.total() * (item / items), item % items);
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < call.task_count; ++i) {
      const int d = call.tasks[i].direction;
      RowBackward<T>(call, equations, weights, packed.data + weights.total() * d, call.tasks[i], d_planes.data + planes * d, sums.data + row_sums * d,
                     scratch.data + task_scratch * i)
          .run();
    }
    if (call.d_x.data) {
#pragma omp for schedule(static)
      for (int rank = 0; rank < plan.batch; ++rank)
        for (int t = plan.length[rank]; t < plan.steps; ++t) std::memset(at<T>(call.d_x, plan.row[rank], t), 0, sizeof(T) * size.features);
      for (int d = 0; d < call.direction_count; ++d) {
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; ++block)
          input_gradients<T>(call, call.directions[d], {packed.data + weights.total() * d, size.gates_wide(), weights.input.vectors()},
                             d_planes.data + planes * d, size.d_wide(), block, d ? apart.data + apart_size(call) * omp_get_thread_num() : nullptr);
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int i = 0; i < sum_items + vector_items; ++i) {
      const int d = i < sum_items ? i / (kinds * shares) : (i - sum_items) / size.form.vector_count;
      const Direction& direction = call.directions[d];
      if (i >= sum_items) {
        vector_gradient(size, direction, sums.data + row_sums * d, plan.batch, (i - sum_items) % size.form.vector_count);
        continue;
      }
      MatrixGradient<T> mine[most_matrices];
      matrix_gradients(size, direction, mine);
      const MatrixGradient<T>& each = mine[i / shares % kinds];
      const int share = (each.groups() + shares - 1) / shares, begin = i % shares * share;
      each.sum(size, call, direction, d_planes.data + planes * d, begin, begin + share < each.groups() ? begin + share : each.groups(),
               shares_scratch.data + share_scratch * i);
    }
  }
  return true;
}

}  // namespace RECURRA_ISA
