// Rows of bytes from sums, and sums of bytes under taps of one weight.
#pragma once

#include "tiles.hpp"

namespace blur {
namespace {

// Bytes are never widened one by one, for no instruction set does that well. A register of them is taken as
// 16-bit numbers, even + 256 * odd. Sums of bytes are kept as two such registers, of the even ones and of the
// odd ones, or as four of 32 bits, each with every fourth.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte of a pair is the lower one");

struct Quarters {
    I32 part[4];
};
inline Quarters quarters(U16 even, U16 odd) {
    return {{I32(U32(even) & 0xffff), I32(U32(odd) & 0xffff), I32(U32(even) >> 16), I32(U32(odd) >> 16)}};
}
inline Quarters signed_quarters(U16 even, U16 odd) {
    return {{I32(U32(even) << 16) >> 16, I32(U32(odd) << 16) >> 16, I32(even) >> 16, I32(odd) >> 16}};
}

// --- From sums to bytes ---

inline void write(std::uint8_t* to, const Quarters& bytes, int elements) {
    store(to, bytes.part[0] | bytes.part[1] << 8 | bytes.part[2] << 16 | bytes.part[3] << 24, elements);
}

// floor(sum + 1/2), clipped to 0 ... 255. (No NaN comes from bytes.)
inline I32 rounded(F32 sum) {
    const I32 value = convert<I32>(sum + 0.5f), full = I32{} + 255;
    const I32 positive = value > 0 ? value : I32{};
    return positive < full ? positive : full;
}
inline void write(std::uint8_t* to, F32 sum, int elements) {
    const auto words = convert<HalfU16>(rounded(sum));
    store(to, convert<Vector<std::uint8_t, lanes<float>>>(words), elements);
}

// (2 S + n) // (2 n) for a sum S of n <= 256 bytes, in 16 bits: ((S + bump) * factor >> 16) >> shift.
//
// The factor is 2^(16 + shift) / n, rounded up where that is near enough for every such S, else down, which
// takes one more in front.
struct ShortDivision {
    std::uint16_t bump, factor, shift = 0;

    explicit ShortDivision(int n) {
        while (2 << shift <= n) shift++;
        const std::int64_t power = 65536LL << shift, up = (power + n - 1) / n;
        const bool near = up < 65536 && (up * n - power) * (255 * n + n / 2) < power;
        bump = std::uint16_t(near ? n / 2 : n / 2 + 1), factor = std::uint16_t(near ? up : up - 1);
    }

    U16 operator()(U16 sum) const { return upper_half(sum + bump, U16{} + factor) >> shift; }
};

// The same for n up to 2^23, in 32 bits: floor(S / n + 1 / (4 n) + 1/2).
//
// The quarter keeps ties up and all else away from the next integer: its distance is at least 1 / (4 n), more
// than the error of floats up to n = 4096. Beyond that the quotient may be one off, which the remainder tells
// (unsigned: it is small, 2 S may not be).
struct Division {
    std::int32_t n;
    float share, offset;

    explicit Division(int n) : n(n), share(float(1.0 / n)), offset(float(0.25 / n + 0.5)) {}

    I32 operator()(I32 sum) const {
        const I32 quotient = convert<I32>(convert<F32>(sum) * share + offset);
        if (n <= 4096) return quotient;
        const std::uint32_t once = std::uint32_t(n), twice = 2 * once;
        const I32 rest = I32(U32(sum) * 2 + once - U32(quotient) * twice);
        return quotient - (rest >= 2 * n) + (rest < 0);  // comparisons are -1 where true
    }
};

// --- Sums ---

// even + 256 odd, added up over the taps; and odd alone. stepping: less those that a step down drops.
template <bool stepping, int n>
inline void sum_pairs(U16 (&even)[n], U16 (&odd)[n], const std::uint8_t* from, const Offsets& enter,
                      const Offsets& leave, int first, int last) {
    U16 whole[n] = {}, upper[n] = {};
    for (int k = first; k < last; k++) {
        for (int r = 0; r < n; r++) {
            U16 pairs = load<U16>(from + enter[k] + r * register_bytes), high = pairs >> 8;
            if constexpr (stepping) {
                const U16 leaving = load<U16>(from + leave[k] + r * register_bytes);
                pairs -= leaving, high -= leaving >> 8;
            }
            whole[r] += pairs, upper[r] += high;
        }
    }
    for (int r = 0; r < n; r++) even[r] = whole[r] - (upper[r] << 8), odd[r] = upper[r];
}

// Totals of a register of bytes: in 16 bits the even and the odd ones, in 32 bits the quarters.
inline void add_to(std::uint16_t* total, U16 even, U16 odd) {
    std::uint16_t* other = total + lanes<std::uint16_t>;
    store(total, load<U16>(total) + even, lanes<std::uint16_t>);
    store(other, load<U16>(other) + odd, lanes<std::uint16_t>);
}
inline void add_to(std::int32_t* total, U16 even, U16 odd) {
    const Quarters sums = signed_quarters(even, odd);
    for (int i = 0; i < 4; i++, total += lanes<std::int32_t>)
        store(total, load<I32>(total) + sums.part[i], lanes<std::int32_t>);
}
inline Quarters totals(const std::uint16_t* total) {
    return quarters(load<U16>(total), load<U16>(total + lanes<std::uint16_t>));
}
inline Quarters totals(const std::int32_t* total) {
    Quarters sums;
    for (int i = 0; i < 4; i++) sums.part[i] = load<I32>(total + i * lanes<std::int32_t>);
    return sums;
}

// total[x] += sum over the taps of from[x + enter[k]], stepping: less from[x + leave[k]].
template <bool stepping, class Total>
void add_bytes(Total* total, int length, const std::uint8_t* from, const Offsets& enter,
               const Offsets& leave) {
    const int at_a_time = sizeof(Total) == 2 ? 256 : 128;  // 16 bits hold these; with a sign, half as many
    for (int first = 0; first < enter.size; first += at_a_time) {
        const int last = least(enter.size, first + at_a_time);
        along<register_bytes, 4>(0, length, [&](auto count, int x, int) {
            constexpr int n = decltype(count)::value;
            U16 even[n], odd[n];
            sum_pairs<stepping>(even, odd, from + x, enter, leave, first, last);
            for (int r = 0; r < n; r++) add_to(total + x + r * register_bytes, even[r], odd[r]);
        });
    }
}

// to[x] = (2 total[x] + n) // (2 n)
void divide(std::uint8_t* to, int length, const std::uint16_t* total, int n) {
    const ShortDivision divided(n);
    along<register_bytes, 1>(0, length, [&](auto, int x, int elements) {
        const U16 even = divided(load<U16>(total + x));
        const U16 odd = divided(load<U16>(total + x + lanes<std::uint16_t>));
        store(to + x, even | odd << 8, elements);
    });
}
void divide(std::uint8_t* to, int length, const std::int32_t* total, int n) {
    const Division divided(n);
    along<register_bytes, 1>(0, length, [&](auto, int x, int elements) {
        Quarters sums = totals(total + x);
        for (int i = 0; i < 4; i++) sums.part[i] = divided(sums.part[i]);
        write(to + x, sums, elements);
    });
}

// The taps around a core of equal ones, in groups of one weight.
struct Ring {
    const Offsets taps;
    const List<int> starts;
    const List<double> weights;
    const float core;

    Ring(const Task& task, int stride)
        : taps(task.ring, stride, task.step),
          starts(task.groups),
          weights(task.group_weights),
          core(float(task.core_weight)) {}
};

// to[x] = core * total[x] + sum over the groups of weight * sum of the group's from[x + tap]
template <class Total>
void mix_bytes(std::uint8_t* to, int length, const Total* total, const std::uint8_t* from, const Ring& ring) {
    along<register_bytes, 2>(0, length, [&](auto count, int x, int elements) {
        constexpr int n = decltype(count)::value;
        F32 mixed[n][4];
        for (int r = 0; r < n; r++) {
            const Quarters sums = totals(total + x + r * register_bytes);
            for (int i = 0; i < 4; i++) mixed[r][i] = convert<F32>(sums.part[i]) * ring.core;
        }
        for (int g = 0; g < ring.weights.size; g++) {
            const float weight = float(ring.weights.data[g]);
            const int first = ring.starts.data[g], last = ring.starts.data[g + 1];
            U16 even[n], odd[n];
            sum_pairs<false>(even, odd, from + x, ring.taps, ring.taps, first, last);
            for (int r = 0; r < n; r++) {
                const Quarters sums = quarters(even[r], odd[r]);
                for (int i = 0; i < 4; i++) mixed[r][i] += weight * convert<F32>(sums.part[i]);
            }
        }
        for (int r = 0; r < n; r++) {
            Quarters bytes;
            for (int i = 0; i < 4; i++) bytes.part[i] = rounded(mixed[r][i]);
            write(to + x + r * register_bytes, bytes, elements - r * register_bytes);
        }
    });
}

// to[x] = (2 S + n) // (2 n) for the sum S of the n pixels under the taps, few enough for 16 bits.
void mean_bytes(const Task& task, std::int64_t first, std::int64_t last) {
    Tiles<std::uint8_t, std::uint8_t> tiles(task);
    const Offsets taps(task.core, tiles.stride, task.step);
    const ShortDivision divided(taps.size);
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y++) {
            const std::uint8_t* from = tiles.row(y);
            std::uint8_t* to = tiles.result(y);
            along<register_bytes, 4>(0, tiles.length, [&](auto count, int x, int elements) {
                constexpr int n = decltype(count)::value;
                U16 even[n], odd[n];
                sum_pairs<false>(even, odd, from + x, taps, taps, 0, taps.size);
                for (int r = 0; r < n; r++)
                    store(to + x + r * register_bytes, divided(even[r]) | divided(odd[r]) << 8,
                          elements - r * register_bytes);
            });
        }
    });
}

// S(y) = S(y - 1) + what a step down adds - what it drops: exact in integers, and for a disk of radius r
// 2 (2 r + 1) additions instead of pi r^2.
template <class Total>
void equal_bytes(const Task& task, std::int64_t first, std::int64_t last) {
    Tiles<std::uint8_t, std::uint8_t> tiles(task);
    const Offsets core(task.core, tiles.stride, task.step);
    const Offsets enter(task.enter, tiles.stride, task.step), leave(task.leave, tiles.stride, task.step);
    const Ring ring(task, tiles.stride);
    const int sums = tiles.sums<std::uint8_t>();
    Memory<Total> total(sums);
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y++) {
            if (y && enter.size) {
                add_bytes<true>(total.data(), tiles.length, tiles.row(y - 1), enter, leave);
            } else {
                std::memset(total.data(), 0, sums * sizeof(Total));
                add_bytes<false>(total.data(), tiles.length, tiles.row(y), core, core);
            }
            if (ring.weights.size)
                mix_bytes(tiles.result(y), tiles.length, total.data(), tiles.row(y), ring);
            else
                divide(tiles.result(y), tiles.length, total.data(), core.size);
        }
    });
}

}  // namespace
}  // namespace blur
