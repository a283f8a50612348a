// Compiled without fused multiplications and additions: the banks are the same on every machine, to the bit.
#include "trajectory.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace blur {
namespace {

constexpr double pi = 3.141592653589793;

double uniform(std::uint64_t word) { return double(word >> 11) * 0x1p-53; }

// The two coordinates of the curve: coefficients [4][pieces] each, the highest power first.
struct Curve {
    int pieces, samples, grid;
    std::vector<double> x, y;

    int pixel_of(const std::vector<double>& c, int i, double s) const {
        const double value = ((c[i] * s + c[pieces + i]) * s + c[2 * pieces + i]) * s + c[3 * pieces + i];
        return int(std::min(std::max(value, 0.0), grid - 1.0) + 0.5);
    }

    // Row and column that sample j rounds to, as one number.
    int pixel(int j) const {
        const double t = j < samples - 1 ? j * (pieces / (samples - 1.0)) : double(pieces);
        const int i = std::min(int(t), pieces - 1);
        return pixel_of(y, i, t - i) * grid + pixel_of(x, i, t - i);
    }
};

// The last samples of stretches on which neither coordinate turns: a piece ends, or a derivative
// 3 a s^2 + 2 b s + c is zero. One sample of slack on both sides of a root, which is rounded.
std::vector<int> turns(const Curve& curve) {
    const int pieces = curve.pieces;
    const double step = pieces / (curve.samples - 1.0);
    std::vector<int> found;
    const auto note = [&](int i, double s) {
        if (!(0 < s && s < 1)) return;
        const int at = int((i + s) / step);
        for (int near = at - 1; near <= at + 1; near++) found.push_back(near);
    };
    for (int i = 0; i < pieces; i++) {
        found.push_back(int(std::ceil(i / step)) - 1);
        for (const auto* c : {&curve.x, &curve.y}) {
            const double a = 3 * (*c)[i], b = 2 * (*c)[pieces + i], linear = (*c)[2 * pieces + i];
            if (a != 0) {
                const double square = b * b - 4 * a * linear;
                if (square < 0) continue;
                note(i, (-b - std::sqrt(square)) / (2 * a));
                note(i, (-b + std::sqrt(square)) / (2 * a));
            } else if (b != 0) {
                note(i, -linear / b);
            }
        }
    }
    found.push_back(curve.samples - 1);
    std::sort(found.begin(), found.end());
    return found;
}

// Between two samples with no turn, rounding is monotone: equal ends mean that all samples between them round
// to the same pixel. So all of them count, but few are computed.
void mark(const Curve& curve, int first, int last, std::vector<char>& visited) {
    const int a = curve.pixel(first), b = curve.pixel(last);
    visited[a] = visited[b] = 1;
    if (a == b || last - first < 2) return;
    const int middle = (first + last) / 2;
    mark(curve, first, middle, visited);
    mark(curve, middle, last, visited);
}

std::vector<char> visited_pixels(const Curve& curve) {
    std::vector<char> visited(std::size_t(curve.grid) * curve.grid);
    int first = 0;
    for (const int end : turns(curve)) {
        const int last = std::min(end, curve.samples - 1);
        if (last < first) continue;
        mark(curve, first, last, visited);
        first = last + 1;
    }
    return visited;
}

Curve curve_of(const std::uint64_t* words, const Spline& spline, int grid) {
    const int points = spline.points, pieces = points - 1;
    Curve curve{pieces, spline.samples, grid, std::vector<double>(4 * pieces),
                std::vector<double>(4 * pieces)};
    for (int k = 0; k < 4 * pieces; k++) {
        for (int p = 0; p < points; p++) {
            curve.x[k] += spline.basis[k * points + p] * std::floor(uniform(words[2 * p]) * grid);
            curve.y[k] += spline.basis[k * points + p] * std::floor(uniform(words[2 * p + 1]) * grid);
        }
    }
    return curve;
}

}  // namespace

bool draw_trajectory(const std::uint64_t* words, const Spline& spline, int grid, double* kernel, int size) {
    const std::vector<char> visited = visited_pixels(curve_of(words, spline, grid));
    // Weights are integers, so that sums and the centroid are exact on every machine.
    std::vector<std::int64_t> weights(visited.size());
    std::int64_t total = 0, down = 0, across = 0;
    for (std::size_t k = 0; k < visited.size(); k++) {
        if (!visited[k]) continue;
        const std::uint64_t* pair = words + 2 * spline.points + 2 * k;
        const double u = uniform(pair[0]), v = uniform(pair[1]);
        const double normal = std::sqrt(-2 * std::log(1 - u)) * std::cos(2 * pi * v);
        const auto weight = std::int64_t(std::floor((1 + 0.5 * normal) * 1048576 + 0.5));
        if (weight <= 0) continue;
        weights[k] = weight, total += weight;
        down += weight * std::int64_t(k / grid), across += weight * std::int64_t(k % grid);
    }
    if (!total) return false;
    // The rounded centroid comes to lie in the middle.
    const int row = int((2 * down + total) / (2 * total)), column = int((2 * across + total) / (2 * total));
    const int middle = size / 2;
    if (std::max({row, grid - 1 - row, column, grid - 1 - column}) > middle) return false;
    for (int r = 0; r < grid; r++) {
        for (int c = 0; c < grid; c++) {
            const std::int64_t weight = weights[r * grid + c];
            if (weight)
                kernel[(r - row + middle) * size + c - column + middle] = double(weight) / double(total);
        }
    }
    return true;
}

}  // namespace blur
