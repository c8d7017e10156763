// Matrix products in the two shapes that a recurrence needs.
//
// * rows times panels: C[r] = start + A[r] P, the rows of A anywhere in memory, the matrix packed into panels of columns.
//   Input products, recurrent products, and gradients of inputs and states.
// * columns times columns: C = A' B summed over rows of A and B, for the gradients of weights.
//
// Each number of C is one chain of fused multiply-adds in the order of the summed index, whatever the tile, so results do
// not depend on how rows and columns are divided over tiles and threads.
#pragma once

#include <cstddef>

#include "vector.h"

namespace RECURRA_ISA {

// Rows of a register tile when a panel is `vectors` wide: what the accumulators leave room for.
constexpr int tile_rows(int vectors) {
  const int rows = (registers > 16 ? 24 : 12) / vectors;
  return rows > 8 ? 8 : rows;
}

// Widest panel, in vectors.
constexpr int panel_vectors = 4;

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls f(Count<n>) for a number from 1 to Most known only at run time.
template <int Most, class F>
RECURRA_INLINE void with_count(int n, F&& f) {
  if constexpr (Most > 1) {
    if (n < Most) return with_count<Most - 1>(n, f);
  }
  f(Count<Most>{});
}

// Cuts `rows` into tiles of nearly equal height, at most `most`, and calls f(first row, height).
template <class F>
RECURRA_INLINE void for_tiles(int rows, int most, F&& f) {
  const int tiles = (rows + most - 1) / most;
  for (int first = 0, left = tiles; left > 0; --left) {
    const int height = (rows - first + left - 1) / left;
    f(first, height);
    first += height;
  }
}

// to = start + A P for one tile: M rows of A, a panel of N vectors a row, `depth` terms. The panel may be stored narrower.
template <class T, int M, int N, class Stored>
RECURRA_INLINE void multiply(const T* const* rows, const Stored* panel, int depth, const T* const* start, T* const* to) {
  const T* a[M];
  Vector<T> sum[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    a[m] = rows[m];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[m][n] = start ? load(start[m] + n * width<T>) : Vector<T>{};
  }
  for (int k = 0; k < depth; ++k) {
    Vector<T> b[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) b[n] = load(panel + (static_cast<ptrdiff_t>(k) * N + n) * width<T>);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vector<T> factor = fill(a[m][k]);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[m][n] = fma(factor, b[n], sum[m][n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(to[m] + n * width<T>, sum[m][n]);
}

// The same for any height up to `tile_rows(vectors)`. Null for `start` means zeros.
template <class T, class Stored>
__attribute__((noinline)) void multiply_tile(const T* const* rows, int height, const Stored* panel, int vectors, int depth,
                                             const T* const* start, T* const* to) {
  with_count<panel_vectors>(vectors, [&](auto wide) {
    constexpr int N = decltype(wide)::value;
    with_count<tile_rows(N)>(height, [&](auto high) { multiply<T, decltype(high)::value, N>(rows, panel, depth, start, to); });
  });
}

// Memory for the numbers of one tile, and its rows.
template <class T>
struct Tile {
  alignas(64) T numbers[8][panel_vectors * width<T>];
  T* rows[8];
  Tile() {
    for (int m = 0; m < 8; ++m) rows[m] = numbers[m];
  }
};

// A matrix in panels of up to `panel_vectors` vectors of columns; the last panel is narrower. Columns are filled up with
// zeros to whole vectors.
template <class T>
struct Panels {
  const T* data;
  int depth;    // rows of the matrix: terms of the sum
  int vectors;  // of columns

  int count() const { return (vectors + panel_vectors - 1) / panel_vectors; }
  int vectors_of(int panel) const {
    const int left = vectors - panel * panel_vectors;
    return left < panel_vectors ? left : panel_vectors;
  }
  const T* panel(int number) const {
    return data + static_cast<ptrdiff_t>(number) * panel_vectors * depth * width<T>;
  }
};

// Most terms of a sum worked through at a time, so that a block of a panel stays in the near caches.
template <class T>
constexpr int depth_block = 262144 / (panel_vectors * vector_bytes);

enum class Start { bias, add };

// C[r] = bias + A[r] P, or C[r] += A[r] P; a bias of null is zeros. `columns` numbers a row of C are read and written.
template <class T>
void rows_times_panels(const T* const* a, T* const* c, int rows, const Panels<T>& panels, Start start, const T* bias, int columns) {
  constexpr int W = width<T>;
  Tile<T> tile;
  const int blocks = (panels.depth + depth_block<T> - 1) / depth_block<T>;
  const int block_terms = (panels.depth + blocks - 1) / blocks;
  for (int panel = 0; panel < panels.count(); ++panel) {
    const int first_column = panel * panel_vectors * W, vectors = panels.vectors_of(panel), inside = columns - first_column;
    const bool whole = inside >= vectors * W;
    for (int k = 0; k < panels.depth; k += block_terms) {
      const int terms = panels.depth - k < block_terms ? panels.depth - k : block_terms;
      const T* block = panels.panel(panel) + static_cast<ptrdiff_t>(k) * vectors * W;
      const bool fresh = k == 0 && start == Start::bias;
      for_tiles(rows, tile_rows(vectors), [&](int row, int height) {
        const T* from[8];
        const T* begin[8];
        T* to[8];
        for (int m = 0; m < height; ++m) {
          from[m] = a[row + m] + k;
          to[m] = whole ? c[row + m] + first_column : tile.rows[m];
          begin[m] = fresh ? bias + first_column : to[m];
          if (!whole && !fresh)
            for (int n = 0; n < vectors; ++n) store(to[m] + n * W, load(c[row + m] + first_column + n * W, inside - n * W));
        }
        multiply_tile<T>(from, height, block, vectors, terms, fresh && !bias ? nullptr : begin, to);
        if (!whole)
          for (int m = 0; m < height; ++m)
            for (int n = 0; n < vectors; ++n) store(c[row + m] + first_column + n * W, load(to[m] + n * W), inside - n * W);
      });
    }
  }
}

// Panels of a matrix given by its rows (the row of the sum's k-th term): row(k) -> pointer to `columns` numbers.
template <class T, class Row>
void pack_rows(T* to, int panel, int depth, int columns, int vectors, Row&& row) {
  constexpr int W = width<T>;
  const int first = panel * panel_vectors;
  const int wide = vectors - first < panel_vectors ? vectors - first : panel_vectors;
  for (int k = 0; k < depth; ++k) {
    const T* from = row(k) + first * W;
    for (int n = 0; n < wide; ++n) {
      const int left = columns - (first + n) * W;
      store(to + (static_cast<ptrdiff_t>(k) * wide + n) * W, left > 0 ? load(from + n * W, left) : Vector<T>{});
    }
  }
}

// Vectors that a column is asked for ahead of its reading.
constexpr int prefetched = 4;

// The same of a matrix given by its columns: column(j) -> pointer to `depth` numbers, or null for a column of zeros.
template <class Stored, class Column>
void pack_columns(Stored* to, int panel, int depth, int vectors, Column&& column) {
  using T = Wide<Stored>;
  constexpr int W = width<T>;
  const int first = panel * panel_vectors;
  const int wide = vectors - first < panel_vectors ? vectors - first : panel_vectors;
  for (int k0 = 0; k0 < depth; k0 += W) {
    const int terms = depth - k0 < W ? depth - k0 : W;
    for (int n = 0; n < wide; ++n) {
      Vector<T> square[W];
      for (int lane = 0; lane < W; ++lane) {
        const T* from = column((first + n) * W + lane);
        if (from) __builtin_prefetch(from + k0 + prefetched * W);  // more columns at a time than the processor foresees
        square[lane] = from ? load(from + k0, terms) : Vector<T>{};
      }
      transpose<T>(square);
      for (int k = 0; k < terms; ++k) store(to + (static_cast<ptrdiff_t>(k0 + k) * wide + n) * W, square[k]);
    }
  }
}

// Puts the columns of each of `count` groups of a vector's width together, group after group `apart` rows from the next, and
// adds them to `totals`.
template <class T, int most>
void gather_groups(const T* from, ptrdiff_t stride, int depth, int count, int apart, T* to, T* totals) {
  constexpr int W = width<T>;
  with_count<most>(count, [&](auto groups) {
    constexpr int G = decltype(groups)::value;
    Vector<T> sums[G];
    for (int group = 0; group < G; ++group) sums[group] = load(totals + group * W);
    for (int i = 0; i < depth; ++i, from += stride) {
#pragma GCC unroll 8
      for (int group = 0; group < G; ++group) {
        const Vector<T> v = load(from + group * W);
        store(to + (group * apart + i) * W, v);
        sums[group] = sums[group] + v;
      }
    }
    for (int group = 0; group < G; ++group) store(totals + group * W, sums[group]);
  });
}

// One group of W columns of A, W numbers a row, times a packed panel of B: added to C (W rows of `stride`, whole vectors wide).
template <class T>
void columns_times_panel(const T* group, const T* panel, int depth, int vectors, T* c, ptrdiff_t stride) {
  constexpr int W = width<T>;
  with_count<panel_vectors>(vectors, [&](auto wide) {
    constexpr int N = decltype(wide)::value;
    constexpr int most = tile_rows(N) < W ? tile_rows(N) : W;
    constexpr int height = most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;  // divides W
    for (int first = 0; first < W; first += height) {
      Vector<T> sum[height][N];
      for (int m = 0; m < height; ++m)
        for (int n = 0; n < N; ++n) {
          sum[m][n] = Vector<T>{};
          __builtin_prefetch(c + (first + m) * stride + n * W, 1);
        }
      for (int k = 0; k < depth; ++k) {
        Vector<T> b[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) b[n] = load(panel + (static_cast<ptrdiff_t>(k) * N + n) * W);
#pragma GCC unroll 8
        for (int m = 0; m < height; ++m) {
          const Vector<T> factor = fill(group[static_cast<ptrdiff_t>(k) * W + first + m]);
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) sum[m][n] = fma(factor, b[n], sum[m][n]);
        }
      }
      for (int m = 0; m < height; ++m)
        for (int n = 0; n < N; ++n) {
          T* to = c + (first + m) * stride + n * W;
          store(to, load(to) + sum[m][n]);
        }
    }
  });
}

}  // namespace RECURRA_ISA
