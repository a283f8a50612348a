// Blurs images in memory: layouts, borders, plans, threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "task.hpp"

namespace blur {

struct Image {
    Type type;
    const void* source;
    void* target;                       // of the same shape, without gaps, interleaved if the source is
    std::vector<std::int64_t> shape;    // (..., channels, rows, columns)
    std::vector<std::int64_t> strides;  // in elements
    bool interleaved;                   // the channels of a pixel lie side by side
};

struct Kernels {
    Type type;  // floats or doubles
    const void* data;
    std::vector<std::int64_t> shape;  // (height, width), or (images, height, width) for one each; contiguous
};

// Blurs on at most so many threads. Returns which images (0 if one kernel serves all) have too large a kernel
// for the loops and want an FFT: they are not written. Throws std::invalid_argument.
std::vector<int> run(const Image& image, const Kernels& kernels, std::string_view border, int threads);

// How the first of the kernels would be applied to images of a type.
std::string kind_of(const Kernels& kernels, Type type);

// The instruction sets whose loops can run here, best first; the one in use; another choice.
std::vector<std::string> instruction_sets();
std::string instructions();
void use(std::string_view instructions);

}  // namespace blur
