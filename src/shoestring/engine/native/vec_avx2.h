// AVX2 with FMA: eight lanes, sixteen registers. What each function computes: vec_portable.h.
//
// With SHOESTRING_AVX_VNNI the dot product is one instruction and exact. Without, vpmaddubsw adds neighbouring products
// in 16 bits and saturates: `Dot` is exact only where 255 * (the sum of the weights of one sign in a pair) fits, which
// the step checks when it packs; `DotWide` widens first and always is.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace shoestring { namespace {

struct V {
    static constexpr int lanes = 8;
    static constexpr int bytes = 32;
    static constexpr int registers = 16;
    using I = __m256i;
    using F = __m256;

    static I zero() { return _mm256_setzero_si256(); }
    static I splat(int32_t x) { return _mm256_set1_epi32(x); }
    static F splat(float x) { return _mm256_set1_ps(x); }
    static I load(const void* p) { return _mm256_loadu_si256((const I*)p); }
    static F loadf(const float* p) { return _mm256_loadu_ps(p); }
    static void store(void* p, I a) { _mm256_storeu_si256((I*)p, a); }
    static void storef(float* p, F a) { _mm256_storeu_ps(p, a); }
    static I add(I a, I b) { return _mm256_add_epi32(a, b); }
    static F addf(F a, F b) { return _mm256_add_ps(a, b); }
    static F subf(F a, F b) { return _mm256_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static F div(F a, F b) { return _mm256_div_ps(a, b); }
    static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
    static I to_int(F a) { return _mm256_cvtps_epi32(a); }
    static I widen(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }

    static void zip(I a, I b, I c, I d, I out[4]) {
        const I ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
        const I ab2 = _mm256_unpackhi_epi8(a, b), cd2 = _mm256_unpackhi_epi8(c, d);
        out[0] = _mm256_unpacklo_epi16(ab, cd), out[1] = _mm256_unpackhi_epi16(ab, cd);
        out[2] = _mm256_unpacklo_epi16(ab2, cd2), out[3] = _mm256_unpackhi_epi16(ab2, cd2);
    }
    static I narrow(I a, I b, I c, I d, int32_t zero) {
        const I z = _mm256_set1_epi16((short)zero);
        const I ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), z),
                cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), z);
        return _mm256_packus_epi16(ab, cd);
    }
    static I narrow_plain(I a, I b, I c, I d, int32_t zero) {
        return _mm256_permutevar8x32_epi32(narrow(a, b, c, d, zero), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    static I min_u8(I a, I b) { return _mm256_min_epu8(a, b); }
    static I max_u8(I a, I b) { return _mm256_max_epu8(a, b); }
    static I splat_u8(int32_t x) { return _mm256_set1_epi8((char)x); }

    static I splat_four(const int8_t* w) {
        int32_t x;
        std::memcpy(&x, w, 4);
        return _mm256_set1_epi32(x);
    }

    struct Dot {
        static constexpr int weight_bytes = 4;
        static constexpr int input_offset = 0;
        using X = I;
        static X prepare(I quads) { return quads; }
        static I dot(I acc, X x, const int8_t* w) {
#ifdef SHOESTRING_AVX_VNNI
            return _mm256_dpbusd_avx_epi32(acc, x, splat_four(w));
#else
            const I pairs = _mm256_maddubs_epi16(x, splat_four(w));
            return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
        }
        static void pack_weights(const int8_t w[4], int8_t* out) {
            std::memcpy(out, w, 4);
        }
    };

#ifdef SHOESTRING_AVX_VNNI
    static constexpr bool widens = false;
    using DotWide = Dot;
#else
    static constexpr bool widens = true;
    // Inputs 0 and 2, then 1 and 3, as 16-bit pairs.
    struct DotWide {
        static constexpr int weight_bytes = 8;
        static constexpr int input_offset = 0;
        struct X {
            I even, odd;
        };
        static X prepare(I quads) {
            return {_mm256_and_si256(quads, _mm256_set1_epi16(255)), _mm256_srli_epi16(quads, 8)};
        }
        static I dot(I acc, X x, const int8_t* w) {
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, splat_four(w)));
            return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, splat_four(w + 4)));
        }
        static void pack_weights(const int8_t w[4], int8_t* out) {
            const int16_t wide[4] = {w[0], w[2], w[1], w[3]};
            std::memcpy(out, wide, 8);
        }
    };
#endif

    // Pointwise kernels and pools.
    static F minf(F a, F b) {
        return _mm256_min_ps(a, b);
    }
    static F maxf(F a, F b) {
        return _mm256_max_ps(a, b);
    }
    static uint32_t at_most(F a, F b) {
        return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
    }
    static I count_less(I acc, F a, F b) {
        return _mm256_sub_epi32(acc, _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
    }
    static float largest(F a) {
        __m128 r = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        r = _mm_max_ps(r, _mm_movehl_ps(r, r));
        return _mm_cvtss_f32(_mm_max_ss(r, _mm_movehdup_ps(r)));
    }
    static void append(float* p, int32_t* q, F a, I b, uint32_t bits) {
        float from[lanes];
        int32_t number[lanes];
        storef(from, a), store(number, b);
        for (; bits; bits &= bits - 1) *p++ = from[__builtin_ctz(bits)], *q++ = number[__builtin_ctz(bits)];
    }
    static I sums(I acc, I x) {
        return _mm256_add_epi32(acc, _mm256_sad_epu8(x, _mm256_setzero_si256()));
    }
    static constexpr bool cheap_lookup = false;
    // A row of 16 entries is looked up by the low four bits; the upper four select among the sixteen rows, one bit
    // after another, each shifted to where a blend looks.
    struct Lookup {
        I rows[16];
        explicit Lookup(const uint8_t* table) {
            for (int i = 0; i < 16; ++i)
                rows[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)(table + 16 * i)));
        }
        template <int n>
        void apply(I (&x)[n]) const {
            for (I& one : x) one = find(one);
        }

    private:
        I find(I x) const {
            const I low = _mm256_and_si256(x, _mm256_set1_epi8(15));
            const I bit4 = _mm256_slli_epi16(x, 3), bit5 = _mm256_slli_epi16(x, 2), bit6 = _mm256_slli_epi16(x, 1);
            const auto row = [&](int i) { return _mm256_shuffle_epi8(rows[i], low); };
            const auto of2 = [&](int i) { return _mm256_blendv_epi8(row(i), row(i + 1), bit4); };
            const auto of4 = [&](int i) { return _mm256_blendv_epi8(of2(i), of2(i + 2), bit5); };
            const auto of8 = [&](int i) { return _mm256_blendv_epi8(of4(i), of4(i + 4), bit6); };
            return _mm256_blendv_epi8(of8(0), of8(8), x);
        }
    };

    // Depthwise convolutions.
    static I widen_u16(const uint8_t* p) {
        return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p));
    }
    static I dot_pairs(I acc, I x, const int8_t* w) {
        return _mm256_add_epi32(acc, _mm256_madd_epi16(x, splat_four(w)));
    }
    template <int phases>
    static I narrow_interleaved(const I* x, int32_t zero) {
        if (phases == 1) return narrow_plain(x[0], x[1], x[2], x[3], zero);
        const I codes = narrow(x[0], x[1], x[2], x[3], zero);  // of each vector four lanes in either half
        if (phases == 4) {
            const I order = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                             0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            return _mm256_shuffle_epi8(codes, order);
        }
        const I order = _mm256_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,  //
                                         0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(codes, order), 0xd8);
    }

    // Linear layers.
    static I dot_bytes(I acc, I x, I w) {
#ifdef SHOESTRING_AVX_VNNI
        return _mm256_dpbusd_avx_epi32(acc, x, w);
#else
        return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
#endif
    }
    static I dot_small(I acc, const I x[4], const I w[4]) {
#ifdef SHOESTRING_AVX_VNNI
        return add(dot_bytes(dot_bytes(acc, x[0], w[0]), x[1], w[1]),
                   dot_bytes(dot_bytes(zero(), x[2], w[2]), x[3], w[3]));
#else
        // 4 * 2 * 255 * 15 fits into 16 bits.
        const I a = _mm256_add_epi16(_mm256_maddubs_epi16(x[0], w[0]), _mm256_maddubs_epi16(x[1], w[1]));
        const I b = _mm256_add_epi16(_mm256_maddubs_epi16(x[2], w[2]), _mm256_maddubs_epi16(x[3], w[3]));
        return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_add_epi16(a, b), _mm256_set1_epi16(1)));
#endif
    }
    template <int bits>
    static I field(I x, int i) {
        return _mm256_and_si256(_mm256_srli_epi16(x, bits * i), _mm256_set1_epi8((1 << bits) - 1));
    }
};

}}  // namespace shoestring
