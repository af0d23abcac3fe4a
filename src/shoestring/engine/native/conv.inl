// The kernels of conv.h over vector types with 32 registers and an exact dot product of four bytes (and in plain C++).
#include "conv.h"
#if defined(__AVX2__) && !defined(__AVX512F__)
#include "conv_avx2.inl"
#else

namespace shoestring { namespace {

using Dot = V::Dot;

// Codes of four vectors of accumulators in zipped order.
inline V::I codes_of(const V::I acc[4], const ConvBlock& b, int o, bool plain) {
    const V::F m = V::splat(b.multipliers[o]);
    V::I r[4];
    for (int i = 0; i < 4; ++i) r[i] = V::to_int(V::mul(V::to_float(acc[i]), m));
    const V::I codes =
        plain ? V::narrow_plain(r[0], r[1], r[2], r[3], b.zero) : V::narrow(r[0], r[1], r[2], r[3], b.zero);
    return V::min_u8(V::max_u8(codes, V::splat_u8(b.low)), V::splat_u8(b.high));
}

inline void store_some(uint8_t* out, V::I codes, int64_t n) {
    if (n >= V::bytes) {
        V::store(out, codes);
    } else {
        uint8_t all[V::bytes];
        V::store(all, codes);
        memcpy(out, all, (size_t)n);
    }
}

// acc[output][vector] over the lists, for V::bytes pixels from `input`; `plain`: the input is interleaved.
template <bool plain>
inline void accumulate(const ConvBlock& b, const uint8_t* input, V::I acc[4][4]) {
    for (int o = 0; o < 4; ++o)
        for (int v = 0; v < 4; ++v) acc[o][v] = V::splat(b.bias[o]);
    const auto add = [&](const ConvList& list) {
        const int32_t* at = list.offsets;
        const int8_t* w = list.weights;
        for (int32_t q = 0; q < list.count; ++q, w += 4 * Dot::weight_bytes) {
            V::I x[4];
            if (plain) {
                for (int v = 0; v < 4; ++v) x[v] = V::load(input + *at + v * V::bytes);
                at += 1;
            } else {
                V::zip(V::load(input + at[0]), V::load(input + at[1]), V::load(input + at[2]), V::load(input + at[3]),
                       x);
                at += 4;
            }
            for (int v = 0; v < 4; ++v) {
                const Dot::X prepared = Dot::prepare(x[v]);
                for (int o = 0; o < 4; ++o) acc[o][v] = Dot::dot(acc[o][v], prepared, w + o * Dot::weight_bytes);
            }
        }
    };
    add(b.quads);
    if (b.rest.count) add(b.rest);
}

template <bool plain>
void convolve(const ConvBlock& b, const uint8_t* input, int64_t pixels, uint8_t* const out[4]) {
    for (int64_t p = 0; p < pixels; p += V::bytes) {
        V::I acc[4][4];
        accumulate<plain>(b, input + (plain ? 4 * p : p), acc);
        for (int o = 0; o < 4; ++o) store_some(out[o] + p, codes_of(acc[o], b, o, plain), pixels - p);
    }
}

void accumulators(const ConvBlock& b, const uint8_t* input, int64_t pixels, int32_t* const out[4]) {
    for (int64_t p = 0; p < pixels; p += V::bytes) {
        V::I acc[4][4];
        accumulate<true>(b, input + 4 * p, acc);
        const int64_t n = pixels - p < V::bytes ? pixels - p : V::bytes;
        for (int o = 0; o < 4; ++o) memcpy(out[o] + p, acc[o], (size_t)n * 4);
    }
}

// Compilers make vectors of it, as they know that nothing overlaps.
void interleave(const uint8_t* const rows[4], int64_t pixels, uint8_t* __restrict out) {
    const uint8_t* __restrict a = rows[0], * __restrict b = rows[1], * __restrict c = rows[2], * __restrict d = rows[3];
    for (int64_t p = 0; p < pixels; ++p)
        out[4 * p] = a[p], out[4 * p + 1] = b[p], out[4 * p + 2] = c[p], out[4 * p + 3] = d[p];
}

void widen(const int8_t[16], int8_t[32]) {}

constexpr ConvKernels conv_kernels = {
    false, Dot::input_offset, convolve<false>, convolve<true>, accumulators, interleave, widen};

}}  // namespace shoestring
#endif
