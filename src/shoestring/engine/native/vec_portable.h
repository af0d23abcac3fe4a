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

    // acc + the sum of the four products u8 x s8 in each lane. `w`: the four weights.
    struct Dot {
        static constexpr int weight_bytes = 4;
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
