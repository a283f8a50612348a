// From a kernel to a plan: which taps, added in which way, blur an image at the least cost.
#pragma once

#include <vector>

#include "task.hpp"

namespace blur {

struct Plan {
    Kind kind = Kind::copy;
    int height = 1, width = 1;  // of the kernel without the zeros around it
    double cost = 60;           // picoseconds for an element of the image, about
    // As Task has them.
    std::vector<Tap> taps, core, enter, leave, ring, change;
    std::vector<int> groups;
    std::vector<double> group_weights, column, row;
    double core_weight = 1;
    int first = 0, length = 0;

    // The plan for a kernel (height, width), both odd, and images of a type. Throws std::invalid_argument if
    // the kernel is not finite or does not sum to 1.
    template <class Real>
    static Plan of(const Real* kernel, int height, int width, Type type);
};

}  // namespace blur
