#include "plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace blur {
namespace {

// What an element costs, in picoseconds: fitted on one AVX-512 core. Only the ratios matter.
struct Costs {
    double weighted, separable, box, equal;  // everything but the taps
    double pixel_of_box, equal_tap;
};
constexpr Costs of_bytes{370, 560, 340, 130, 2.1, 9}, of_floats{380, 700, 570, 720, 4, 33};
constexpr double ring_start = 110, group = 60, pair = 19, down = 15, across = 32, fft = 14000;

// What 32 bits can hold the sum of.
constexpr int most_equal_bytes = 1 << 23;

// A kernel turned as it lies over the image in a true convolution, without the zeros around it.
struct Window {
    int height, width;
    std::vector<double> weights;

    double at(int i, int j) const { return i < 0 || i >= height ? 0.0 : weights[std::size_t(i) * width + j]; }
};

void check_sum(double total) {
    if (!std::isfinite(total))
        throw std::invalid_argument(
            "`kernel` must be finite, got NaN or infinity in it; look at how it was made");
    if (std::abs(total - 1) <= 1e-3) return;
    char text[120];
    std::snprintf(text, sizeof text,
                  "`kernel` must have a sum of 1 within 1e-3, got %g; use kernel / kernel.sum()", total);
    throw std::invalid_argument(text);
}

template <class Real>
Window window_of(const Real* kernel, int height, int width) {
    double total = 0;
    int up = 0, left = 0;
    for (int i = 0; i < height; i++) {
        for (int j = 0; j < width; j++) {
            const double value = kernel[std::size_t(i) * width + j];
            if (value == 0) continue;
            total += value;
            up = std::max(up, std::abs(i - height / 2)), left = std::max(left, std::abs(j - width / 2));
        }
    }
    check_sum(total);
    Window window{2 * up + 1, 2 * left + 1, {}};
    window.weights.reserve(std::size_t(window.height) * window.width);
    for (int i = 0; i < window.height; i++) {
        const Real* row = kernel + std::size_t(height / 2 + up - i) * width + width / 2 + left;
        for (int j = 0; j < window.width; j++) window.weights.push_back(row[-j]);
    }
    return window;
}

// The most frequent weight of a kernel: of the taps from `weight` to `tolerance` above it.
struct Core {
    double weight = 0, tolerance = 0;
    int taps = 0, changes = 0, groups = 0;  // how many have it, how many a step down adds; different weights

    bool has(double value) const { return value >= weight && value - weight <= tolerance && value != 0; }
};

// `same`: weights that differ by less, in parts of the largest, are one weight.
Core core_of(const Window& window, std::vector<double> values, double same) {
    Core core;
    std::sort(values.begin(), values.end());
    core.tolerance = same * std::max(std::abs(values.front()), std::abs(values.back()));
    for (std::size_t first = 0, k = 1; k <= values.size(); k++) {
        if (k < values.size() && values[k] - values[first] <= core.tolerance) continue;
        core.groups++;
        if (int(k - first) > core.taps) core.taps = int(k - first), core.weight = values[first];
        first = k;
    }
    for (int i = 0; i < window.height; i++)
        for (int j = 0; j < window.width; j++)
            core.changes += core.has(window.at(i, j)) && !core.has(window.at(i - 1, j));
    return core;
}

void list_equal_taps(Plan& plan, const Window& window, const Core& core, bool running) {
    for (int j = 0; j < window.width; j++) {
        for (int i = 0; i <= window.height; i++) {
            const bool here = core.has(window.at(i, j)), above = core.has(window.at(i - 1, j));
            if (here)
                plan.core.push_back({i, j, 1, 0});
            else if (window.at(i, j) != 0)
                plan.ring.push_back({i, j, window.at(i, j), 0});
            // Seen from the row above: what begins here is dropped by a step down, what has ended is added.
            if (running && here != above) (here ? plan.leave : plan.enter).push_back({i, j, 1, 0});
        }
    }
    plan.core_weight = core.weight;
    const auto lighter = [](const Tap& a, const Tap& b) { return a.weight < b.weight; };
    std::stable_sort(plan.ring.begin(), plan.ring.end(), lighter);
    const int n = int(plan.ring.size());
    for (int k = 0; k < n; k++) {
        const bool heavier = k == 0 || plan.ring[k].weight - plan.group_weights.back() > core.tolerance;
        if (!heavier && k - plan.groups.back() < 256) continue;  // 16 bits hold the sum of as many bytes
        plan.groups.push_back(k), plan.group_weights.push_back(plan.ring[k].weight);
    }
    plan.groups.push_back(n);
}

// Whether the kernel is a column times a row, but for a sum of errors; and these.
bool find_profiles(Plan& plan, const Window& window, double tolerance) {
    const auto smaller = [](double a, double b) { return std::abs(a) < std::abs(b); };
    const auto largest = std::max_element(window.weights.begin(), window.weights.end(), smaller);
    const int place = int(largest - window.weights.begin());
    const int top = place / window.width, left = place % window.width;
    std::vector<double> column, row;
    for (int i = 0; i < window.height; i++) column.push_back(window.at(i, left));
    for (int j = 0; j < window.width; j++) row.push_back(window.at(top, j) / *largest);
    double error = 0;
    for (int i = 0; i < window.height; i++)
        for (int j = 0; j < window.width; j++) error += std::abs(column[i] * row[j] - window.at(i, j));
    if (!(error <= tolerance)) return false;
    plan.column = column, plan.row = row;
    return true;
}

// Where a row of n taps begins, or -1 if there are gaps in it.
int start_of_box(const Window& window, int n) {
    const auto used = [](double weight) { return weight != 0; };
    const auto begin = std::find_if(window.weights.begin(), window.weights.end(), used);
    return window.weights.end() - begin >= n && std::all_of(begin, begin + n, used)
               ? int(begin - window.weights.begin())
               : -1;
}

}  // namespace

template <class Real>
Plan Plan::of(const Real* kernel, int height, int width, Type type) {
    const Window window = window_of(kernel, height, width);
    Plan plan;
    plan.height = window.height, plan.width = window.width;
    if (window.weights.size() == 1 && window.weights[0] == 1) return plan;

    std::vector<double> values;
    int pairs = 0, changes = 0;
    for (int i = 0; i <= window.height; i++) {
        for (int j = 0; j < window.width; j++) {
            const double here = window.at(i, j), above = window.at(i - 1, j);
            if (here != 0) values.push_back(here);
            pairs += here != 0 || above != 0, changes += here != above;
        }
    }
    const bool bytes = type == Type::bytes, doubles = type == Type::doubles;
    const int n = int(values.size());
    // What symmetry makes equal up to rounding is equal, but for doubles, which would show it.
    const Core core = core_of(window, values, doubles ? 0 : 1e-9);
    const Costs& costs = bytes ? of_bytes : of_floats;
    const double each = doubles ? 2 : 1;  // half as many to a register

    const auto consider = [&](Kind kind, double cost) {
        if (plan.kind == Kind::copy || cost < plan.cost) plan.kind = kind, plan.cost = cost;
    };
    // Equal taps whose sum is not quite 1 would be divided by their number, which is another result.
    const bool flat = core.groups == 1 && std::abs(core.weight * n - 1) <= 1e-6;
    const bool exact = flat && bytes;  // ties too: by integers alone
    const bool running = 2 * core.changes < core.taps;
    if (!doubles && (flat || core.groups > 1) && core.taps <= most_equal_bytes) {
        const int added = (running ? 2 * core.changes : core.taps) + n - core.taps;
        const double ring = flat ? 0 : ring_start + group * core.groups;
        consider(Kind::equal, costs.equal + costs.equal_tap * added + ring);
    }
    if (flat && window.height == 1 && (plan.first = start_of_box(window, n)) >= 0)
        plan.length = n, consider(Kind::box, costs.box + costs.pixel_of_box * n * each);
    if (!exact || plan.kind == Kind::copy) consider(Kind::fft, fft * each);
    if (!exact) {
        consider(Kind::weighted, costs.weighted + pair * pairs * each);
        if (doubles) consider(Kind::running, costs.weighted + 2 * across * changes);
        // A kernel made in float32 is of rank one to that precision only: enough for all but doubles.
        const double separable = costs.separable + (down * window.height + across * window.width) * each;
        if (separable < plan.cost && std::min(window.height, window.width) > 1 &&
            values.size() == window.weights.size() && find_profiles(plan, window, doubles ? 1e-13 : 2e-7))
            consider(Kind::separable, separable);
    }

    const bool paired = plan.kind == Kind::weighted;
    for (int i = 0; i <= window.height; i++) {
        for (int j = 0; j < window.width; j++) {
            const double here = window.at(i, j), above = window.at(i - 1, j);
            if (here != 0 || (paired && above != 0)) plan.taps.push_back({i, j, here, above});
            if (plan.kind == Kind::running && here != above) plan.change.push_back({i, j, above - here, 0});
        }
    }
    if (plan.kind == Kind::equal) list_equal_taps(plan, window, core, running);
    if (plan.kind == Kind::box) plan.core_weight = core.weight;
    return plan;
}

template Plan Plan::of(const float*, int, int, Type);
template Plan Plan::of(const double*, int, int, Type);

}  // namespace blur
