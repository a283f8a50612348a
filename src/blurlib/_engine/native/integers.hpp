// Sums of 32-bit floats under taps of one weight, as integers: they neither drift nor depend on their order.
#pragma once

#include "bytes.hpp"

namespace blur {
namespace {

// Tile by tile the largest float of a channel becomes this integer. 256 of them fit into 32 bits; for up to
// 1024 taps it is smaller, so that these fit, and more are added up in doubles. Rounding to it is an error of
// at most 2.5e-7 of the largest float. (What overflows on the way to a sum that fits does no harm: it comes
// back.)
constexpr int most_equal_floats = 1024;
inline double largest_integer(int taps) {
    const int at_once = taps <= 256 || taps > most_equal_floats ? 256 : taps;
    return (1LL << 31) / at_once - 4;
}

// The factors of that along a row of the buffer, and the shares that lead back along a row of the result.
// Numbers whose factor would be too large for a float are multiplied by `lift` before.
struct Scales {
    Memory<float> factors, shares;
    float lift = 1;
    const double largest;

    explicit Scales(const Tiles<float, float>& tiles)
        : factors(tiles.stride),
          shares(tiles.sums<float>()),
          largest(largest_integer(tiles.task.core.size)) {}

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
            factors[c] = peak == 0 ? 0 : float(largest / peak);
            shares[c] = float(peak / largest);
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

// Totals of a register: 32 bits hold those of few taps, a double those of all.
inline void add_to(std::int32_t* total, I32 sum) { store(total, load<I32>(total) + sum, lanes<float>); }
inline void add_to(double* total, I32 sum) {
    using HalfI32 = Vector<std::int32_t, lanes<double>>;
    HalfI32 half[2];
    std::memcpy(half, &sum, sizeof sum);
    for (int i = 0; i < 2; i++, total += lanes<double>)
        store(total, load<F64>(total) + convert<F64>(half[i]), lanes<double>);
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
    const int at_a_time = sizeof(Total) == 4 ? enter.size : stepping ? 128 : 256;  // 32 bits hold these
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

// Adds the ring's sums to those of some registers: the sum over the groups of weight * sum of from[tap].
template <int n>
inline void add_ring(F32 (&mixed)[n], const float* from, const Ring& ring) {
    for (int g = 0; g < ring.weights.size; g++) {
        const float weight = float(ring.weights.data[g]);
        I32 sums[n];
        sum_integers<false>(sums, from, ring.taps, ring.taps, ring.starts.data[g], ring.starts.data[g + 1]);
        for (int r = 0; r < n; r++) mixed[r] += weight * convert<F32>(sums[r]);
    }
}

// to[x] = share[x] * (core * total[x] + ring)
void mix_floats(float* to, int length, const std::int32_t* total, const float* from, const Ring& ring,
                const Scales& scales) {
    const float drop = 1 / scales.lift;
    along<lanes<float>, 4>(0, length, [&](auto count, int x, int elements) {
        constexpr int n = decltype(count)::value;
        F32 mixed[n];
        for (int r = 0; r < n; r++)
            mixed[r] = convert<F32>(load<I32>(total + x + r * lanes<float>)) * ring.core;
        add_ring(mixed, from + x, ring);
        for (int r = 0; r < n; r++) {
            const int at = x + r * lanes<float>;
            store(to + at, mixed[r] * load<F32>(scales.shares.data() + at) * drop,
                  elements - r * lanes<float>);
        }
    });
}
// The same from doubles, which are half as many to a register; the ring's sums stand in the result meanwhile.
void mix_floats(float* to, int length, const double* total, const float* from, const Ring& ring,
                const Scales& scales) {
    const bool has_ring = ring.weights.size > 0;
    if (has_ring) {
        along<lanes<float>, 4>(0, length, [&](auto count, int x, int elements) {
            constexpr int n = decltype(count)::value;
            F32 mixed[n] = {};
            add_ring(mixed, from + x, ring);
            for (int r = 0; r < n; r++)
                store(to + x + r * lanes<float>, mixed[r], elements - r * lanes<float>);
        });
    }
    const double core = ring.core, drop = 1 / double(scales.lift);
    along<lanes<double>, 4>(0, length, [&](auto count, int x, int elements) {
        constexpr int n = decltype(count)::value;
        for (int r = 0; r < n; r++) {
            const int at = x + r * lanes<double>, left = elements - r * lanes<double>;
            F64 mixed = load<F64>(total + at) * core;
            if (has_ring) {
                HalfF32 around = {};
                std::memcpy(&around, to + at, least(left, lanes<double>) * sizeof(float));
                mixed += convert<F64>(around);
            }
            mixed *= convert<F64>(load<HalfF32>(scales.shares.data() + at)) * drop;
            store(to + at, convert<HalfF32>(mixed), left);
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
            mix_floats(tiles.result(y), tiles.length, total.data(), tiles.row(y), ring, scales);
        }
    });
}

}  // namespace
}  // namespace blur
