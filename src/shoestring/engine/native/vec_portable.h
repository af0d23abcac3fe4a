// Vectors in plain C++: what every other vec_*.h must compute. Compilers turn most of these loops into whatever vectors
// the target has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace shoestring { namespace {

struct V {
    static constexpr int lanes = 8;       // int32 in a vector
    static constexpr int bytes = 4 * lanes;
    static constexpr int registers = 16;  // vector registers to plan for
    static constexpr bool widens = false; // whether exact dot products need `DotWide` (see vec_avx2.h)
    struct I {
        int32_t v[lanes];
    };
    struct F {
        float v[lanes];
    };

#define EACH for (int i = 0; i < lanes; ++i)
    static I zero() { return splat(0); }
    static I splat(int32_t x) { I r; EACH r.v[i] = x; return r; }
    static F splat(float x) { F r; EACH r.v[i] = x; return r; }
    static I load(const void* p) { I r; std::memcpy(r.v, p, bytes); return r; }
    static F loadf(const float* p) { F r; std::memcpy(r.v, p, bytes); return r; }
    static void store(void* p, I a) { std::memcpy(p, a.v, bytes); }
    static void storef(float* p, F a) { std::memcpy(p, a.v, bytes); }
    static I add(I a, I b) { EACH a.v[i] = (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i]); return a; }
    static F addf(F a, F b) { EACH a.v[i] += b.v[i]; return a; }
    static F mul(F a, F b) { EACH a.v[i] *= b.v[i]; return a; }
    static F div(F a, F b) { EACH a.v[i] /= b.v[i]; return a; }
    static F fma(F a, F b, F c) { EACH a.v[i] = std::fma(a.v[i], b.v[i], c.v[i]); return a; }  // a * b + c, rounded once
    static F to_float(I a) { F r; EACH r.v[i] = (float)a.v[i]; return r; }
    // To nearest even; beyond int32 any value.
    static I to_int(F a) { I r; EACH r.v[i] = round_even(a.v[i]); return r; }
    // `lanes` bytes as int32.
    static I widen(const uint8_t* p) { I r; EACH r.v[i] = p[i]; return r; }

    // Four rows of `bytes` pixels: lane by lane the four bytes of one pixel. The pixels come in *zipped order*: any order
    // that `narrow` undoes.
    static void zip(I a, I b, I c, I d, I out[4]) {
        const uint8_t *p = (const uint8_t*)&a, *q = (const uint8_t*)&b, *r = (const uint8_t*)&c, *s = (const uint8_t*)&d;
        for (int i = 0; i < bytes; ++i) {
            uint8_t* o = (uint8_t*)&out[i / lanes] + 4 * (i % lanes);
            o[0] = p[i], o[1] = q[i], o[2] = r[i], o[3] = s[i];
        }
    }
    // Four vectors in zipped order to `bytes` codes in pixel order: clip(x + zero, 0, 255).
    static I narrow(I a, I b, I c, I d, int32_t zero) { return pack(a, b, c, d, zero); }
    // The same for four vectors in plain order.
    static I narrow_plain(I a, I b, I c, I d, int32_t zero) { return pack(a, b, c, d, zero); }
    static I min_u8(I a, I b) { return each_byte(a, b, false); }
    static I max_u8(I a, I b) { return each_byte(a, b, true); }
    static I splat_u8(int32_t x) { I r; std::memset(r.v, x, bytes); return r; }

    // acc + the sum of the four products u8 x s8 in each lane. `w`: the four weights. An instruction set that has only
    // s8 x s8 counts an input as (u8 - input_offset): who makes the bias adds input_offset * (the sum of the weights).
    struct Dot {
        static constexpr int weight_bytes = 4;
        static constexpr int input_offset = 0;
        using X = I;
        static X prepare(I quads) { return quads; }
        static I dot(I acc, X x, const int8_t* w) {
            const uint8_t* b = (const uint8_t*)x.v;
            EACH acc.v[i] += b[4 * i] * w[0] + b[4 * i + 1] * w[1] + b[4 * i + 2] * w[2] + b[4 * i + 3] * w[3];
            return acc;
        }
        // The form in which the kernel wants the weights of a quad.
        static void pack_weights(const int8_t w[4], int8_t* out) { std::memcpy(out, w, 4); }
    };
    using DotWide = Dot;

    // Pointwise kernels and pools.
    static F minf(F a, F b) { EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }  // b where either is NaN
    static F maxf(F a, F b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }  // b where either is NaN
    // acc + sums of some of the bytes, in any lanes: only the total over all lanes is fixed.
    static I sums(I acc, I x) {
        const uint8_t* b = (const uint8_t*)x.v;
        EACH acc.v[i] += b[4 * i] + b[4 * i + 1] + b[4 * i + 2] + b[4 * i + 3];
        return acc;
    }
    // A table of 256 bytes, applied to every byte of `n` vectors.
    static constexpr bool cheap_lookup = true;  // whether it takes less time than a requantisation
    struct Lookup {
        const uint8_t* table;
        explicit Lookup(const uint8_t* t) : table(t) {}
        template <int n>
        void apply(I (&x)[n]) const {
            for (I& one : x)
                for (int i = 0; i < bytes; ++i) ((uint8_t*)one.v)[i] = table[((uint8_t*)one.v)[i]];
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
        int16_t a[2 * lanes], b[2];
        std::memcpy(a, x.v, bytes);
        std::memcpy(b, w, 4);
        EACH acc.v[i] += a[2 * i] * b[0] + a[2 * i + 1] * b[1];
        return acc;
    }
    // Four vectors to codes like `narrow_plain`, but `phases` (1, 2 or 4) vectors at a time take turns: lane i of the
    // first, of the second, ..., lane i + 1 of the first, ...
    template <int phases>
    static I narrow_interleaved(const I* x, int32_t zero) {
        I r[4];
        for (int k = 0; k < 4 * lanes; ++k) {
            const int from = k / (phases * lanes) * phases + k % phases;
            r[k / lanes].v[k % lanes] = x[from].v[k % (phases * lanes) / phases];
        }
        return pack(r[0], r[1], r[2], r[3], zero);
    }

    // Linear layers: outputs in lanes. Four bytes in every lane.
    static I splat_four(const int8_t* x) { I r; EACH std::memcpy(&r.v[i], x, 4); return r; }
    // acc + the four products u8 x s8 in each lane. Where `widens`, exact only if no
    // pair of neighbouring products leaves 16 bits.
    static I dot_bytes(I acc, I x, I w) {
        const uint8_t* a = (const uint8_t*)x.v;
        const int8_t* b = (const int8_t*)w.v;
        I products = zero();
        EACH for (int j = 0; j < 4; ++j) products.v[i] += a[4 * i + j] * b[4 * i + j];
        return add(acc, products);
    }
    // Four of them, for weights 0..15; exact everywhere.
    static I dot_small(I acc, const I x[4], const I w[4]) {
        for (int k = 0; k < 4; ++k) acc = dot_bytes(acc, x[k], w[k]);
        return acc;
    }
    // Of every byte, `bits` bits from bit `bits * i`.
    template <int bits>
    static I field(I x, int i) {
        for (int k = 0; k < V::bytes; ++k) {
            uint8_t& b = ((uint8_t*)x.v)[k];
            b = (uint8_t)(b >> (bits * i) & ((1 << bits) - 1));
        }
        return x;
    }
#undef EACH

private:
    static int32_t round_even(float x) {
        return x >= 2147483648.0f || x < -2147483648.0f || x != x ? 0 : (int32_t)std::nearbyintf(x);
    }
    static I pack(I a, I b, I c, I d, int32_t zero) {
        const I parts[4] = {a, b, c, d};
        I r;
        for (int i = 0; i < bytes; ++i) {
            const int64_t x = (int64_t)parts[i / lanes].v[i % lanes] + zero;
            ((uint8_t*)r.v)[i] = (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
        }
        return r;
    }
    static I each_byte(I a, I b, bool larger) {
        uint8_t *p = (uint8_t*)a.v, *q = (uint8_t*)b.v;
        for (int i = 0; i < bytes; ++i) p[i] = (p[i] > q[i]) == larger ? p[i] : q[i];
        return a;
    }
};

}}  // namespace shoestring::(anonymous)
