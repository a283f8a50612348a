// The engine without Python: blurs of every kind from a fixed generator. Prints a digest of each, to compare
// instruction sets, processors and compilers; with a file's name as second argument also writes the results.
//
//     check list
//     check base|v3|v4|best [file]
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "engine.hpp"
#include "trajectory.hpp"

namespace {

using blur::Type;

struct Generator {
    std::uint64_t state = 1;
    std::uint32_t operator()() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return std::uint32_t(state >> 32);
    }
};

struct Kernel {
    const char* name;
    int height, width;
    std::vector<double> weights;
};

// A kernel of weights f(y, x) from its middle, divided by their sum. Nothing here but + - * / and sqrt, which
// are the same on every processor.
template <class F>
Kernel kernel(const char* name, int up, int left, F f) {
    Kernel made{name, 2 * up + 1, 2 * left + 1, {}};
    double total = 0;
    for (int y = -up; y <= up; y++)
        for (int x = -left; x <= left; x++) made.weights.push_back(f(y, x)), total += made.weights.back();
    for (double& weight : made.weights) weight /= total;
    return made;
}

std::vector<Kernel> kernels() {
    Generator next;
    const auto disk = [](double radius) {
        return [=](int y, int x) -> double { return x * x + y * y <= radius * radius; };
    };
    const auto soft = [](double radius) {
        return [=](int y, int x) {
            const double cover = std::round((radius + 0.5 - std::sqrt(double(x * x + y * y))) * 64) / 64;
            return std::fmin(1, std::fmax(0, cover));
        };
    };
    const auto hill = [](double width) {
        return
            [=](int y, int x) { return 1 / ((1 + x * x / (width * width)) * (1 + y * y / (width * width))); };
    };
    const auto one = [](int, int) { return 1.0; };
    const auto sparse = [&](int, int) -> double { return next() % 9 == 0 ? 1 + next() % 100 : 0; };
    return {
        kernel("identity", 0, 0, one),
        kernel("shift", 1, 1, [](int y, int x) -> double { return y == 1 && x == -1; }),
        kernel("disk 1.5", 2, 2, disk(1.5)),
        kernel("disk 8", 8, 8, disk(8)),
        kernel("disk 12", 12, 12, disk(12)),
        kernel("disk 40", 40, 40, disk(40)),
        kernel("soft disk 8", 9, 9, soft(8)),
        kernel("soft disk 20", 21, 21, soft(20)),
        kernel("hill 1", 4, 4, hill(1)),
        kernel("hill 4", 16, 16, hill(4)),
        kernel("box 17", 0, 8, one),
        kernel("box 301", 0, 150, one),
        kernel("column 17", 8, 0, one),
        kernel("rectangle", 3, 6, one),
        kernel("sparse 7", 3, 3, sparse),
        kernel("sparse 17", 8, 8, sparse),
        kernel("noise 5", 2, 2, [&](int, int) { return next() % 1000 / 1000.0; }),
        kernel("sharpening", 1, 1, [](int y, int x) -> double { return y || x ? -1 : 9; }),
        kernel("stripes", 4, 4, [](int y, int x) -> double { return (x * y + 32) % 3 ? 1 : 3; }),
    };
}

std::FILE* file = nullptr;

void report(const char* name, const char* kind, const void* data, std::size_t size) {
    std::uint64_t digest = 1469598103934665603ull;
    for (std::size_t i = 0; i < size; i++)
        digest = (digest ^ static_cast<const unsigned char*>(data)[i]) * 1099511628211ull;
    std::printf("%s\t%s\t%llu\t%016llx\n", name, kind, static_cast<unsigned long long>(size),
                static_cast<unsigned long long>(digest));
    if (file) std::fwrite(data, 1, size, file);
}

// An image of `count` elements: bytes, or numbers between -1 and 2, some of them of other magnitudes.
template <class T>
std::vector<T> pixels(std::size_t count, bool wild, int seed) {
    Generator next{std::uint64_t(seed)};
    std::vector<T> image(count);
    for (T& pixel : image) {
        if (sizeof(T) == 1) {
            pixel = T(next() >> 24);
            continue;
        }
        pixel = T((next() >> 8) * (3.0 / (1 << 24)) - 1);
        const std::uint32_t which = wild ? next() : 1;
        if (which % 5 == 0) pixel *= T(1e6);
        if (which % 7 == 0) pixel *= T(1e-9);
        if (which % 9001 == 0) pixel = std::numeric_limits<T>::infinity();
        if (which % 9007 == 0) pixel = std::numeric_limits<T>::quiet_NaN();
    }
    return image;
}

template <class T>
constexpr Type type_of = sizeof(T) == 1   ? Type::bytes
                         : sizeof(T) == 4 ? Type::floats
                                          : Type::doubles;
constexpr const char* type_names[] = {"uint8", "float32", "float64"};

// NaN has many patterns; which of them comes out is the processor's affair.
template <class T>
void unify(std::vector<T>& image) {
    for (T& pixel : image)
        if (pixel != pixel) pixel = std::numeric_limits<T>::quiet_NaN();
}

template <class T>
void blur_all(const Kernel& kernel, bool wild) {
    struct Shape {
        std::int64_t channels, rows, columns;
        bool interleaved;
    };
    const std::vector<std::int64_t> sides{kernel.height, kernel.width};
    const std::string kind = blur::kind_of({Type::doubles, kernel.weights.data(), sides}, type_of<T>);
    int seed = 0;
    for (const Shape shape : {Shape{3, 70, 131, false}, Shape{3, 70, 131, true}, Shape{1, 33, 1100, false}}) {
        for (const char* border : {"reflect", "symmetric", "replicate", "circular", "zeros"}) {
            const auto [c, h, w, interleaved] = shape;
            std::vector<T> image = pixels<T>(c * h * w, wild, ++seed), result(image.size());
            const std::vector<std::int64_t> strides =
                interleaved ? std::vector{std::int64_t(1), w * c, c} : std::vector{h * w, w, std::int64_t(1)};
            const auto left =
                blur::run({type_of<T>, image.data(), result.data(), {c, h, w}, strides, interleaved},
                          {Type::doubles, kernel.weights.data(), sides}, border, 1 + seed % 2);
            if (!left.empty()) continue;
            if (wild) unify(result);
            char name[120];
            std::snprintf(name, sizeof name, "%s, %s, %s%s, %d x %d x %d%s", kernel.name, border,
                          type_names[int(type_of<T>)], wild ? " wild" : "", int(c), int(h), int(w),
                          interleaved ? " interleaved" : "");
            report(name, kind.c_str(), result.data(), result.size() * sizeof(T));
        }
    }
}

// One kernel in 32 bits for each of two images.
void blur_two(const Kernel& first, const Kernel& second) {
    std::vector<float> weights;
    for (const Kernel* one : {&first, &second})
        weights.insert(weights.end(), one->weights.begin(), one->weights.end());
    std::vector<float> image = pixels<float>(2 * 40 * 50, false, 7), result(image.size());
    blur::run({Type::floats, image.data(), result.data(), {2, 1, 40, 50}, {2000, 2000, 50, 1}, false},
              {Type::floats, weights.data(), {2, first.height, first.width}}, "reflect", 2);
    report("two kernels, float32", "-", result.data(), result.size() * sizeof(float));
}

// Polygons instead of cubic splines: the same arithmetic on simpler numbers.
void draw(int points, int grid, int size, int seed) {
    const int pieces = points - 1;
    std::vector<double> basis(std::size_t(4) * pieces * points), drawn(std::size_t(size) * size);
    for (int i = 0; i < pieces; i++) {
        basis[(2 * pieces + i) * points + i] = -1, basis[(2 * pieces + i) * points + i + 1] = 1;
        basis[(3 * pieces + i) * points + i] = 1;
        basis[i * points + i] = 0.5, basis[(pieces + i) * points + i] = -0.5;  // a bend within the piece
    }
    Generator next{std::uint64_t(seed)};
    std::vector<std::uint64_t> words(2 * (std::size_t(points) + std::size_t(grid) * grid));
    for (auto& word : words) word = std::uint64_t(next()) << 32 | next();
    const bool fits =
        blur::draw_trajectory(words.data(), {basis.data(), points, 3000}, grid, drawn.data(), size);
    char name[60];
    std::snprintf(name, sizeof name, "trajectory %d on %d, float64", seed, grid);
    report(name, fits ? "drawn" : "refused", drawn.data(), drawn.size() * sizeof(double));
}

}  // namespace

int main(int count, char** arguments) {
    if (count > 1 && std::strcmp(arguments[1], "list") == 0) {
        for (const auto& name : blur::instruction_sets()) std::printf("%s\n", name.c_str());
        return 0;
    }
    if (count > 1 && std::strcmp(arguments[1], "best") != 0) {
        const auto sets = blur::instruction_sets();
        bool known = false;
        for (const auto& name : sets) known |= name == arguments[1];
        if (!known) return std::printf("this processor has no %s\n", arguments[1]), 3;
        blur::use(arguments[1]);
    }
    if (count > 2 && !(file = std::fopen(arguments[2], "wb"))) return 1;
    const std::vector<Kernel> every = kernels();
    for (const Kernel& kernel : every) {
        blur_all<std::uint8_t>(kernel, false);
        blur_all<float>(kernel, false);
        blur_all<float>(kernel, true);
        blur_all<double>(kernel, false);
        blur_all<double>(kernel, true);
    }
    blur_two(every[2], every[16]);
    for (int seed = 1; seed <= 40; seed++) draw(2 + seed % 6, 9 + 2 * (seed % 15), 41, seed);
    if (file && std::fclose(file)) return 1;
}
