// AVX-512 with VNNI: sixteen lanes, thirty-two registers. What each function computes: vec_portable.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace shoestring { namespace {

struct V {
    static constexpr int lanes = 16;
    static constexpr int bytes = 64;
    static constexpr int registers = 32;
    static constexpr bool widens = false;
    using I = __m512i;
    using F = __m512;

    static I zero() { return _mm512_setzero_si512(); }
    static I splat(int32_t x) { return _mm512_set1_epi32(x); }
    static F splat(float x) { return _mm512_set1_ps(x); }
    static I load(const void* p) { return _mm512_loadu_si512(p); }
    static F loadf(const float* p) { return _mm512_loadu_ps(p); }
    static void store(void* p, I a) { _mm512_storeu_si512(p, a); }
    static void storef(float* p, F a) { _mm512_storeu_ps(p, a); }
    static I add(I a, I b) { return _mm512_add_epi32(a, b); }
    static F addf(F a, F b) { return _mm512_add_ps(a, b); }
    static F subf(F a, F b) { return _mm512_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static F div(F a, F b) { return _mm512_div_ps(a, b); }
    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
    static I to_int(F a) { return _mm512_cvtps_epi32(a); }
    static I widen(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }

    // Within each quarter of the registers, as the instructions do it; packs undo it.
    static void zip(I a, I b, I c, I d, I out[4]) {
        const I ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
        const I ab2 = _mm512_unpackhi_epi8(a, b), cd2 = _mm512_unpackhi_epi8(c, d);
        out[0] = _mm512_unpacklo_epi16(ab, cd), out[1] = _mm512_unpackhi_epi16(ab, cd);
        out[2] = _mm512_unpacklo_epi16(ab2, cd2), out[3] = _mm512_unpackhi_epi16(ab2, cd2);
    }
    static I narrow(I a, I b, I c, I d, int32_t zero) {
        const I z = _mm512_set1_epi16((short)zero);
        const I ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), z),
                cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), z);
        return _mm512_packus_epi16(ab, cd);
    }
    static I narrow_plain(I a, I b, I c, I d, int32_t zero) {
        const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        return _mm512_permutexvar_epi32(order, narrow(a, b, c, d, zero));
    }
    static I min_u8(I a, I b) { return _mm512_min_epu8(a, b); }
    static I max_u8(I a, I b) { return _mm512_max_epu8(a, b); }
    static I splat_u8(int32_t x) { return _mm512_set1_epi8((char)x); }

    static I splat_four(const int8_t* w) {
        int32_t x;
        std::memcpy(&x, w, 4);
        return _mm512_set1_epi32(x);
    }

    struct Dot {
        static constexpr int weight_bytes = 4;
        static constexpr int input_offset = 0;
        using X = I;
        static X prepare(I quads) { return quads; }
        static I dot(I acc, X x, const int8_t* w) { return _mm512_dpbusd_epi32(acc, x, splat_four(w)); }
        static void pack_weights(const int8_t w[4], int8_t* out) { std::memcpy(out, w, 4); }
    };
    using DotWide = Dot;

    // Pointwise kernels and pools.
    static F minf(F a, F b) { return _mm512_min_ps(a, b); }
    static F maxf(F a, F b) { return _mm512_max_ps(a, b); }
    static uint32_t at_most(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
    static I count_less(I acc, F a, F b) {
        return _mm512_mask_add_epi32(acc, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), acc, _mm512_set1_epi32(1));
    }
    static float largest(F a) { return _mm512_reduce_max_ps(a); }
    static void append(float* p, int32_t* q, F a, I b, uint32_t bits) {
        storef(p, _mm512_maskz_compress_ps((__mmask16)bits, a));
        store(q, _mm512_maskz_compress_epi32((__mmask16)bits, b));
    }
    static I sums(I acc, I x) { return _mm512_add_epi32(acc, _mm512_sad_epu8(x, _mm512_setzero_si512())); }
    static constexpr bool cheap_lookup = false;
    // How: vec_avx2.h.
    struct Lookup {
        I parts[16];
        explicit Lookup(const uint8_t* table) {
            I before = zero();
            for (int i = 0; i < 16; ++i) {
                const I now = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)(table + 16 * i)));
                parts[i] = i % 8 ? _mm512_xor_si512(now, before) : now;
                before = now;
            }
        }
        template <int n>
        void apply(I (&x)[n]) const {
            const I step = _mm512_set1_epi8(16);
            I high[n], out[n];
            for (int k = 0; k < n; ++k) {
                high[k] = _mm512_xor_si512(x[k], _mm512_set1_epi8(-128));
                out[k] = _mm512_xor_si512(_mm512_shuffle_epi8(parts[0], x[k]), _mm512_shuffle_epi8(parts[8], high[k]));
            }
#pragma GCC unroll 8
            for (int i = 1; i < 8; ++i)
                for (int k = 0; k < n; ++k) {
                    x[k] = _mm512_subs_epi8(x[k], step), high[k] = _mm512_subs_epi8(high[k], step);
                    const I low = _mm512_shuffle_epi8(parts[i], x[k]), top = _mm512_shuffle_epi8(parts[8 + i], high[k]);
                    out[k] = _mm512_ternarylogic_epi32(out[k], low, top, 0x96);  // the exclusive or of all three
                }
            for (int k = 0; k < n; ++k) x[k] = out[k];
        }
    };

    // Depthwise convolutions.
    static I widen_u16(const uint8_t* p) {
        return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)p));
    }
    static I dot_pairs(I acc, I x, const int8_t* w) {
        return _mm512_dpwssd_epi32(acc, x, splat_four(w));
    }
    template <int phases>
    static I narrow_interleaved(const I* x, int32_t zero) {
        if (phases == 1) return narrow_plain(x[0], x[1], x[2], x[3], zero);
        const I codes = narrow(x[0], x[1], x[2], x[3], zero);  // of each vector four lanes in every quarter
        if (phases == 4) {
            const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            return _mm512_shuffle_epi8(codes, _mm512_broadcast_i32x4(order));
        }
        const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        const I halves = _mm512_shuffle_epi8(codes, _mm512_broadcast_i32x4(order));
        return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), halves);
    }

    // Linear layers.
    static I dot_bytes(I acc, I x, I w) {
        return _mm512_dpbusd_epi32(acc, x, w);
    }
    static I dot_small(I acc, const I x[4], const I w[4]) {
        return add(dot_bytes(dot_bytes(acc, x[0], w[0]), x[1], w[1]),
                   dot_bytes(dot_bytes(zero(), x[2], w[2]), x[3], w[3]));
    }
    template <int bits>
    static I field(I x, int i) {
        return _mm512_and_si512(_mm512_srli_epi16(x, bits * i), _mm512_set1_epi8((1 << bits) - 1));
    }
};

}}  // namespace shoestring
