// Weighted sums in floating point: any kernel, kernels that change little from row to row, products of two.
#pragma once

#include "bytes.hpp"

namespace blur {
namespace {

inline void write(float* to, F32 sum, int elements) { store(to, sum, elements); }
inline void write(double* to, F64 sum, int elements) { store(to, sum, elements); }

// Taps are added up in chunks, since the rounding errors of 32-bit floats grow with the number of additions.
constexpr int chunk = 66;

// Taps under one row of the result or under two neighbours, which share what is loaded.
template <class Real, int rows>
struct Weighted {
    const Offsets at;
    Memory<Real> weights;  // of tap k for row i: [rows * k + i]

    Weighted(List<Tap> taps, std::int64_t stride, int step)
        : at(taps, stride, step), weights(std::int64_t(taps.size) * rows) {
        for (int k = 0; k < taps.size; k++) {
            weights[rows * k] = Real(taps.data[k].weight);
            if (rows == 2) weights[rows * k + 1] = Real(taps.data[k].below);
        }
    }
};

// total[i][r] = sum over the taps of weights[i] * from[tap + register r]
template <class Real, int rows, int n>
inline void weigh_registers(Register<Real> (&total)[rows][n], const Real* from,
                            const Weighted<Real, rows>& taps) {
    using Sum = Register<Real>;
    Sum whole[rows][n] = {};
    for (int first = 0; first < taps.at.size; first += chunk) {
        Sum part[rows][n] = {};
        const int last = least(first + chunk, taps.at.size);
        for (int k = first; k < last; k++) {
            for (int r = 0; r < n; r++) {
                const Sum value = load<Sum>(from + taps.at[k] + r * lanes<Real>);
                for (int i = 0; i < rows; i++) part[i][r] += taps.weights[rows * k + i] * value;
            }
        }
        for (int i = 0; i < rows; i++)
            for (int r = 0; r < n; r++) whole[i][r] += part[i][r];
    }
    for (int i = 0; i < rows; i++)
        for (int r = 0; r < n; r++) total[i][r] = whole[i][r];
}

// to[i][x] = sum over the taps of weights[i] * from[x + tap], for one row or two
template <class Real, int rows, class Pixel>
void weigh(Pixel* const (&to)[rows], int length, const Real* from, const Weighted<Real, rows>& taps) {
    along<lanes<Real>, 4>(0, length, [&](auto count, int x, int elements) {
        constexpr int n = decltype(count)::value;
        Register<Real> total[rows][n];
        weigh_registers<Real, rows, n>(total, from + x, taps);
        for (int i = 0; i < rows; i++)
            for (int r = 0; r < n; r++)
                write(to[i] + x + r * lanes<Real>, total[i][r], elements - r * lanes<Real>);
    });
}

// Any kernel, for two rows at a time.
template <class Pixel, class Real>
void weighted_sums(const Task& task, std::int64_t first, std::int64_t last) {
    Tiles<Pixel, Real> tiles(task);
    const Weighted<Real, 2> taps(task.taps, tiles.stride, task.step);
    Memory<Pixel> nowhere(tiles.line());
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y += 2) {
            Pixel* below = y + 1 < tiles.height ? tiles.result(y + 1) : nowhere.data();
            weigh<Real, 2, Pixel>({tiles.result(y), below}, tiles.length, tiles.row(y), taps);
        }
    });
}

// S(y)[x] = S(y - 1)[x] + sum over the changes of weight * from[x + tap], afresh in each tile. In doubles
// only: floats would drift too far.
template <class Real>
void running_sums(const Task& task, std::int64_t first, std::int64_t last) {
    using Sum = Register<Real>;
    Tiles<Real, Real> tiles(task);
    const Weighted<Real, 1> taps(task.taps, tiles.stride, task.step);
    const Weighted<Real, 1> change(task.change, tiles.stride, task.step);
    Memory<Real> total(tiles.template sums<Real>());
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y++) {
            const Real* from = tiles.row(y ? y - 1 : 0);
            Real* to = tiles.result(y);
            along<lanes<Real>, 4>(0, tiles.length, [&](auto count, int x, int elements) {
                constexpr int n = decltype(count)::value;
                Sum sum[1][n];
                weigh_registers<Real, 1, n>(sum, from + x, y ? change : taps);
                for (int r = 0; r < n; r++) {
                    Real* kept = total.data() + x + r * lanes<Real>;
                    if (y) sum[0][r] += load<Sum>(kept);
                    store(kept, sum[0][r], lanes<Real>);
                    write(to + x + r * lanes<Real>, sum[0][r], elements - r * lanes<Real>);
                }
            });
        }
    });
}

// Kernels that are a column times a row: down first, for two rows at a time, then along.
template <class Pixel, class Real>
void separable_sums(const Task& task, std::int64_t first, std::int64_t last) {
    Tiles<Pixel, Real> tiles(task);
    const int high = task.column.size, wide = task.row.size;
    Memory<Tap> column(high + 1), row(wide);
    for (int i = 0; i <= high; i++)
        column[i] = {i, 0, i < high ? task.column.data[i] : 0, i ? task.column.data[i - 1] : 0};
    for (int i = 0; i < wide; i++) row[i] = {0, i, task.row.data[i], 0};
    const Weighted<Real, 2> down({column.data(), high + 1}, tiles.stride, task.step);
    const Weighted<Real, 1> across({row.data(), wide}, tiles.stride, task.step);
    const std::int64_t size = 2 * std::int64_t(tiles.stride) + lanes<Real>;
    Memory<Real> middle(size);
    std::memset(middle.data(), 0, size * sizeof(Real));  // registers read past the end
    Real* const rows[2] = {middle.data(), middle.data() + tiles.stride};
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y += 2) {
            weigh<Real, 2, Real>({rows[0], rows[1]}, tiles.used, tiles.row(y), down);
            weigh<Real, 1, Pixel>({tiles.result(y)}, tiles.length, rows[0], across);
            if (y + 1 < tiles.height)
                weigh<Real, 1, Pixel>({tiles.result(y + 1)}, tiles.length, rows[1], across);
        }
    });
}

}  // namespace
}  // namespace blur
