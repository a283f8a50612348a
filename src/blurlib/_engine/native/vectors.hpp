// Vectors as GCC and Clang have them in plain C++, as wide as the instruction set that this file is compiled
// for.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace blur {
namespace {

#if defined(__AVX512BW__)
constexpr int register_bytes = 64;
#elif defined(__AVX2__)
constexpr int register_bytes = 32;
#else
constexpr int register_bytes = 16;
#endif

template <class T, int n>
struct VectorOf {
    typedef T type __attribute__((vector_size(n * sizeof(T))));
};
template <class T, int n>
using Vector = typename VectorOf<T, n>::type;

template <class T>
constexpr int lanes = register_bytes / int(sizeof(T));
template <class T>
using Register = Vector<T, lanes<T>>;

using U8 = Register<std::uint8_t>;
using U16 = Register<std::uint16_t>;
using U32 = Register<std::uint32_t>;
using I32 = Register<std::int32_t>;
using F32 = Register<float>;
using F64 = Register<double>;
using HalfU16 = Vector<std::uint16_t, lanes<float>>;  // as many elements as a register of floats has
using HalfF32 = Vector<float, lanes<double>>;         // as many as a register of doubles

template <class V>
inline V load(const void* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
#if defined(__x86_64__) && !defined(__clang__)
    asm("" : "+v"(value));  // else GCC loads again wherever the value is used, and loads are the bottleneck
#endif
    return value;
}

// Copies fewer than 2 * part bytes by halves: the library's memcpy takes longer than the sums of a register.
template <int part>
inline void copy_start(char* to, const char* from, int bytes) {
    if constexpr (part > 0) {
        const int taken = bytes & part;
        if (taken) std::memcpy(to, from, part);
        copy_start<part / 2>(to + taken, from + taken, bytes);
    }
}

// Writes what of a register belongs to the row. Not inline: it would cost the loops around it registers.
template <class V>
__attribute__((noinline)) void store_start(void* to, V value, int bytes) {
#if defined(__AVX512BW__)
    if constexpr (sizeof value == 64) {
        _mm512_mask_storeu_epi8(to, (1ULL << bytes) - 1, __m512i(value));
        return;
    }
#endif
    copy_start<sizeof value / 2>(static_cast<char*>(to), reinterpret_cast<const char*>(&value), bytes);
}

// Writes a register, or what of it belongs to the row.
template <class V, class T>
inline void store(T* to, V value, int elements) {
    const int bytes = elements * int(sizeof(T));
    if (bytes >= int(sizeof value))
        std::memcpy(to, &value, sizeof value);
    else
        store_start(to, value, bytes);
}

template <class V, class W>
inline V convert(W value) {
    return __builtin_convertvector(value, V);
}

// a * b / 65536: one instruction on x86, which compilers do not find.
inline U16 upper_half(U16 a, U16 b) {
#if defined(__AVX512BW__)
    return U16(_mm512_mulhi_epu16(__m512i(a), __m512i(b)));
#elif defined(__AVX2__)
    return U16(_mm256_mulhi_epu16(__m256i(a), __m256i(b)));
#elif defined(__SSE2__)
    return U16(_mm_mulhi_epu16(__m128i(a), __m128i(b)));
#else
    using Wide = Vector<std::uint32_t, lanes<std::uint16_t>>;
    return convert<U16>(convert<Wide>(a) * convert<Wide>(b) >> 16);
#endif
}

template <class T>
inline T least(T a, T b) {
    return b < a ? b : a;
}
template <class T>
inline T most(T a, T b) {
    return a < b ? b : a;
}

// A number of registers that the body of a loop takes as a constant.
template <int n>
struct Count {
    static constexpr int value = n;
};

// Calls body(Count<n>, x, elements) along a row, for blocks of n registers of `width` elements: as many as
// sums are held in at a time, then fewer. `elements` does not reach past the row; the last register may.
template <int width, int n, class Body>
inline void along(int x, int length, const Body& body) {
    for (; x + n * width <= length; x += n * width) body(Count<n>{}, x, n * width);
    if constexpr (n > 1)
        along<width, n / 2>(x, length, body);
    else if (x < length)
        body(Count<1>{}, x, length - x);
}

// The next whole number of registers.
template <class T>
inline int padded(int length) {
    return (length + lanes<T> - 1) / lanes<T> * lanes<T>;
}

// Memory that begins on a register.
template <class T>
class Memory {
  public:
    explicit Memory(std::int64_t size)
        : data_(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{64}))) {}
    ~Memory() { ::operator delete(data_, std::align_val_t{64}); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    T* data() const { return data_; }
    T& operator[](std::int64_t i) const { return data_[i]; }

  private:
    T* data_;
};

}  // namespace
}  // namespace blur
