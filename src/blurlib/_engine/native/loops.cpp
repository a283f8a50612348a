// The loops over pixels, compiled once for each instruction set, whose name BLUR_ISA is.
//
// A block of a row stays in registers while all taps pass by. That is what makes them fast, and what
// compilers do not find in plain loops. Everything here but `run` is in an anonymous namespace: functions
// that two of the compilations shared would be linked once, for whichever came first.
#include "boxes.hpp"
#include "bytes.hpp"
#include "integers.hpp"
#include "weighted.hpp"

namespace blur {
namespace {

// No blur.
template <class Pixel>
void copies(const Task& task, std::int64_t first, std::int64_t last) {
    const int strips = (task.rows + strip - 1) / strip, line = task.columns * task.step;
    for (std::int64_t unit = first; unit < last; unit++) {
        const std::int64_t plane = unit / strips;
        const int top = int(unit % strips) * strip;
        for (int y = top; y < least(top + strip, task.rows); y++) {
            const Pixel* from = static_cast<const Pixel*>(task.source) + task.starts[plane] + y * task.stride;
            std::memcpy(static_cast<Pixel*>(task.target) + (plane * task.rows + y) * line, from,
                        line * sizeof(Pixel));
        }
    }
}

template <class Pixel, class Real>
Run weighing(Kind kind) {
    switch (kind) {
        case Kind::copy:
            return copies<Pixel>;
        case Kind::weighted:
            return weighted_sums<Pixel, Real>;
        case Kind::separable:
            return separable_sums<Pixel, Real>;
        default:
            return nullptr;
    }
}

Run choose(const Task& task) {
    const bool few = task.core.size <= (task.type == Type::bytes ? 256 : most_equal_floats);
    const bool is_short = task.length <= 256;
    switch (task.type) {
        case Type::bytes:
            if (task.kind == Kind::equal && few && !task.enter.size && !task.ring.size) return mean_bytes;
            if (task.kind == Kind::equal) return few ? equal_bytes<std::uint16_t> : equal_bytes<std::int32_t>;
            if (task.kind == Kind::box)
                return is_short ? box_sums<std::uint8_t, std::uint16_t>
                                : box_sums<std::uint8_t, std::int32_t>;
            return weighing<std::uint8_t, float>(task.kind);
        case Type::floats:
            if (task.kind == Kind::equal) return few ? equal_floats<std::int32_t> : equal_floats<double>;
            if (task.kind == Kind::box) return is_short ? box_sums<float, float> : box_sums<float, double>;
            return weighing<float, float>(task.kind);
        case Type::doubles:
            if (task.kind == Kind::running) return running_sums<double>;
            if (task.kind == Kind::box) return box_sums<double, double>;
            return weighing<double, double>(task.kind);
    }
    return nullptr;
}

}  // namespace

namespace BLUR_ISA {
void run(const Task& task, std::int64_t first, std::int64_t last) { choose(task)(task, first, last); }
}  // namespace BLUR_ISA

}  // namespace blur
