// Sums of 32-bit floats under taps of one weight, as integers: they neither drift nor depend on their order.
#pragma once

#include "bytes.hpp"

namespace blur {
namespace {

// Tile by tile the largest float of a channel becomes this: 256 of them fit into 32 bits.
constexpr double largest_integer = (1 << 23) - 4;

// The factors of that along a row of the buffer, and the shares that lead back along a row of the result.
// Numbers whose factor would be too large for a float are multiplied by `lift` before.
struct Scales {
    Memory<float> factors, shares;
    float lift = 1;

    explicit Scales(const Tiles<float, float>& tiles) : factors(tiles.stride), shares(tiles.sums<float>()) {}

    void find(const Tiles<float, float>& tiles) {
        const int step = tiles.task.step, used = tiles.used, length = tiles.length;
        float smallest = 1;
        for (int c = 0; c < step; c++) {
            std::uint32_t bits = 0;
            for (int x = c; x < used; x += step) bits = most(bits, tiles.peaks[x]);
            std::memcpy(&shares[c], &bits, sizeof bits);
            if (bits) smallest = least(smallest, shares[c]);
        }
        lift = smallest < 1e-30f ? 0x1p64f : 1;
        for (int c = 0; c < step; c++) {
            const double peak = double(shares[c]) * lift;
            factors[c] = peak == 0 ? 0 : float(largest_integer / peak);
            shares[c] = float(peak / largest_integer);
        }
        for (int x = step; x < used; x++) factors[x] = factors[x - step];
        for (int x = step; x < length; x++) shares[x] = shares[x - step];
    }
};

// buffer[x] = round(buffer[x] * lift * factors[x]), as an integer in the same memory
inline void quantise(const Tiles<float, float>& tiles, const Scales& scales) {
    const int used = tiles.used;
    const float lift = scales.lift;
    const F32 half = F32{} + 0.5f;
    for (int i = 0; i < tiles.filled; i++) {
        float* row = tiles.buffer.data() + std::int64_t(i) * tiles.stride;
        for (int x = 0; x < used; x += lanes<float>) {
            const F32 value = load<F32>(row + x) * lift * load<F32>(scales.factors.data() + x);
            const I32 whole = convert<I32>(value + (value < 0 ? -half : half));
            std::memcpy(row + x, &whole, sizeof whole);
        }
    }
}

// Totals of a register: 32 bits hold those of 256 taps, a double those of all.
inline void add_to(std::int32_t* total, I32 sum) { store(total, load<I32>(total) + sum, lanes<float>); }
inline void add_to(double* total, I32 sum) {
    using HalfI32 = Vector<std::int32_t, lanes<double>>;
    HalfI32 half[2];
    std::memcpy(half, &sum, sizeof sum);
    for (int i = 0; i < 2; i++, total += lanes<double>)
        store(total, load<F64>(total) + convert<F64>(half[i]), lanes<double>);
}
inline F32 real(const std::int32_t* total) { return convert<F32>(load<I32>(total)); }
inline F32 real(const double* total) {
    HalfF32 half[2];
    for (int i = 0; i < 2; i++) half[i] = convert<HalfF32>(load<F64>(total + i * lanes<double>));
    F32 value;
    std::memcpy(&value, half, sizeof value);
    return value;
}

template <bool stepping, int n>
inline void sum_integers(I32 (&sums)[n], const float* from, const Offsets& enter, const Offsets& leave,
                         int first, int last) {
    I32 total[n] = {};
    for (int k = first; k < last; k++) {
        for (int r = 0; r < n; r++) {
            I32 value = load<I32>(from + enter[k] + r * lanes<float>);
            if constexpr (stepping) value -= load<I32>(from + leave[k] + r * lanes<float>);
            total[r] += value;
        }
    }
    for (int r = 0; r < n; r++) sums[r] = total[r];
}

// total[x] += sum over the taps of from[x + enter[k]], stepping: less from[x + leave[k]].
template <bool stepping, class Total>
void add_integers(Total* total, int length, const float* from, const Offsets& enter, const Offsets& leave) {
    const int at_a_time = stepping ? 128 : 256;  // 32 bits hold these
    for (int first = 0; first < enter.size; first += at_a_time) {
        const int last = least(enter.size, first + at_a_time);
        along<lanes<float>, 4>(0, length, [&](auto count, int x, int) {
            constexpr int n = decltype(count)::value;
            I32 sums[n];
            sum_integers<stepping>(sums, from + x, enter, leave, first, last);
            for (int r = 0; r < n; r++) add_to(total + x + r * lanes<float>, sums[r]);
        });
    }
}

// to[x] = share[x] * (core * total[x] + sum over the groups of weight * sum of the group's from[x + tap])
template <class Total>
void mix_integers(float* to, int length, const Total* total, const float* from, const Ring& ring,
                  const Scales& scales) {
    const float drop = 1 / scales.lift;
    along<lanes<float>, 4>(0, length, [&](auto count, int x, int elements) {
        constexpr int n = decltype(count)::value;
        F32 mixed[n];
        for (int r = 0; r < n; r++) mixed[r] = real(total + x + r * lanes<float>) * ring.core;
        for (int g = 0; g < ring.weights.size; g++) {
            const float weight = float(ring.weights.data[g]);
            const int first = ring.starts.data[g], last = ring.starts.data[g + 1];
            I32 sums[n];
            sum_integers<false>(sums, from + x, ring.taps, ring.taps, first, last);
            for (int r = 0; r < n; r++) mixed[r] += weight * convert<F32>(sums[r]);
        }
        for (int r = 0; r < n; r++) {
            const int at = x + r * lanes<float>;
            store(to + at, mixed[r] * load<F32>(scales.shares.data() + at) * drop, elements - r * lanes<float>);
        }
    });
}

// As equal_bytes. The error is about 1e-7 of the largest number in a tile and around it.
template <class Total>
void equal_floats(const Task& task, std::int64_t first, std::int64_t last) {
    Tiles<float, float> tiles(task);
    const Offsets core(task.core, tiles.stride, task.step);
    const Offsets enter(task.enter, tiles.stride, task.step), leave(task.leave, tiles.stride, task.step);
    const Ring ring(task, tiles.stride);
    const int sums = tiles.sums<float>();
    Memory<Total> total(sums);
    Scales scales(tiles);
    tiles.each(first, last, [&] {
        scales.find(tiles);
        quantise(tiles, scales);
        for (int y = 0; y < tiles.height; y++) {
            if (y && enter.size) {
                add_integers<true>(total.data(), tiles.length, tiles.row(y - 1), enter, leave);
            } else {
                std::memset(total.data(), 0, sums * sizeof(Total));
                add_integers<false>(total.data(), tiles.length, tiles.row(y), core, core);
            }
            mix_integers(tiles.result(y), tiles.length, total.data(), tiles.row(y), ring, scales);
        }
    });
}

}  // namespace
}  // namespace blur
