// Tiles of an image: copied into a buffer with their border, blurred there, written to the result.
#pragma once

#include "task.hpp"
#include "vectors.hpp"

namespace blur {
namespace {

// The magnitude of a float as an integer, which orders them alike and tells what is not finite.
template <class T>
struct Bits {
    using type = std::uint32_t;
    static constexpr type magnitude = 0x7fffffff, infinity = 0x7f800000;
};
template <>
struct Bits<double> {
    using type = std::uint64_t;
    static constexpr type magnitude = 0x7fffffffffffffff, infinity = 0x7ff0000000000000;
};

// Taps as distances in a buffer.
class Offsets {
  public:
    const int size;

    Offsets(List<Tap> taps, std::int64_t stride, int step) : size(taps.size), at_(taps.size) {
        for (int k = 0; k < size; k++) at_[k] = taps.data[k].row * stride + taps.data[k].column * step;
    }
    std::int64_t operator[](int k) const { return at_[k]; }

  private:
    Memory<std::int64_t> at_;
};

// The tiles of some strips, one after the other. `Stored` is what a pixel becomes in the buffer.
template <class Pixel, class Stored>
class Tiles {
  public:
    const Task& task;
    const int stride;                          // elements from row to row of the buffer
    Memory<Stored> buffer;                     // the tile and what lies around it
    int height, length;                        // rows of the tile, elements of one
    int filled, used;                          // rows of the buffer, elements of one
    Pixel* target;                             // where the tile begins in the result
    Memory<typename Bits<Pixel>::type> peaks;  // floats: the largest magnitude in each column of the buffer

    explicit Tiles(const Task& task)
        : task(task),
          stride(padded<Stored>((width_of_tile(task) + task.width - 1) * task.step)),
          buffer(std::int64_t(stride) * (rows_of_buffer(task) + 1) + 2 * lanes<Stored>),
          peaks(stride),
          edges_(std::int64_t(task.width - 1) * task.step) {
        // Pairs of rows may have one row too many, and registers read past the end.
        Stored* end = buffer.data() + std::int64_t(stride) * rows_of_buffer(task);
        std::memset(end, 0, (stride + 2 * lanes<Stored>)*sizeof(Stored));
    }

    // Elements of a row of the result.
    int line() const { return task.columns * task.step; }

    // The longest row of sums that a tile needs, in whole registers.
    template <class T>
    int sums() const {
        return padded<T>(width_of_tile(task) * task.step);
    }

    const Stored* row(int y) const { return buffer.data() + std::int64_t(y) * stride; }
    Pixel* result(int y) const { return target + std::int64_t(y) * line(); }

    // Fills one tile after the other and has `body` blur it.
    template <class Body>
    void each(std::int64_t first, std::int64_t last, const Body& body) {
        const int strips = (task.rows + strip - 1) / strip, width = width_of_tile(task);
        for (std::int64_t unit = first; unit < last; unit++) {
            const std::int64_t plane = unit / strips;
            const int top = int(unit % strips) * strip;
            height = least(strip, task.rows - top);
            filled = height + task.height - 1;
            for (int left = 0; left < task.columns; left += width) {
                length = least(width, task.columns - left) * task.step;
                used = length + (task.width - 1) * task.step;
                target =
                    static_cast<Pixel*>(task.target) + (plane * task.rows + top) * line() + left * task.step;
                fill(plane, top, left);
                if constexpr (sizeof(Pixel) > 1) {
                    if (is_broken()) {
                        blur_broken(body);
                        continue;
                    }
                }
                body();
            }
        }
    }

  private:
    Memory<int> edges_;

    static int width_of_tile(const Task& task) {
        const int tiles = (task.columns + widest - 1) / widest;
        return (task.columns + tiles - 1) / tiles;
    }
    static int rows_of_buffer(const Task& task) { return least(strip, task.rows) + task.height - 1; }

    void fill(std::int64_t plane, int top, int left) {
        const int before = task.width / 2;
        // The image's own pixels within a row of the buffer; the border lies left and right of them.
        const int inner = most(0, before - left) * task.step;
        const int outer = least(used, (task.columns + before - left) * task.step);
        find_edges(left, inner, outer);
        if constexpr (sizeof(Pixel) > 1) std::memset(peaks.data(), 0, used * sizeof peaks[0]);
        for (int i = 0; i < filled; i++) {
            Stored* __restrict to = buffer.data() + std::int64_t(i) * stride;
            const int y = task.row_of[top + i];
            if (y < 0) {
                std::memset(to, 0, used * sizeof(Stored));
                continue;
            }
            const Pixel* from = static_cast<const Pixel*>(task.source) + task.starts[plane] + y * task.stride;
            const Pixel* inside = from + std::int64_t(left - before) * task.step;
            for (int x = inner; x < outer; x++) to[x] = Stored(inside[x]);
            const int* edge = edges_.data();
            for (int x = 0; x < inner; x++, edge++) to[x] = *edge < 0 ? Stored(0) : Stored(from[*edge]);
            for (int x = outer, end = used; x < end; x++, edge++)
                to[x] = *edge < 0 ? Stored(0) : Stored(from[*edge]);
            if constexpr (sizeof(Pixel) > 1) note_peaks(to);
        }
    }

    // Where in a source row the border's elements come from; -1 for zero.
    void find_edges(int left, int inner, int outer) {
        int k = 0;
        for (int x = 0; x < used; x++) {
            if (x == inner) x = most(x, outer);
            if (x >= used) break;
            const int column = task.column_of[left + x / task.step];
            edges_[k++] = column < 0 ? -1 : column * task.step + x % task.step;
        }
    }

    void note_peaks(const Stored* row) {
        using Whole = typename Bits<Pixel>::type;
        Whole* __restrict peak = peaks.data();
        for (int x = 0, n = used; x < n; x++) {
            Whole bits;
            std::memcpy(&bits, row + x, sizeof bits);
            bits &= Bits<Pixel>::magnitude;
            peak[x] = bits > peak[x] ? bits : peak[x];
        }
    }

    bool is_broken() const {
        typename Bits<Pixel>::type largest = 0;
        const auto* peak = peaks.data();
        for (int x = 0, n = used; x < n; x++) largest = peak[x] > largest ? peak[x] : largest;
        return largest >= Bits<Pixel>::infinity;
    }

    // A NaN or an infinity goes where the kernel carries it and nowhere else: it is taken out of the buffer,
    // and added afterwards to the pixels that it belongs to.
    template <class Body>
    __attribute__((noinline)) void blur_broken(const Body& body) {
        int n = 0;
        for (int i = 0; i < filled; i++)
            for (int x = 0; x < used; x++) n += row(i)[x] - row(i)[x] != 0;
        Memory<Stored> what(n);
        Memory<int> where(std::int64_t(n) * 2);
        std::memset(peaks.data(), 0, used * sizeof peaks[0]);
        n = 0;
        for (int i = 0; i < filled; i++) {
            Stored* here = buffer.data() + std::int64_t(i) * stride;
            for (int x = 0; x < used; x++) {
                if (here[x] - here[x] == 0) continue;
                what[n] = here[x], where[2 * n] = i, where[2 * n + 1] = x, n++;
                here[x] = 0;
            }
            note_peaks(here);
        }
        body();
        for (int k = 0; k < task.taps.size; k++) {
            const Tap tap = task.taps.data[k];
            if (tap.weight == 0) continue;
            for (int m = 0; m < n; m++) {
                const int y = where[2 * m] - tap.row, x = where[2 * m + 1] - tap.column * task.step;
                if (y >= 0 && y < height && x >= 0 && x < length) result(y)[x] += what[m] * Pixel(tap.weight);
            }
        }
    }
};

}  // namespace
}  // namespace blur
