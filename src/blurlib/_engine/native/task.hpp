// What the loops are told: an image in memory, its border, and a kernel as lists of taps.
#pragma once

#include <cstdint>

namespace blur {

enum class Type { bytes, floats, doubles };

// How a kernel is applied. plan.cpp chooses; every kind but `fft`, which is Python's, has its loop.
enum class Kind { copy, equal, weighted, running, separable, box, fft };

// An array of somebody else's. The loops see no std types: they are compiled once for each instruction set,
// and a function of the library that two of them share would be linked once, for whichever came first.
template <class T>
struct List {
    const T* data = nullptr;
    int size = 0;
};

struct Tap {
    int row, column;  // from the upper left corner of the kernel's window
    double weight;    // for this row of the result
    double below;     // for the row below it (kind `weighted`)
};

// Planes of rows. Pixel x of row y of plane p begins at source[starts[p] + y * stride + x * step], and `step`
// elements of a row belong together: 1 for planes, the number of channels for interleaved memory. The result
// has the same order without gaps. `row_of` and `column_of` give the source of each row and column of the
// image with its border; -1 stands for zeros.
struct Task {
    Type type;
    Kind kind;
    const void* source;
    void* target;
    const std::int64_t* starts;
    std::int64_t stride;
    int rows, columns, step;
    int height, width;  // of the kernel's window
    const int *row_of, *column_of;

    List<Tap> taps;                // every tap; for `weighted` those under either of two rows
    List<Tap> core, enter, leave;  // equal: the taps of one weight, what a step down adds and drops
    double core_weight;            // equal, box: the weight of each
    List<Tap> ring;                // equal: the other taps, those of one weight side by side
    List<int> groups;              // where each weight begins in the ring, and the end of the last
    List<double> group_weights;
    List<Tap> change;          // running: what a step down adds
    List<double> column, row;  // separable: the kernel is their product
    int first, length;         // box: where it begins in the window, and its pixels
};

// Rows and columns of a tile. They are part of what sums of floats are: the same for all layouts and threads.
constexpr int strip = 64, widest = 1024;

// Writes strips first to last - 1, counted over all planes.
using Run = void (*)(const Task&, std::int64_t first, std::int64_t last);

}  // namespace blur
