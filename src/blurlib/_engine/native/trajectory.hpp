// Camera shake: a random cubic spline, drawn on a lattice of pixels (the paper, section 3).
#pragma once

#include <cstdint>

namespace blur {

// Coefficients [4][points - 1][points] of the spline through control points, which is linear in them.
struct Spline {
    const double* basis;
    int points;
    int samples;  // that are rounded to pixels, both ends among them
};

// Draws one kernel (size, size) from random words, as kernels.camera_shake documents. Returns false, and
// writes nothing, if it has no weight or does not fit: to be drawn again.
bool draw_trajectory(const std::uint64_t* words, const Spline& spline, int grid, double* kernel, int size);

}  // namespace blur
