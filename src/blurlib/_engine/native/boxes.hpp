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

// S_4m[x] = S_m[x] + S_m[x + m] + S_m[x + 2m] + S_m[x + 3m]: sums of 1, 4, 16, ... neighbours. A box is those
// of its length's digits to base 4, side by side. No number goes through many additions, so that floats lose
// little.
template <class Pixel, class Sum>
void box_sums(const Task& task, std::int64_t first, std::int64_t last) {
    using V = Register<Sum>;
    Tiles<Pixel, Pixel> tiles(task);
    const int n = task.length, step = task.step;
    int levels = 1;
    for (int m = 4; m <= n; m *= 4) levels++;
    const std::int64_t line = padded<Sum>(tiles.stride + n * step);
    Memory<Sum> sums(line * levels);
    std::memset(sums.data(), 0, line * levels * sizeof(Sum));
    Memory<Tap> digits(3 * levels);
    int count = 0;
    for (int level = 0, done = 0; level < levels; level++)
        for (int k = n >> 2 * level & 3; k > 0; k--)
            digits[count++] = {level, done, 1, 0}, done += 1 << 2 * level;
    const Offsets parts({digits.data(), count}, line, step);
    // Floats are weighed at once: their sum might overflow.
    const Sum weight = sizeof(Pixel) > 1 ? Sum(task.core_weight) : Sum(1);
    tiles.each(first, last, [&] {
        for (int y = 0; y < tiles.height; y++) {
            const Pixel* from = tiles.row(y) + task.first * step;
            const int used = tiles.used - task.first * step;
            Sum* __restrict sum = sums.data();
            for (int x = 0; x < used; x++) sum[x] = Sum(from[x] * weight);
            for (int level = 1, m = step; level < levels; level++, m *= 4, sum += line)
                for (int x = 0; x < used; x += lanes<Sum>)
                    store(sum + line + x,
                          (load<V>(sum + x) + load<V>(sum + x + m)) +
                              (load<V>(sum + x + 2 * m) + load<V>(sum + x + 3 * m)),
                          lanes<Sum>);
            Pixel* to = tiles.result(y);
            along<lanes<Sum>, 4>(0, tiles.length, [&](auto number, int x, int elements) {
                constexpr int registers = decltype(number)::value;
                V total[registers] = {};
                for (int k = 0; k < parts.size; k++)
                    for (int r = 0; r < registers; r++)
                        total[r] += load<V>(sums.data() + parts[k] + x + r * lanes<Sum>);
                for (int r = 0; r < registers; r++)
                    finish(to + x + r * lanes<Sum>, total[r], elements - r * lanes<Sum>, n);
            });
        }
    });
}

}  // namespace
}  // namespace blur
