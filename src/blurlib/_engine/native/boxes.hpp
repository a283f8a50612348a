// Boxes along the rows.
#pragma once

#include "weighted.hpp"

namespace blur {
namespace {

inline void finish(std::uint8_t* to, U16 sum, int elements, int n) {
    store(to, convert<Vector<std::uint8_t, lanes<std::uint16_t>>>(ShortDivision(n)(sum)), elements);
}
inline void finish(std::uint8_t* to, I32 sum, int elements, int n) {
    const auto words = convert<HalfU16>(Division(n)(sum));
    store(to, convert<Vector<std::uint8_t, lanes<float>>>(words), elements);
}
inline void finish(float* to, F32 sum, int elements, int) { store(to, sum, elements); }
inline void finish(float* to, F64 sum, int elements, int) { store(to, convert<HalfF32>(sum), elements); }
inline void finish(double* to, F64 sum, int elements, int) { store(to, sum, elements); }

// to[x] += more[x]
template <class Sum>
inline void add_row(Sum* to, const Sum* more, int length) {
    using V = Register<Sum>;
    for (int x = 0; x < length; x += lanes<Sum>)
        store(to + x, load<V>(to + x) + load<V>(more + x), lanes<Sum>);
}

// S_2m[x] = S_m[x] + S_m[x + m]: sums of 1, 2, 4, 8, ... neighbours. A box is those of its length's binary
// digits, side by side. No number goes through more than 2 log2(n) additions, so that floats lose little.
template <class Pixel, class Sum>
void box_sums(const Task& task, std::int64_t first, std::int64_t last) {
    Tiles<Pixel, Pixel> tiles(task);
    const int n = task.length, step = task.step;
    const std::int64_t size = tiles.stride + std::int64_t(n) * step + lanes<Sum>;
    Memory<Sum> sums(size), total(tiles.template sums<Sum>());
    std::memset(sums.data(), 0, size * sizeof(Sum));
    // Floats are weighed at once: their sum might overflow.
    const Sum weight = sizeof(Pixel) > 1 ? Sum(task.core_weight) : Sum(1);
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y++) {
            const Pixel* from = tiles.row(y) + task.first * step;
            const int used = tiles.used - task.first * step, length = tiles.length;
            Sum* __restrict sum = sums.data();
            for (int x = 0; x < used; x++) sum[x] = Sum(from[x] * weight);
            std::memset(total.data(), 0, padded<Sum>(length) * sizeof(Sum));
            for (int m = 1, done = 0; m <= n; m *= 2) {
                if (n & m) add_row(total.data(), sum + done * step, length), done += m;
                if (2 * m <= n) add_row(sum, sum + m * step, used);
            }
            Pixel* to = tiles.result(y);
            along<lanes<Sum>, 1>(0, length, [&](auto, int x, int elements) {
                finish(to + x, load<Register<Sum>>(total.data() + x), elements, n);
            });
        }
    });
}

}  // namespace
}  // namespace blur
