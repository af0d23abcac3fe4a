// The kernels of depthwise.h over a vector type.
#include "depthwise.h"

namespace shoestring { namespace {
namespace depthwise {

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

// 64 bytes of ones, zeros, ones: masks for a row's last vector.
struct Edge {
    uint8_t bytes[192];
    constexpr Edge() : bytes() {
        for (int i = 0; i < 192; ++i) bytes[i] = i / 64 % 2 ? 0 : 255;
    }
};
constexpr Edge edge;

template <class Form>
void fill(const DepthwiseTask* tasks, int64_t n, const DepthwisePlane& p, int64_t first, int64_t count) {
    using Pixel = typename Form::Pixel;
    constexpr int64_t some = V::bytes / (int64_t)sizeof(Pixel);  // pixels of a vector
    const int64_t width = p.width, row = p.row, left = p.left, whole = width / some * some;
    const int64_t left_over = (width - whole) * (int64_t)sizeof(Pixel);
    const V::I pad = Form::splat(p.zero), kept = V::load(edge.bytes + 64 - left_over);
    const V::I behind = V::min_u8(pad, V::load(edge.bytes + 128 - left_over));
    const auto pads = [=](Pixel* to, int64_t from, int64_t until) {
        for (int64_t x = from; x < until; x += some) V::store(to + x, pad);
    };
    // A row's last vector may reach into the next row, which is written after it.
    const auto end_of_row = [=](const uint8_t* from, Pixel* to) {
        V::store(to, V::max_u8(V::min_u8(Form::pixels(from), kept), behind));
    };
    const bool one_vector = width < some && row <= some;

    for (int64_t phase = 0; phase < p.phases && phase < count; ++phase) {
        // Rows before the picture, then up to its end, then behind it.
        const int64_t y = first + phase, rows = (count - phase + p.phases - 1) / p.phases;
        const int64_t above = y < 0 ? (-y + p.phases - 1) / p.phases : 0, top = above < rows ? above : rows;
        const int64_t below = p.height > y ? (p.height - y + p.phases - 1) / p.phases : 0;
        const int64_t bottom = below < top ? top : below < rows ? below : rows;
        const int64_t start = (y + top * p.phases) * width, step = p.phases * width;
        for (const DepthwiseTask* task = tasks; task < tasks + n; ++task) {
            const uint8_t* from = task->picture + start;
            Pixel* to = (Pixel*)task->plane + phase * p.phase;
            pads(to, 0, left + top * row);
            to += left + top * row;
            Pixel* const end = to + (bottom - top) * row;
            if (one_vector)
                for (; to < end; to += row, from += step) end_of_row(from, to);
            for (; to < end; to += row, from += step) {
                for (int64_t x = 0; x < whole; x += some) V::store(to + x, Form::pixels(from + x));
                if (whole == row) continue;
                end_of_row(from + whole, to + whole);
                pads(to, whole + some, row);
            }
            pads(to, 0, (rows - bottom) * row);
        }
    }
}

// Each sum right behind its products: the compiler otherwise does products far ahead, and registers run out.
inline void settle(V::I& sum) {
#ifdef __AVX2__
    asm("" : "+x"(sum));
#endif
    (void)sum;
}

// `groups` times four vectors of accumulators for outputs `apart` pixels apart. One vector of a plane's pixels gives
// taps / apart vectors, whose outputs interleave.
template <class Form, int apart, int groups>
inline void accumulate(const typename Form::Pixel* plane, const DepthwiseChannel& c, V::I (&acc)[4 * groups]) {
    constexpr int shifts = apart == 1 ? Form::shifts : 1, phases = Form::taps / apart;
    for (V::I& a : acc) a = V::splat(c.bias);
    const int8_t* w = c.weights;
#pragma GCC unroll 1
    for (int s = 0; s < c.steps; ++s, w += shifts * Form::weight_bytes) {
        const typename Form::Pixel* x = plane + c.offsets[s];
#pragma GCC unroll 8
        for (int i = 0; i < 4 * groups; ++i) {
            const int at = i / phases * V::lanes * Form::taps + i % phases * apart, shift = at % shifts;
            acc[i] = Form::dot(acc[i], V::load(x + at - shift), w + shift * Form::weight_bytes);
            settle(acc[i]);
        }
    }
}

template <class Form, int apart, int groups>
inline void write(const typename Form::Pixel* plane, const DepthwiseChannel& c, uint8_t* out) {
    V::I acc[4 * groups];
    accumulate<Form, apart, groups>(plane, c, acc);
    const V::F multiplier = V::splat(c.codes.multiplier);
    const V::I low = V::splat_u8(c.codes.low), high = V::splat_u8(c.codes.high);
    for (V::I& a : acc) a = V::to_int(V::mul(V::to_float(a), multiplier));
    for (int g = 0; g < groups; ++g) {
        const V::I codes = V::narrow_interleaved<Form::taps / apart>(acc + 4 * g, c.codes.zero);
        V::store(out + g * V::bytes, V::min_u8(V::max_u8(codes, low), high));
    }
}

template <class Form, int apart, int groups>
inline void write(const typename Form::Pixel* plane, const DepthwiseChannel& c, float* out) {
    constexpr int phases = Form::taps / apart;
    V::I acc[4 * groups];
    accumulate<Form, apart, groups>(plane, c, acc);
    for (int i = 0; i < 4 * groups; ++i) {
        float lanes[V::lanes];
        V::storef(lanes, V::mul(V::to_float(acc[i]), V::splat(c.codes.multiplier)));
        float* to = out + i / phases * phases * V::lanes + i % phases;
        for (int k = 0; k < V::lanes; ++k) to[k * phases] = lanes[k];
    }
}

template <class Form, int apart, class T>
void convolve(const DepthwiseTask* tasks, int64_t n, int64_t outputs) {
    for (const DepthwiseTask* task = tasks; task < tasks + n; ++task) {
        const auto* x = (const typename Form::Pixel*)task->plane;
        const DepthwiseChannel channel = *task->channel;  // a copy, which stores to the outputs cannot change
        T* out = (T*)task->outputs;
        int64_t i = 0;
        for (; outputs - i > V::bytes; i += 2 * V::bytes) write<Form, apart, 2>(x + i * apart, channel, out + i);
        if (outputs > i) write<Form, apart, 1>(x + i * apart, channel, out + i);
    }
}

template <class Form>
constexpr DepthwiseForm form() {
    return {Form::taps,
            Form::shifts,
            Form::weight_bytes,
            Form::input_offset,
            Form::pack,
            fill<Form>,
            {convolve<Form, 1, uint8_t>, convolve<Form, 2, uint8_t>},
            {convolve<Form, 1, float>, convolve<Form, 2, float>}};
}

}  // namespace depthwise

constexpr DepthwiseKernels depthwise_kernels = {2 * V::bytes, V::widens, depthwise::form<depthwise::Quads>(),
                                                depthwise::form<depthwise::Pairs>()};

}}  // namespace shoestring
