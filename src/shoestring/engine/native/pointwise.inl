// Kernels over contiguous bytes (pointwise.h), for one instruction set: V comes from the file that includes this.
#include "pointwise.h"

namespace shoestring { namespace {
namespace pointwise {

constexpr size_t kBytes = V::bytes;

// out[i] = body(in, other)[i], a vector at a time. The last vector overlaps the one before it; it is computed first,
// for `out` may be one of the inputs. Nothing beyond n is touched.
template <class Body>
inline void each(const uint8_t* in, const uint8_t* other, uint8_t* out, size_t n, Body body) {
    if (n < kBytes) {
        uint8_t a[kBytes] = {}, b[kBytes] = {}, result[kBytes];
        std::memcpy(a, in, n);
        std::memcpy(b, other, n);
        V::store(result, body(a, b));
        std::memcpy(out, result, n);
        return;
    }
    const V::I last = body(in + n - kBytes, other + n - kBytes);
    for (size_t i = 0; i + kBytes < n; i += kBytes) V::store(out + i, body(in + i, other + i));
    V::store(out + n - kBytes, last);
}

// Four vectors of rounded values, made of lanes k * V::lanes onwards by value(k), to clipped codes.
template <class Value>
inline V::I codes_of(Value value, int zero, V::I low, V::I high) {
    const V::I codes =
        V::narrow_plain(V::to_int(value(0)), V::to_int(value(1)), V::to_int(value(2)), V::to_int(value(3)), zero);
    return V::min_u8(V::max_u8(codes, low), high);
}

inline V::F real(const uint8_t* codes, int k) {
    return V::to_float(V::widen(codes + k * V::lanes));
}

void table(const uint8_t* in, uint8_t* out, size_t n, const uint8_t* table) {
    const V::Lookup lookup(table);
    each(in, in, out, n, [&](const uint8_t* from, const uint8_t*) {
        V::I x[1] = {V::load(from)};
        lookup.apply(x);
        return x[0];
    });
}

void sum(const uint8_t* a, const uint8_t* b, uint8_t* out, size_t n, const float scales[3], int low, int high) {
    const V::F scale_a = V::splat(scales[0]), scale_b = V::splat(scales[1]), fixed = V::splat(scales[2]);
    const V::I least = V::splat_u8(low), most = V::splat_u8(high);
    each(a, b, out, n, [&](const uint8_t* p, const uint8_t* q) {
        const auto value = [&](int k) { return V::fma(real(p, k), scale_a, V::fma(real(q, k), scale_b, fixed)); };
        return codes_of(value, 0, least, most);
    });
}

// Products of two differences of codes are below 2^16, so float32 holds them exactly.
void product(const uint8_t* a, const uint8_t* b, uint8_t* out, size_t n, int zero_a, int zero_b, Codes codes) {
    const V::F less_a = V::splat((float)-zero_a), less_b = V::splat((float)-zero_b);
    const V::F multiplier = V::splat(codes.multiplier);
    const V::I least = V::splat_u8(codes.low), most = V::splat_u8(codes.high);
    each(a, b, out, n, [&](const uint8_t* p, const uint8_t* q) {
        const auto value = [&](int k) {
            return V::mul(V::mul(V::addf(real(p, k), less_a), V::addf(real(q, k), less_b)), multiplier);
        };
        return codes_of(value, codes.zero, least, most);
    });
}

void scaled_by_arithmetic(const uint8_t* a, int32_t b, uint8_t* out, size_t n, int zero_a, Codes codes) {
    const V::F gate = V::splat((float)b), less = V::splat((float)-(zero_a * b));
    const V::F multiplier = V::splat(codes.multiplier);
    const V::I least = V::splat_u8(codes.low), most = V::splat_u8(codes.high);
    each(a, a, out, n, [&](const uint8_t* p, const uint8_t*) {
        const auto value = [&](int k) { return V::mul(V::addf(V::mul(real(p, k), gate), less), multiplier); };
        return codes_of(value, codes.zero, least, most);
    });
}

void scaled(const uint8_t* a, int32_t b, uint8_t* out, size_t n, int zero_a, Codes codes) {
    if (!V::cheap_lookup || n < 1024) return scaled_by_arithmetic(a, b, out, n, zero_a, codes);
    uint8_t every[256], results[256];
    for (int i = 0; i < 256; ++i) every[i] = (uint8_t)i;
    scaled_by_arithmetic(every, b, results, 256, zero_a, codes);
    table(a, out, n, results);
}

void quantise(const float* in, uint8_t* out, size_t n, float scale, int zero) {
    // Clipped before the conversion, which is defined for int32 only; the limits are whole numbers, so that rounding
    // afterwards comes to the same. NaN becomes the code 0.
    const V::F divisor = V::splat(scale), least = V::splat((float)-zero), most = V::splat((float)(255 - zero));
    const auto body = [&](const float* from, uint8_t* to) {
        const auto value = [&](int k) {
            const V::F x = V::div(V::loadf(from + k * V::lanes), divisor);
            return V::to_int(V::minf(V::maxf(x, least), most));
        };
        V::store(to, V::narrow_plain(value(0), value(1), value(2), value(3), zero));
    };
    size_t i = 0;
    for (; i + kBytes <= n; i += kBytes) body(in + i, out + i);
    if (i == n) return;
    float rest[kBytes] = {};
    uint8_t result[kBytes];
    std::memcpy(rest, in + i, (n - i) * sizeof(float));
    body(rest, result);
    std::memcpy(out + i, result, n - i);
}

void dequantise(const uint8_t* in, float* out, size_t n, const float* table) {
    for (size_t i = 0; i < n; ++i) out[i] = table[in[i]];
}

int64_t total(const uint8_t* in, size_t n) {
    constexpr size_t run = kBytes << 16;  // no lane of V::sums overflows in a run
    int64_t result = 0;
    size_t i = 0;
    while (i + kBytes <= n) {
        const size_t end = n - i < run ? n : i + run;
        V::I sums[2] = {V::zero(), V::zero()};
        for (; i + 2 * kBytes <= end; i += 2 * kBytes) {
            sums[0] = V::sums(sums[0], V::load(in + i));
            sums[1] = V::sums(sums[1], V::load(in + i + kBytes));
        }
        if (i + kBytes <= end) sums[0] = V::sums(sums[0], V::load(in + i)), i += kBytes;
        int32_t lanes[V::lanes];
        V::store(lanes, V::add(sums[0], sums[1]));
        for (int32_t lane : lanes) result += lane;
    }
    for (; i < n; ++i) result += in[i];
    return result;
}

void maximum(const uint8_t* in, uint8_t* out, size_t n) {
    each(in, out, out, n, [](const uint8_t* a, const uint8_t* b) { return V::max_u8(V::load(a), V::load(b)); });
}

void highest(const uint8_t* in, size_t rows, size_t stride, uint8_t* out, size_t n) {
    size_t i = 0;
    const auto vector = [&](size_t at) {
        V::I most = V::load(in + at);
        for (size_t r = 1; r < rows; ++r) most = V::max_u8(most, V::load(in + r * stride + at));
        V::store(out + at, most);
    };
    for (; i + kBytes <= n; i += kBytes) vector(i);
    if (i == n) return;
    if (n > kBytes) return vector(n - kBytes);
    uint8_t most[kBytes] = {};
    for (size_t r = 0; r < rows; ++r)
        for (size_t k = 0; k < n; ++k) most[k] = in[r * stride + k] > most[k] ? in[r * stride + k] : most[k];
    std::memcpy(out, most, n);
}

}  // namespace pointwise

const PointwiseKernels pointwise_kernels = {pointwise::table,  pointwise::sum,      pointwise::product,
                                            pointwise::scaled, pointwise::quantise, pointwise::dequantise,
                                            pointwise::total,  pointwise::maximum,  pointwise::highest};

}}  // namespace shoestring
