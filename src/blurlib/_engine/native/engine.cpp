#include "engine.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "plan.hpp"

namespace blur {

// loops.cpp, once for each instruction set; "base" is what the compiler takes for granted.
namespace base {
void run(const Task&, std::int64_t, std::int64_t);
}
#if defined(BLUR_X86)
namespace v3 {
void run(const Task&, std::int64_t, std::int64_t);
}
namespace v4 {
void run(const Task&, std::int64_t, std::int64_t);
}
#endif

namespace {

struct Loops {
    const char* name;
    Run run;
};

#if defined(BLUR_X86)
struct Registers {
    std::uint32_t a, b, c, d;
};
// Asked by the instructions themselves: the compilers' builtin needs a library that clang-cl does not link.
Registers cpuid(std::uint32_t leaf) {
    Registers r;
    asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(0));
    return r;
}

bool has(std::uint32_t flags, std::initializer_list<int> bits) {
    return std::all_of(bits.begin(), bits.end(), [&](int bit) { return flags >> bit & 1; });
}

// The best level of x86-64 that the processor has and whose registers the system saves: 4, 3, or 1 for the
// rest.
int level_of_processor() {
    const std::uint32_t features = cpuid(1).c, more = cpuid(0).a < 7 ? 0 : cpuid(7).b;
    // FMA, MOVBE, XGETBV, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
    if (!has(features, {12, 22, 27, 28, 29}) || !has(more, {3, 5, 8})) return 1;
    if (cpuid(0x80000000).a < 0x80000001 || !has(cpuid(0x80000001).c, {5})) return 1;
    std::uint32_t saved, rest;
    asm volatile("xgetbv" : "=a"(saved), "=d"(rest) : "c"(0));
    if (!has(saved, {1, 2})) return 1;
    // AVX512 F, DQ, CD, BW, VL
    return has(more, {16, 17, 28, 30, 31}) && has(saved, {5, 6, 7}) ? 4 : 3;
}
#endif

std::vector<Loops> runnable() {
    std::vector<Loops> found;
#if defined(BLUR_X86)
    const int level = level_of_processor();
    if (level >= 4) found.push_back({"v4", v4::run});
    if (level >= 3) found.push_back({"v3", v3::run});
#endif
    found.push_back({"base", base::run});
    return found;
}

const std::vector<Loops>& every() {
    static const std::vector<Loops> loops = runnable();
    return loops;
}

std::atomic<std::size_t> in_use{0};

// --- Borders ---

// Where the pixel at `position` of a line of `size` comes from, by a rule that goes on for ever; -1 is zero.
int source_of(std::int64_t position, std::int64_t size, std::string_view border) {
    const auto wrapped = [&](std::int64_t period) { return (position % period + period) % period; };
    if (position >= 0 && position < size) return int(position);
    if (border == "zeros") return -1;
    if (border == "replicate") return int(std::clamp<std::int64_t>(position, 0, size - 1));
    if (border == "circular") return int(wrapped(size));
    const int twice = border == "symmetric";  // whether the edge is in its own reflection
    const std::int64_t period = std::max<std::int64_t>(1, 2 * size - 2 + 2 * twice), folded = wrapped(period);
    return int(folded < size ? folded : period - folded - twice);
}

std::vector<int> border_map(int size, int before, std::string_view border) {
    std::vector<int> map(std::size_t(size) + 2 * before);
    for (std::size_t k = 0; k < map.size(); k++) map[k] = source_of(std::int64_t(k) - before, size, border);
    return map;
}

// --- Jobs: a plan and the planes that it is for ---

template <class T>
List<T> list(const std::vector<T>& items) {
    return {items.data(), int(items.size())};
}

struct Job {
    Plan plan;
    std::vector<int> row_of, column_of;
    Task task;
    std::int64_t units;  // strips of all planes

    Job(Plan made, const Task& image, std::int64_t planes, std::string_view border)
        : plan(std::move(made)), task(image), units(planes * ((task.rows + strip - 1) / strip)) {
        row_of = border_map(task.rows, plan.height / 2, border);
        column_of = border_map(task.columns, plan.width / 2, border);
        task.kind = plan.kind, task.height = plan.height, task.width = plan.width;
        task.row_of = row_of.data(), task.column_of = column_of.data();
        task.taps = list(plan.taps), task.change = list(plan.change);
        task.core = list(plan.core), task.enter = list(plan.enter), task.leave = list(plan.leave);
        task.core_weight = plan.core_weight;
        task.ring = list(plan.ring), task.groups = list(plan.groups);
        task.group_weights = list(plan.group_weights);
        task.column = list(plan.column), task.row = list(plan.row);
        task.first = plan.first, task.length = plan.length;
    }
};

using Jobs = std::vector<std::unique_ptr<Job>>;

// The threads take one piece after another: shares cut beforehand would all wait for the thread that wakes up
// last. They are made for this call, so there is nothing to keep and nothing that a fork could break.
void share_out(const Jobs& jobs, Run run, int threads) {
    struct Piece {
        const Task* task;
        std::int64_t first, last;
    };
    double whole = 0;
    for (const auto& job : jobs) whole += double(job->units) * job->plan.cost;
    std::vector<Piece> pieces;
    for (const auto& job : jobs) {
        // About eight pieces of the same cost for each thread.
        const double wanted = 8 * threads * double(job->units) * job->plan.cost / whole;
        const std::int64_t parts = std::clamp<std::int64_t>(std::int64_t(wanted + 0.5), 1, job->units);
        for (std::int64_t k = 0; k < parts; k++)
            pieces.push_back({&job->task, job->units * k / parts, job->units * (k + 1) / parts});
    }
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::atomic<bool> failed{false};
    const auto work = [&] {
        try {
            for (std::size_t k; (k = next++) < pieces.size();)
                run(*pieces[k].task, pieces[k].first, pieces[k].last);
        } catch (...) {  // no memory
            if (!failed.exchange(true)) failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        for (int i = 1; i < threads && i < int(pieces.size()); i++) others.emplace_back(work);
    } catch (const std::system_error&) {
        // No more threads to be had: those that there are do it.
    }
    work();
    for (auto& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

// --- Checks: what Python hands over is memory by its address, so nothing may be taken for granted ---

void check(bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
}

int side(std::int64_t size) {
    check(size >= 0 && size < 1 << 30, "`image` must have sides below 2^30 pixels");
    return int(size);
}

void check_kernels(const Kernels& kernels) {
    const auto& shape = kernels.shape;
    check(shape.size() == 2 || shape.size() == 3, "`kernel` must be (h, w) or (B, h, w)");
    const std::int64_t height = shape[shape.size() - 2], width = shape.back();
    check(height > 0 && height % 2 && width > 0 && width % 2 && height < 1 << 15 && width < 1 << 15,
          "`kernel` must have odd height and width below 2^15");
}

Plan plan_of(const Kernels& kernels, std::int64_t index, Type type) {
    const int height = int(kernels.shape[kernels.shape.size() - 2]), width = int(kernels.shape.back());
    const std::int64_t start = index * height * width;
    if (kernels.type == Type::floats)
        return Plan::of(static_cast<const float*>(kernels.data) + start, height, width, type);
    return Plan::of(static_cast<const double*>(kernels.data) + start, height, width, type);
}

// Where each plane begins; the channels of interleaved memory are one plane.
std::vector<std::int64_t> plane_starts(const Image& image) {
    std::vector<std::int64_t> starts{0};
    for (std::size_t d = 0; d < image.shape.size() - (image.interleaved ? 3 : 2); d++) {
        std::vector<std::int64_t> more;
        more.reserve(starts.size() * image.shape[d]);
        for (const std::int64_t start : starts)
            for (std::int64_t i = 0; i < image.shape[d]; i++) more.push_back(start + i * image.strides[d]);
        starts.swap(more);
    }
    return starts;
}

}  // namespace

std::vector<int> run(const Image& image, const Kernels& kernels, std::string_view border, int threads) {
    const auto &shape = image.shape, &strides = image.strides;
    const std::size_t n = shape.size();
    check(n >= 3 && strides.size() == n && *std::min_element(shape.begin(), shape.end()) >= 0,
          "`image` must be (..., C, H, W)");
    check_kernels(kernels);
    const bool each = kernels.shape.size() == 3;
    const auto borders = {"reflect", "symmetric", "replicate", "circular", "zeros"};
    check(std::find(borders.begin(), borders.end(), border) != borders.end(), "`border` has no such rule");
    check(!each || (n > 3 && kernels.shape[0] == shape[0]), "`kernel` (B, h, w) must have the image's B");
    Task task{};
    task.type = image.type;
    task.rows = side(shape[n - 2]), task.columns = side(shape[n - 1]);
    task.step = image.interleaved ? side(shape[n - 3]) : 1;
    task.stride = strides[n - 2];
    const bool side_by_side = image.interleaved ? strides[n - 3] == 1 && strides[n - 1] == task.step
                                                : strides[n - 1] == 1 || task.columns < 2;
    check(side_by_side || std::count(shape.begin(), shape.end(), 0),
          "`image` must have the pixels of a row side by side");
    check(std::int64_t(task.columns) * task.step < 1 << 30, "`image` must have rows below 2^30 elements");

    const std::int64_t images = each ? kernels.shape[0] : 1;
    Jobs jobs;
    std::vector<int> left;
    const std::vector<std::int64_t> starts = plane_starts(image);
    const std::int64_t planes = images ? std::int64_t(starts.size()) / images : 0;
    const std::int64_t plane = std::int64_t(task.rows) * task.columns * task.step;
    const int itemsize = image.type == Type::bytes ? 1 : image.type == Type::floats ? 4 : 8;
    double cost = 0;
    for (std::int64_t i = 0; i < images; i++) {
        Plan plan = plan_of(kernels, i, image.type);
        if (!planes || !plane) continue;
        if (plan.kind == Kind::fft) {
            left.push_back(int(i));
            continue;
        }
        cost += plan.cost * double(planes * plane);
        auto job = std::make_unique<Job>(std::move(plan), task, planes, border);
        job->task.source = image.source;
        job->task.target = static_cast<char*>(image.target) + i * planes * plane * itemsize;
        job->task.starts = starts.data() + i * planes;
        jobs.push_back(std::move(job));
    }
    const Run loops = every()[in_use].run;
    threads = std::min(threads, int(std::min(cost * 1e-8, 1024.0)));  // 100 microseconds are worth a thread
    if (threads > 1)
        share_out(jobs, loops, threads);
    else
        for (const auto& job : jobs) loops(job->task, 0, job->units);
    return left;
}

std::string kind_of(const Kernels& kernels, Type type) {
    check_kernels(kernels);
    constexpr const char* names[] = {"copy", "equal", "weighted", "running", "separable", "box", "fft"};
    return names[int(plan_of(kernels, 0, type).kind)];
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Loops& loops : every()) names.push_back(loops.name);
    return names;
}

std::string instructions() { return every()[in_use].name; }

void use(std::string_view instructions) {
    for (std::size_t k = 0; k < every().size(); k++) {
        if (instructions != every()[k].name) continue;
        in_use = k;
        return;
    }
    throw std::invalid_argument("no such instruction set here: " + std::string(instructions));
}

}  // namespace blur
