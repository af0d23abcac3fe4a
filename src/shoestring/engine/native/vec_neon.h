// AArch64: four lanes, thirty-two registers. What each function computes: vec_portable.h.
//
// With SHOESTRING_DOTPROD a dot product of four bytes is one instruction, but of s8 x s8 or u8 x u8 only: `Dot` flips
// the inputs' top bit, which is to take 128 off, and says so in `input_offset`. Without, products are widened.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace shoestring { namespace {

struct V {
    static constexpr int lanes = 4;
    static constexpr int bytes = 16;
    static constexpr int registers = 32;
    static constexpr bool widens = false;
    using I = int32x4_t;
    using F = float32x4_t;

    static I zero() { return vdupq_n_s32(0); }
    static I splat(int32_t x) { return vdupq_n_s32(x); }
    static F splat(float x) { return vdupq_n_f32(x); }
    static I load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8((const uint8_t*)p)); }
    static F loadf(const float* p) { return vld1q_f32(p); }
    static void store(void* p, I a) { vst1q_u8((uint8_t*)p, u8(a)); }
    static void storef(float* p, F a) { vst1q_f32(p, a); }
    static I add(I a, I b) { return vaddq_s32(a, b); }
    static F addf(F a, F b) { return vaddq_f32(a, b); }
    static F subf(F a, F b) { return vsubq_f32(a, b); }
    static F mul(F a, F b) { return vmulq_f32(a, b); }
    static F div(F a, F b) { return vdivq_f32(a, b); }
    static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    static F to_float(I a) { return vcvtq_f32_s32(a); }
    static I to_int(F a) { return vcvtnq_s32_f32(a); }
    static I widen(const uint8_t* p) {
        uint32_t four;
        std::memcpy(&four, p, 4);
        return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
    }

    // Pixels stay in order.
    static void zip(I a, I b, I c, I d, I out[4]) {
        const uint8x16x2_t ab = vzipq_u8(u8(a), u8(b)), cd = vzipq_u8(u8(c), u8(d));
        for (int i = 0; i < 2; ++i) {
            const uint16x8x2_t quads = vzipq_u16(vreinterpretq_u16_u8(ab.val[i]), vreinterpretq_u16_u8(cd.val[i]));
            out[2 * i] = vreinterpretq_s32_u16(quads.val[0]), out[2 * i + 1] = vreinterpretq_s32_u16(quads.val[1]);
        }
    }
    static I narrow(I a, I b, I c, I d, int32_t zero) {
        const int16x8_t z = vdupq_n_s16((int16_t)zero);
        const int16x8_t ab = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), z);
        const int16x8_t cd = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), z);
        return of(vcombine_u8(vqmovun_s16(ab), vqmovun_s16(cd)));
    }
    static I narrow_plain(I a, I b, I c, I d, int32_t zero) { return narrow(a, b, c, d, zero); }
    static I min_u8(I a, I b) { return of(vminq_u8(u8(a), u8(b))); }
    static I max_u8(I a, I b) { return of(vmaxq_u8(u8(a), u8(b))); }
    static I splat_u8(int32_t x) { return of(vdupq_n_u8((uint8_t)x)); }

#ifdef SHOESTRING_DOTPROD
    struct Dot {
        static constexpr int weight_bytes = 4;
        static constexpr int input_offset = 128;
        using X = int8x16_t;
        static X prepare(I quads) { return flipped(quads); }
        static I dot(I acc, X x, const int8_t* w) { return vdotq_s32(acc, x, s8(splat_four(w))); }
        static void pack_weights(const int8_t w[4], int8_t* out) { std::memcpy(out, w, 4); }
    };
#else
    // Each of the four inputs of a lane in a vector of its own, in 16 bits.
    struct Dot {
        static constexpr int weight_bytes = 4;
        static constexpr int input_offset = 0;
        struct X {
            int16x4_t input[4];
        };
        static X prepare(I quads) {
            const uint16x8_t all = vreinterpretq_u16_s32(quads);
            const uint32x4_t even = vreinterpretq_u32_u16(vandq_u16(all, vdupq_n_u16(255)));
            const uint32x4_t odd = vreinterpretq_u32_u16(vshrq_n_u16(all, 8));
            const auto s16 = [](uint16x4_t x) { return vreinterpret_s16_u16(x); };
            return {{s16(vmovn_u32(even)), s16(vmovn_u32(odd)), s16(vshrn_n_u32(even, 16)), s16(vshrn_n_u32(odd, 16))}};
        }
        static I dot(I acc, X x, const int8_t* w) {
            uint32_t four;
            std::memcpy(&four, w, 4);
            const int16x4_t weights = vget_low_s16(vmovl_s8(vcreate_s8(four)));
            acc = vmlal_lane_s16(vmlal_lane_s16(acc, x.input[0], weights, 0), x.input[1], weights, 1);
            return vmlal_lane_s16(vmlal_lane_s16(acc, x.input[2], weights, 2), x.input[3], weights, 3);
        }
        static void pack_weights(const int8_t w[4], int8_t* out) { std::memcpy(out, w, 4); }
    };
#endif
    using DotWide = Dot;

    static I splat_four(const int8_t* w) {
        int32_t x;
        std::memcpy(&x, w, 4);
        return vdupq_n_s32(x);
    }

    // Pointwise kernels and pools.
    static F minf(F a, F b) {
        return vbslq_f32(vcltq_f32(a, b), a, b);
    }
    static F maxf(F a, F b) {
        return vbslq_f32(vcgtq_f32(a, b), a, b);
    }
    static uint32_t at_most(F a, F b) {
        const uint32_t bit[lanes] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vcleq_f32(a, b), vld1q_u32(bit)));
    }
    static I count_less(I acc, F a, F b) {
        return vsubq_s32(acc, vreinterpretq_s32_u32(vcltq_f32(a, b)));
    }
    static float largest(F a) {
        return vmaxvq_f32(a);
    }
    static void append(float* p, int32_t* q, F a, I b, uint32_t bits) {
        float from[lanes];
        int32_t number[lanes];
        storef(from, a), store(number, b);
        for (; bits; bits &= bits - 1) *p++ = from[__builtin_ctz(bits)], *q++ = number[__builtin_ctz(bits)];
    }
    static I sums(I acc, I x) {
        return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc), vpaddlq_u8(u8(x))));
    }
    static constexpr bool cheap_lookup = true;
    // Four lookups of 64 entries each: an index outside leaves what is there.
    struct Lookup {
        uint8x16x4_t parts[4];
        explicit Lookup(const uint8_t* table) {
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) parts[i].val[j] = vld1q_u8(table + 64 * i + 16 * j);
        }
        template <int n>
        void apply(I (&x)[n]) const {
            for (I& one : x) {
                const uint8x16_t index = u8(one);
                uint8x16_t out = vqtbl4q_u8(parts[0], index);
                for (int i = 1; i < 4; ++i)
                    out = vqtbx4q_u8(out, parts[i], vsubq_u8(index, vdupq_n_u8((uint8_t)(64 * i))));
                one = of(out);
            }
        }
    };

    // Depthwise convolutions.
    static I widen_u16(const uint8_t* p) {
        return vreinterpretq_s32_u16(vmovl_u8(vld1_u8(p)));
    }
    static I dot_pairs(I acc, I x, const int8_t* w) {
        const int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(splat_four(w));
        return vaddq_s32(acc, vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b)));
    }
    template <int phases>
    static I narrow_interleaved(const I* x, int32_t zero) {
        static constexpr uint8_t fours[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
        static constexpr uint8_t twos[16] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
        const I codes = narrow(x[0], x[1], x[2], x[3], zero);
        return phases == 1 ? codes : of(vqtbl1q_u8(u8(codes), vld1q_u8(phases == 4 ? fours : twos)));
    }

    // Linear layers.
#ifdef SHOESTRING_DOTPROD
    // u8 x (s8 + 128) as unsigned, less 128 for each input.
    static I dot_bytes(I acc, I x, I w) {
        const uint32x4_t much = vdotq_u32(vreinterpretq_u32_s32(acc), u8(x), vreinterpretq_u8_s8(flipped(w)));
        return vreinterpretq_s32_u32(vsubq_u32(much, vdotq_u32(vdupq_n_u32(0), u8(x), vdupq_n_u8(128))));
    }
    static I dot_small(I acc, const I x[4], const I w[4]) {
        uint32x4_t sum = vreinterpretq_u32_s32(acc);
        for (int k = 0; k < 4; ++k) sum = vdotq_u32(sum, u8(x[k]), u8(w[k]));
        return vreinterpretq_s32_u32(sum);
    }
#else
    static I dot_bytes(I acc, I x, I w) {
        const int16x8_t x_low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(u8(x))));
        const int16x8_t x_high = vreinterpretq_s16_u16(vmovl_high_u8(u8(x)));
        const int16x8_t w_low = vmovl_s8(vget_low_s8(s8(w))), w_high = vmovl_high_s8(s8(w));
        const I a = vmull_s16(vget_low_s16(x_low), vget_low_s16(w_low)), b = vmull_high_s16(x_low, w_low);
        const I c = vmull_s16(vget_low_s16(x_high), vget_low_s16(w_high)), d = vmull_high_s16(x_high, w_high);
        return vaddq_s32(acc, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
    }
    // 4 * 255 * 15 fits into 16 bits.
    static I dot_small(I acc, const I x[4], const I w[4]) {
        uint16x8_t low = vdupq_n_u16(0), high = low;
        for (int k = 0; k < 4; ++k) {
            low = vmlal_u8(low, vget_low_u8(u8(x[k])), vget_low_u8(u8(w[k])));
            high = vmlal_high_u8(high, u8(x[k]), u8(w[k]));
        }
        return vaddq_s32(acc, vreinterpretq_s32_u32(vpaddq_u32(vpaddlq_u16(low), vpaddlq_u16(high))));
    }
#endif
    template <int bits>
    static I field(I x, int i) {
        return of(vandq_u8(vshlq_u8(u8(x), vdupq_n_s8((int8_t)(-bits * i))), vdupq_n_u8((1 << bits) - 1)));
    }

private:
    static uint8x16_t u8(I a) {
        return vreinterpretq_u8_s32(a);
    }
    static int8x16_t s8(I a) {
        return vreinterpretq_s8_s32(a);
    }
    static I of(uint8x16_t a) {
        return vreinterpretq_s32_u8(a);
    }
    static int8x16_t flipped(I a) {
        return vreinterpretq_s8_u8(veorq_u8(u8(a), vdupq_n_u8(128)));
    }
};

}}  // namespace shoestring
