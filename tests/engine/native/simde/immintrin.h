// In the place of the compiler's header: AVX2, AVX-512 and VNNI in plain C through SIMDe, for processors without them.
// What follows is what SIMDe 0.7.4 lacks, and the fused multiply-adds, which it rounds twice.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#undef _mm256_fmadd_ps
#undef _mm512_fmadd_ps

namespace {

// R of the lanes each(0), each(1), ...: elements of type T.
template <class R, class T, class Each>
inline R vector_of(Each each) {
    T lanes[sizeof(R) / sizeof(T)];
    for (unsigned i = 0; i < sizeof(R) / sizeof(T); ++i) lanes[i] = each(i);
    R r;
    std::memcpy(&r, lanes, sizeof r);
    return r;
}

template <class T, class R>
inline T lane(const R& vector, unsigned i) {
    T x;
    std::memcpy(&x, (const char*)&vector + i * sizeof(T), sizeof x);
    return x;
}

template <class F>
inline F fused(F a, F b, F c) {
    return vector_of<F, float>(
        [&](unsigned i) { return std::fma(lane<float>(a, i), lane<float>(b, i), lane<float>(c, i)); });
}

inline __m256 _mm256_fmadd_ps(__m256 a, __m256 b, __m256 c) { return fused(a, b, c); }
inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { return fused(a, b, c); }
inline __m256i _mm256_dpbusd_avx_epi32(__m256i acc, __m256i x, __m256i w) { return simde_mm256_dpbusd_epi32(acc, x, w); }

inline __m512 _mm512_cvtepi32_ps(__m512i a) {
    return vector_of<__m512, float>([&](unsigned i) { return (float)lane<int32_t>(a, i); });
}
inline __m512i _mm512_cvtps_epi32(__m512 a) {
    return vector_of<__m512i, int32_t>([&](unsigned i) {
        const float x = lane<float>(a, i);
        return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)std::nearbyintf(x) : INT32_MIN;
    });
}
inline __m512i _mm512_cvtepu8_epi32(__m128i a) {
    return vector_of<__m512i, int32_t>([&](unsigned i) { return (int32_t)lane<uint8_t>(a, i); });
}
inline __m512i _mm512_cvtepu8_epi16(__m256i a) {
    return vector_of<__m512i, int16_t>([&](unsigned i) { return (int16_t)lane<uint8_t>(a, i); });
}

}  // namespace
