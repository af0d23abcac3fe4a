// The kernels of depthwise.h over a vector type.
#include "depthwise.h"

namespace shoestring { namespace { namespace depthwise {

struct Quads {
    using Pixel = uint8_t;
    static constexpr int taps = 4;
    static constexpr int shifts = V::widens ? 1 : 2;  // the exactness of quads depends on the shift
    static constexpr int weight_bytes = V::Dot::weight_bytes, input_offset = V::Dot::input_offset;
    static V::I pixels(const uint8_t* p) { return V::load(p); }
    static V::I splat(uint8_t x) { return V::splat_u8(x); }
    static V::I dot(V::I acc, V::I x, const int8_t* w) { return V::Dot::dot(acc, V::Dot::prepare(x), w); }
    static void pack(const int8_t* w, int8_t* out) { V::Dot::pack_weights(w, out); }
};

struct Pairs {
    using Pixel = uint16_t;
    static constexpr int taps = 2;
    static constexpr int shifts = 2;
    static constexpr int weight_bytes = 4, input_offset = 0;
    static V::I pixels(const uint8_t* p) { return V::widen_u16(p); }
    static V::I splat(uint8_t x) { return V::splat(x * 0x10001); }
    static V::I dot(V::I acc, V::I x, const int8_t* w) { return V::dot_pairs(acc, x, w); }
    static void pack(const int8_t* w, int8_t* out) {
        const int16_t wide[2] = {w[0], w[1]};
        std::memcpy(out, wide, sizeof wide);
    }
};

template <class Form>
void fill(const uint8_t* picture, const DepthwisePlane& p, int64_t first, int64_t count, void* out) {
    using Pixel = typename Form::Pixel;
    constexpr int64_t n = V::bytes / (int64_t)sizeof(Pixel);
    const V::I pad = Form::splat(p.zero);
    // The last vector of a row: pixels, then zero points. It may reach into the next row, which is written after it.
    const int64_t whole = p.width / n * n;
    uint8_t keeps[V::bytes] = {}, pads[V::bytes];
    V::store(pads, pad);
    std::memset(keeps, 255, (size_t)(p.width - whole) * sizeof(Pixel));
    std::memset(pads, 0, (size_t)(p.width - whole) * sizeof(Pixel));
    const V::I kept = V::load(keeps), rest = V::load(pads);

    for (int64_t phase = 0; phase < p.phases && phase < count; ++phase) {
        Pixel* to = (Pixel*)out + phase * p.phase;
        for (int64_t x = 0; x < p.left; x += n) V::store(to + x, pad);
        to += p.left;
        for (int64_t y = first + phase; y < first + count; y += p.phases, to += p.row) {
            int64_t x = 0;
            if (y >= 0 && y < p.height) {
                const uint8_t* from = picture + y * p.width;
                for (; x < whole; x += n) V::store(to + x, Form::pixels(from + x));
                if (x < p.row) V::store(to + x, V::max_u8(V::min_u8(Form::pixels(from + x), kept), rest)), x += n;
            }
            for (; x < p.row; x += n) V::store(to + x, pad);
        }
    }
}

// `groups` times four vectors of accumulators for outputs `apart` pixels apart. One vector of a plane's pixels gives
// taps / apart vectors, whose outputs interleave.
template <class Form, int apart, int steps, int groups>
inline void accumulate(const typename Form::Pixel* plane, const DepthwiseChannel& c, V::I (&acc)[4 * groups]) {
    constexpr int shifts = apart == 1 ? Form::shifts : 1, phases = Form::taps / apart;
    for (V::I& a : acc) a = V::splat(c.bias);
    const int n = steps ? steps : c.steps;
    const int8_t* weights = c.weights;
    // Weights are broadcast anew for every block: kept over blocks they would not fit into registers.
    asm("" : "+r"(weights));
#pragma GCC unroll 16
    for (int s = 0; s < n; ++s) {
        const typename Form::Pixel* x = plane + c.offsets[s];
        const int8_t* w = weights + s * shifts * Form::weight_bytes;
#pragma GCC unroll 16
        for (int i = 0; i < 4 * groups; ++i) {
            const int at = i / phases * V::lanes * Form::taps + i % phases * apart, shift = at % shifts;
            acc[i] = Form::dot(acc[i], V::load(x + at - shift), w + shift * Form::weight_bytes);
        }
    }
}

template <class Form, int apart, int steps, int groups>
inline void write(const typename Form::Pixel* plane, const DepthwiseChannel& c, uint8_t* out) {
    V::I acc[4 * groups];
    accumulate<Form, apart, steps, groups>(plane, c, acc);
    const V::F m = V::splat(c.codes.multiplier);
    const V::I low = V::splat_u8(c.codes.low), high = V::splat_u8(c.codes.high);
    for (V::I& a : acc) a = V::to_int(V::mul(V::to_float(a), m));
    for (int g = 0; g < groups; ++g) {
        const V::I codes = V::narrow_interleaved<Form::taps / apart>(acc + 4 * g, c.codes.zero);
        V::store(out + g * V::bytes, V::min_u8(V::max_u8(codes, low), high));
    }
}

template <class Form, int apart, int steps, int groups>
inline void write(const typename Form::Pixel* plane, const DepthwiseChannel& c, float* out) {
    constexpr int phases = Form::taps / apart;
    V::I acc[4 * groups];
    accumulate<Form, apart, steps, groups>(plane, c, acc);
    for (int i = 0; i < 4 * groups; ++i) {
        float lanes[V::lanes];
        V::storef(lanes, V::mul(V::to_float(acc[i]), V::splat(c.codes.multiplier)));
        float* to = out + i / phases * phases * V::lanes + i % phases;
        for (int k = 0; k < V::lanes; ++k) to[k * phases] = lanes[k];
    }
}

template <class Form, int apart, int steps, class T>
inline void outputs(const void* plane, const DepthwiseChannel& c, int64_t n, T* out) {
    const auto* x = (const typename Form::Pixel*)plane;
    int64_t i = 0;
    for (; n - i > V::bytes; i += 2 * V::bytes) write<Form, apart, steps, 2>(x + i * apart, c, out + i);
    if (n > i) write<Form, apart, steps, 1>(x + i * apart, c, out + i);
}

// Common numbers of steps are known to the compiler: kernels of 3x3, 5x5.
template <class Form, int apart>
void codes(const void* plane, const DepthwiseChannel& c, int64_t n, uint8_t* out) {
    constexpr int three = Form::taps == 4 ? 3 : 6, five = Form::taps == 4 ? 10 : 15;
    if (c.steps == three) return outputs<Form, apart, three>(plane, c, n, out);
    if (c.steps == five) return outputs<Form, apart, five>(plane, c, n, out);
    outputs<Form, apart, 0>(plane, c, n, out);
}

template <class Form, int apart>
void floats(const void* plane, const DepthwiseChannel& c, int64_t n, float* out) {
    outputs<Form, apart, 0>(plane, c, n, out);
}

template <class Form>
constexpr DepthwiseForm form() {
    return {sizeof(typename Form::Pixel),
            Form::taps,
            Form::shifts,
            Form::weight_bytes,
            Form::input_offset,
            Form::pack,
            fill<Form>,
            {codes<Form, 1>, codes<Form, 2>},
            {floats<Form, 1>, floats<Form, 2>}};
}

}  // namespace depthwise

constexpr DepthwiseKernels depthwise_kernels = {2 * V::bytes, V::widens, depthwise::form<depthwise::Quads>(),
                                                depthwise::form<depthwise::Pairs>()};

}}  // namespace shoestring::(anonymous)
