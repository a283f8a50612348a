// The engine for Python: images by their address, so that it knows neither torch nor NumPy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "engine.hpp"
#include "trajectory.hpp"

namespace nb = nanobind;

namespace {

using Sizes = std::vector<std::int64_t>;
template <class T, class... Rest>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu, Rest...>;

blur::Type type_of(char code) {
    switch (code) {
        case 'u':
            return blur::Type::bytes;
        case 'f':
            return blur::Type::floats;
        case 'd':
            return blur::Type::doubles;
        default:
            throw std::invalid_argument("a type must be u, f or d");
    }
}

// Where an array's memory begins; NumPy's own answer takes ten times as long.
std::uintptr_t address(nb::handle array) {
    Py_buffer view;
    if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_STRIDES)) throw nb::python_error();
    const auto begin = reinterpret_cast<std::uintptr_t>(view.buf);
    PyBuffer_Release(&view);
    return begin;
}

std::vector<int> run(std::uintptr_t source, std::uintptr_t target, char type, Sizes shape, Sizes strides,
                     bool interleaved, std::uintptr_t kernels, char kernel_type, Sizes kernel_shape,
                     std::string_view border, int threads) {
    const nb::gil_scoped_release released;
    return blur::run({type_of(type), reinterpret_cast<const void*>(source), reinterpret_cast<void*>(target),
                      std::move(shape), std::move(strides), interleaved},
                     {type_of(kernel_type), reinterpret_cast<const void*>(kernels), std::move(kernel_shape)},
                     border, threads);
}

std::string kind_of(Array<const double, nb::ndim<2>> kernel, char type) {
    const Sizes shape{std::int64_t(kernel.shape(0)), std::int64_t(kernel.shape(1))};
    return blur::kind_of({blur::Type::doubles, kernel.data(), shape}, type_of(type));
}

bool draw_trajectory(Array<const std::uint64_t, nb::ndim<1>> words, Array<const double, nb::ndim<3>> basis,
                     int grid, int samples, Array<double, nb::ndim<2>> kernel) {
    const int points = int(basis.shape(2)), size = int(kernel.shape(0));
    const bool fits = grid > 0 && points > 1 && samples > 1 && basis.shape(0) == 4 &&
                      int(basis.shape(1)) == points - 1 && int(kernel.shape(1)) == size && size >= grid &&
                      words.shape(0) >= 2 * (std::size_t(points) + std::size_t(grid) * grid);
    if (!fits) throw std::invalid_argument("words, basis, grid and kernel do not fit together");
    return blur::draw_trajectory(words.data(), {basis.data(), points, samples}, grid, kernel.data(), size);
}

}  // namespace

NB_MODULE(_core, module) {
    module.def("address", &address);
    module.def("blur", &run);
    module.def("kind_of", &kind_of);
    module.def("draw_trajectory", &draw_trajectory);
    module.def("instruction_sets", &blur::instruction_sets);
    module.def("instructions", &blur::instructions);
    module.def("use", &blur::use);
}
