// Vectors in what GCC and Clang understand for every target: what every other vec_*.h must compute.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace shoestring { namespace {

struct V {
    static constexpr int lanes = 4;  // int32 in a vector
    static constexpr int bytes = 4 * lanes;
    static constexpr int registers = 16;   // vector registers to plan for
    static constexpr bool widens = false;  // whether exact dot products need `DotWide` (see vec_avx2.h)
    using I = int32_t __attribute__((vector_size(bytes)));
    using F = float __attribute__((vector_size(bytes)));

    static I zero() { return I{}; }
    static I splat(int32_t x) { return I{x, x, x, x}; }
    static F splat(float x) { return F{x, x, x, x}; }
    static I load(const void* p) {
        I r;
        std::memcpy(&r, p, bytes);
        return r;
    }
    static F loadf(const float* p) {
        F r;
        std::memcpy(&r, p, bytes);
        return r;
    }
    static void store(void* p, I a) { std::memcpy(p, &a, bytes); }
    static void storef(float* p, F a) { std::memcpy(p, &a, bytes); }
    static I add(I a, I b) { return (I)((U)a + (U)b); }
    static F addf(F a, F b) { return a + b; }
    static F subf(F a, F b) { return a - b; }
    static F mul(F a, F b) { return a * b; }
    static F div(F a, F b) { return a / b; }
    static F fma(F a, F b, F c) {  // a * b + c, rounded once
        for (int i = 0; i < lanes; ++i) a[i] = std::fma(a[i], b[i], c[i]);
        return a;
    }
    static F to_float(I a) { return __builtin_convertvector(a, F); }
    // To nearest even; beyond int32 any value. Between 2^23 and 2^24 floats are whole numbers, and beyond it they all
    // are.
    static I to_int(F a) {
        const F large = a < 0 ? splat(-8388608.0f) : splat(8388608.0f);
        const F rounded = (a + large) - large;
        return __builtin_convertvector((I)(a > -8388608.0f) & (I)(a < 8388608.0f) ? rounded : a, I);
    }
    // `lanes` bytes as int32.
    static I widen(const uint8_t* p) { return I{p[0], p[1], p[2], p[3]}; }

    // Four rows of `bytes` pixels: lane by lane the four bytes of one pixel. The pixels come in *zipped order*: any
    // order that `narrow` undoes.
    static void zip(I a, I b, I c, I d, I out[4]) {
        const uint8_t *p = (const uint8_t*)&a, *q = (const uint8_t*)&b, *r = (const uint8_t*)&c,
                      *s = (const uint8_t*)&d;
        for (int i = 0; i < bytes; ++i) {
            uint8_t* o = (uint8_t*)&out[i / lanes] + 4 * (i % lanes);
            o[0] = p[i], o[1] = q[i], o[2] = r[i], o[3] = s[i];
        }
    }
    // Four vectors in zipped order to `bytes` codes in pixel order: clip(x + zero, 0, 255).
    static I narrow(I a, I b, I c, I d, int32_t zero) { return pack(a, b, c, d, zero); }
    // The same for four vectors in plain order.
    static I narrow_plain(I a, I b, I c, I d, int32_t zero) { return pack(a, b, c, d, zero); }
    static I min_u8(I a, I b) { return (I)((B)a < (B)b ? (B)a : (B)b); }
    static I max_u8(I a, I b) { return (I)((B)a > (B)b ? (B)a : (B)b); }
    static I splat_u8(int32_t x) {
        I r;
        std::memset(&r, x, bytes);
        return r;
    }

    // acc + the sum of the four products u8 x s8 in each lane. `w`: the four weights. An instruction set that has only
    // s8 x s8 counts an input as (u8 - input_offset): who makes the bias adds input_offset * (the sum of the weights).
    struct Dot {
        static constexpr int weight_bytes = 4;
        static constexpr int input_offset = 0;
        using X = I;
        static X prepare(I quads) { return quads; }
        static I dot(I acc, X x, const int8_t* w) {
            const U b = (U)x;
            return (I)((U)acc + (b & 255) * (uint32_t)w[0] + (b >> 8 & 255) * (uint32_t)w[1] +
                       (b >> 16 & 255) * (uint32_t)w[2] + (b >> 24) * (uint32_t)w[3]);
        }
        // The form in which the kernel wants the weights of a quad.
        static void pack_weights(const int8_t w[4], int8_t* out) { std::memcpy(out, w, 4); }
    };
    using DotWide = Dot;

    // Pointwise kernels and pools.
    static F minf(F a, F b) { return a < b ? a : b; }  // b where either is NaN
    static F maxf(F a, F b) { return a > b ? a : b; }  // b where either is NaN
    // Points in cells. Bit i: whether a[i] <= b[i] (never, where either is NaN).
    static uint32_t at_most(F a, F b) {
        uint32_t r = 0;
        for (int i = 0; i < lanes; ++i) r |= (uint32_t)(a[i] <= b[i]) << i;
        return r;
    }
    // acc + 1 in the lanes where a < b.
    static I count_less(I acc, F a, F b) { return acc - (I)(a < b); }
    // Of lanes none of which is NaN.
    static float largest(F a) {
        float r = a[0];
        for (int i = 1; i < lanes; ++i) r = r < a[i] ? a[i] : r;
        return r;
    }
    // The lanes of `bits` (no others) of both, one after another; a whole vector may be written.
    static void append(float* p, int32_t* q, F a, I b, uint32_t bits) {
        for (; bits; bits &= bits - 1) *p++ = a[__builtin_ctz(bits)], *q++ = b[__builtin_ctz(bits)];
    }
    // acc + sums of some of the bytes, in any lanes: only the total over all lanes is fixed.
    static I sums(I acc, I x) {
        const U b = (U)x;
        return (I)((U)acc + (b & 255) + (b >> 8 & 255) + (b >> 16 & 255) + (b >> 24));
    }
    // A table of 256 bytes, applied to every byte of `n` vectors.
    static constexpr bool cheap_lookup = true;  // whether it takes less time than a requantisation
    struct Lookup {
        const uint8_t* table;
        explicit Lookup(const uint8_t* t) : table(t) {}
        template <int n>
        void apply(I (&x)[n]) const {
            for (I& one : x)
                for (int i = 0; i < bytes; ++i) ((uint8_t*)&one)[i] = table[((uint8_t*)&one)[i]];
        }
    };

    // Depthwise convolutions. `bytes` / 2 bytes as 16-bit numbers.
    static I widen_u16(const uint8_t* p) {
        uint16_t wide[bytes / 2];
        for (int i = 0; i < bytes / 2; ++i) wide[i] = p[i];
        return load(wide);
    }
    // acc + the two products s16 x s16 in each lane. `w`: two 16-bit weights.
    static I dot_pairs(I acc, I x, const int8_t* w) {
        int16_t b[2];
        std::memcpy(b, w, 4);
        return add(acc, (x << 16 >> 16) * b[0] + (x >> 16) * b[1]);
    }
    // Four vectors to codes like `narrow_plain`, but `phases` (1, 2 or 4) vectors at a time take turns: lane i of the
    // first, of the second, ..., lane i + 1 of the first, ...
    template <int phases>
    static I narrow_interleaved(const I* x, int32_t zero) {
        uint8_t codes[bytes], r[bytes];
        store(codes, pack(x[0], x[1], x[2], x[3], zero));
        for (int k = 0; k < bytes; ++k) {
            const int vector = k / (phases * lanes) * phases + k % phases, lane = k % (phases * lanes) / phases;
            r[k] = codes[vector * lanes + lane];
        }
        return load(r);
    }

    // Linear layers: outputs in lanes. Four bytes in every lane.
    static I splat_four(const int8_t* x) {
        int32_t r;
        std::memcpy(&r, x, 4);
        return splat(r);
    }
    // acc + the four products u8 x s8 in each lane. Where `widens`, exact only if no pair of neighbouring products
    // leaves 16 bits.
    static I dot_bytes(I acc, I x, I w) {
        const U b = (U)x;
        const I low = (I)(b & 255) * (w << 24 >> 24) + (I)(b >> 8 & 255) * (w << 16 >> 24);
        return add(acc, low + (I)(b >> 16 & 255) * (w << 8 >> 24) + (I)(b >> 24) * (w >> 24));
    }
    // Four of them, for weights 0..15; exact everywhere.
    static I dot_small(I acc, const I x[4], const I w[4]) {
        for (int k = 0; k < 4; ++k) acc = dot_bytes(acc, x[k], w[k]);
        return acc;
    }
    // Of every byte, `bits` bits from bit `bits * i`.
    template <int bits>
    static I field(I x, int i) {
        return (I)((U)x >> (bits * i) & 0x01010101u * ((1u << bits) - 1));
    }

private:
    using U = uint32_t __attribute__((vector_size(bytes)));
    using B = uint8_t __attribute__((vector_size(bytes)));

    static I pack(I a, I b, I c, I d, int32_t zero) {
        const I parts[4] = {a, b, c, d}, low = splat(-zero), high = splat(255 - zero);
        uint8_t r[bytes];
        for (int i = 0; i < 4; ++i) {
            const I clipped = parts[i] < low ? low : parts[i] > high ? high : parts[i];
            using Codes = uint8_t __attribute__((vector_size(lanes)));
            const Codes codes = __builtin_convertvector(clipped + zero, Codes);
            std::memcpy(r + lanes * i, &codes, lanes);
        }
        return load(r);
    }
};

}}  // namespace shoestring
