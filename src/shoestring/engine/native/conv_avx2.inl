// The kernels of conv.h for AVX2, with a dot-product instruction (AVX-VNNI) or without. Sixteen registers hold 4
// outputs x 16 pixels of accumulators, so a strip of 32 gathered pixels is done in two halves, those that the low and
// the high unpacks give.
//
// Without one, vpmaddubsw adds two products in 16 bits and vpmaddwd adds two such sums in 32: both go to the
// multipliers, which are the bottleneck. In a pair of quads the sums of both are added in 16 bits before one vpmaddwd:
// three multiplications instead of four. Whether a pair may is known from its weights (conv_packing.cpp), so everything
// stays exact.

namespace shoestring { namespace {

using I = V::I;

inline I ones() {
    return _mm256_set1_epi16(1);
}

// x[0..1]: 16 pixels of a quad of rows.
template <bool high>
inline void rows32(const uint8_t* in, const int32_t* at, I x[2]) {
    const I a = V::load(in + at[0]), b = V::load(in + at[1]), c = V::load(in + at[2]), d = V::load(in + at[3]);
    const I ab = high ? _mm256_unpackhi_epi8(a, b) : _mm256_unpacklo_epi8(a, b);
    const I cd = high ? _mm256_unpackhi_epi8(c, d) : _mm256_unpacklo_epi8(c, d);
    x[0] = _mm256_unpacklo_epi16(ab, cd), x[1] = _mm256_unpackhi_epi16(ab, cd);
}

// Sixteen consecutive pixels: 0-3 and 8-11, then 4-7 and 12-15.
inline I spread(const uint8_t* p) {
    return _mm256_permute4x64_epi64(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)p)), 0x50);
}
inline void rows16(const uint8_t* in, const int32_t* at, I x[2]) {
    const I ab = _mm256_unpacklo_epi8(spread(in + at[0]), spread(in + at[1]));
    const I cd = _mm256_unpacklo_epi8(spread(in + at[2]), spread(in + at[3]));
    x[0] = _mm256_unpacklo_epi16(ab, cd), x[1] = _mm256_unpackhi_epi16(ab, cd);
}

// Eight pixels in order.
inline void rows8(const uint8_t* in, const int32_t* at, I x[1]) {
    const auto row = [&](int i) { return _mm_loadl_epi64((const __m128i*)(in + at[i])); };
    const __m128i ab = _mm_unpacklo_epi8(row(0), row(1)), cd = _mm_unpacklo_epi8(row(2), row(3));
    x[0] = _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
}

// The ways to read a quad: pixels in a strip, vectors, offsets a quad.
struct Low32 {
    static constexpr int vectors = 2, offsets = 4;
    static void read(const uint8_t* in, const int32_t* at, I* x) { rows32<false>(in, at, x); }
};
struct High32 {
    static constexpr int vectors = 2, offsets = 4;
    static void read(const uint8_t* in, const int32_t* at, I* x) { rows32<true>(in, at, x); }
};
struct Rows16 {
    static constexpr int vectors = 2, offsets = 4;
    static void read(const uint8_t* in, const int32_t* at, I* x) { rows16(in, at, x); }
};
struct Rows8 {
    static constexpr int vectors = 1, offsets = 4;
    static void read(const uint8_t* in, const int32_t* at, I* x) { rows8(in, at, x); }
};
template <int n>
struct Plain {
    static constexpr int vectors = n, offsets = 1;
    static void read(const uint8_t* in, const int32_t* at, I* x) {
        for (int v = 0; v < n; ++v) x[v] = V::load(in + *at + 32 * v);
    }
};

template <class Read>
inline void accumulate(const ConvBlock& b, const uint8_t* in, I acc[4][Read::vectors]) {
    constexpr int n = Read::vectors;
    for (int o = 0; o < 4; ++o)
        for (int v = 0; v < n; ++v) acc[o][v] = V::splat(b.bias[o]);
    const int32_t* at = b.pairs.offsets;
    const int8_t* w = b.pairs.weights;
    for (int32_t q = 0; V::widens && q < b.pairs.count; ++q, at += 2 * Read::offsets, w += 32) {
        I x[n], y[n];
        Read::read(in, at, x);
        Read::read(in, at + Read::offsets, y);
        for (int o = 0; o < 4; ++o)
            for (int v = 0; v < n; ++v) {
                const I sums = _mm256_add_epi16(_mm256_maddubs_epi16(x[v], V::splat_four(w + 4 * o)),
                                                _mm256_maddubs_epi16(y[v], V::splat_four(w + 16 + 4 * o)));
                acc[o][v] = V::add(acc[o][v], _mm256_madd_epi16(sums, ones()));
            }
    }
    const auto add = [&](const ConvList& quads) {
        at = quads.offsets, w = quads.weights;
        for (int32_t q = 0; q < quads.count; ++q, at += Read::offsets, w += 16) {
            I x[n];
            Read::read(in, at, x);
            for (int o = 0; o < 4; ++o)
                for (int v = 0; v < n; ++v) acc[o][v] = V::Dot::dot(acc[o][v], x[v], w + 4 * o);
        }
    };
    add(b.quads);
    if (!V::widens && b.rest.count) add(b.rest);
    at = b.wide.offsets, w = b.wide.weights;
    for (int32_t q = 0; V::widens && q < b.wide.count; ++q, at += Read::offsets, w += 32) {
        I x[n];
        Read::read(in, at, x);
        for (int v = 0; v < n; ++v) {
            const V::DotWide::X wide = V::DotWide::prepare(x[v]);
            for (int o = 0; o < 4; ++o) acc[o][v] = V::DotWide::dot(acc[o][v], wide, w + 8 * o);
        }
    }
}

// Codes before the last saturation: 16 bits, the pixels of x then those of y in each half.
inline I codes16(I x, I y, const ConvBlock& b, int o) {
    const V::F m = V::splat(b.multipliers[o]);
    x = V::to_int(V::mul(V::to_float(x), m)), y = V::to_int(V::mul(V::to_float(y), m));
    return _mm256_adds_epi16(_mm256_packs_epi32(x, y), V::splat((int32_t)b.zeros));
}
inline I bounded(I codes, const ConvBlock& b) {
    if (!b.bounded) return codes;
    return V::min_u8(V::max_u8(codes, V::splat((int32_t)b.lows)), V::splat((int32_t)b.highs));
}

inline void store_some(uint8_t* out, I codes, int64_t n) {
    uint8_t all[32];
    V::store(all, codes);
    __builtin_memcpy(out, all, (size_t)n);
}

void gathered(const ConvBlock& b, const uint8_t* in, int64_t pixels, uint8_t* const out[4]) {
    int64_t p = 0;
    for (; pixels - p > 16; p += 32) {
        I low[4], acc[4][2];
        accumulate<Low32>(b, in + p, acc);
        for (int o = 0; o < 4; ++o) low[o] = codes16(acc[o][0], acc[o][1], b, o);
        accumulate<High32>(b, in + p, acc);
        for (int o = 0; o < 4; ++o) {
            const I high = codes16(acc[o][0], acc[o][1], b, o);
            const I codes = bounded(_mm256_packus_epi16(low[o], high), b);
            if (pixels - p >= 32)
                V::store(out[o] + p, codes);
            else
                store_some(out[o] + p, codes, pixels - p);
        }
    }
    if (pixels - p > 8) {
        I acc[4][2];
        accumulate<Rows16>(b, in + p, acc);
        for (int o = 0; o < 4; ++o) {
            const I sixteen = codes16(acc[o][0], acc[o][1], b, o);
            const I codes = _mm256_permute4x64_epi64(_mm256_packus_epi16(sixteen, sixteen), 0x08);
            store_some(out[o] + p, bounded(codes, b), pixels - p);
        }
    } else if (pixels > p) {
        I acc[4][1];
        accumulate<Rows8>(b, in + p, acc);
        for (int o = 0; o < 4; ++o) {
            const I eight = codes16(acc[o][0], acc[o][0], b, o);
            const I codes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(eight, eight),
                                                        _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
            store_some(out[o] + p, bounded(codes, b), pixels - p);
        }
    }
}

// Sixteen interleaved pixels, then eight; `finish(output, pixel, accumulators)`.
template <class Finish>
inline void strips(const ConvBlock& b, const uint8_t* in, int64_t pixels, Finish finish) {
    int64_t p = 0;
    for (; pixels - p > 8; p += 16) {
        I acc[4][2];
        accumulate<Plain<2>>(b, in + 4 * p, acc);
        for (int o = 0; o < 4; ++o) finish(o, p, acc[o][0], acc[o][1]);
    }
    if (pixels > p) {
        I acc[4][1];
        accumulate<Plain<1>>(b, in + 4 * p, acc);
        for (int o = 0; o < 4; ++o) finish(o, p, acc[o][0], acc[o][0]);
    }
}

void interleaved(const ConvBlock& b, const uint8_t* in, int64_t pixels, uint8_t* const out[4]) {
    strips(b, in, pixels, [&](int o, int64_t p, I first, I second) {
        const I sixteen = codes16(first, second, b, o);
        const I codes = bounded(_mm256_permutevar8x32_epi32(_mm256_packus_epi16(sixteen, sixteen),
                                                            _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0)),
                                b);
        if (pixels - p >= 16)
            _mm_storeu_si128((__m128i*)(out[o] + p), _mm256_castsi256_si128(codes));
        else
            store_some(out[o] + p, codes, pixels - p);
    });
}

void accumulated(const ConvBlock& b, const uint8_t* in, int64_t pixels, int32_t* const out[4]) {
    strips(b, in, pixels, [&](int o, int64_t p, I first, I second) {
        int32_t all[16];
        V::store(all, first), V::store(all + 8, second);
        __builtin_memcpy(out[o] + p, all, (size_t)(pixels - p < 16 ? pixels - p : 16) * 4);
    });
}

void interleave(const uint8_t* const rows[4], int64_t pixels, uint8_t* out) {
    int64_t p = 0;
    for (; p + 32 <= pixels; p += 32) {
        I x[4];
        V::zip(V::load(rows[0] + p), V::load(rows[1] + p), V::load(rows[2] + p), V::load(rows[3] + p), x);
        V::store(out + 4 * p, _mm256_permute2x128_si256(x[0], x[1], 0x20));
        V::store(out + 4 * p + 32, _mm256_permute2x128_si256(x[2], x[3], 0x20));
        V::store(out + 4 * p + 64, _mm256_permute2x128_si256(x[0], x[1], 0x31));
        V::store(out + 4 * p + 96, _mm256_permute2x128_si256(x[2], x[3], 0x31));
    }
    for (; p < pixels; ++p)
        for (int r = 0; r < 4; ++r) out[4 * p + r] = rows[r][p];
}

void widen(const int8_t weights[16], int8_t out[32]) {
    for (int o = 0; o < 4; ++o) V::DotWide::pack_weights(weights + 4 * o, out + 8 * o);
}

constexpr ConvKernels conv_kernels = {V::widens, 0, gathered, interleaved, accumulated, interleave, widen};

}}  // namespace shoestring
