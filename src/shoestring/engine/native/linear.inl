// Kernels of linear layers (linear.h), for one instruction set: V comes from the file that includes this.
#include "linear.h"

namespace shoestring { namespace {
namespace linear {

inline V::I quad(const uint8_t* x) {
    return V::splat_four((const int8_t*)x);
}

// A number that the compiler knows.
template <int n>
struct Constant {
    constexpr operator int() const { return n; }
};

// Independent sums, so that no dot product waits for the one before.
constexpr int chains_for(int rows) {
    return rows == 1 ? 4 : 1;
}

template <int rows, int chains>
inline void add_to(Rows at, const V::I (&sums)[chains][rows]) {
    for (int r = 0; r < rows; ++r) {
        V::I total = V::load(at.acc + r * at.acc_stride);
        for (int c = 0; c < chains; ++c) total = V::add(total, sums[c][r]);
        V::store(at.acc + r * at.acc_stride, total);
    }
}

template <int rows>
inline void block(V::I (&sums)[rows], const uint8_t* x, size_t stride, const int8_t* weights) {
    const V::I w = V::load(weights);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) sums[r] = V::dot_bytes(sums[r], quad(x + r * stride), w);
}

// where(b): the quad of block b.
template <int rows, class Where>
inline void blocks(Rows at, const int8_t* weights, size_t count, Where where) {
    constexpr int chains = chains_for(rows);
    V::I sums[chains][rows];
    for (auto& chain : sums)
        for (auto& one : chain) one = V::zero();
    size_t b = 0;
    for (; b + chains <= count; b += chains)
#pragma GCC unroll 4
        for (int c = 0; c < chains; ++c)
            block(sums[c], at.x + 4 * where(b + c), at.stride, weights + (b + c) * V::bytes);
    for (; b < count; ++b) block(sums[0], at.x + 4 * where(b), at.stride, weights + b * V::bytes);
    add_to(at, sums);
}

struct Bytes {
    template <int rows>
    static void run(const Panel& panel, Rows at) {
        if (panel.dense) blocks<rows>(at, panel.weights, panel.dense, [](size_t b) { return b; });
        for (const Panel::List& list : panel.listed)
            if (list.count) blocks<rows>(at, list.weights, list.count, [&](size_t b) { return (size_t)list.quads[b]; });
    }
};

template <int bits>
struct Packed {
    static constexpr int blocks_a_vector = 8 / bits, vectors = 4 / blocks_a_vector;

    template <int rows>
    static inline void step(V::I (&sums)[rows], const uint8_t* x, size_t stride, const int8_t* packed) {
        V::I w[4];
        for (int v = 0; v < vectors; ++v) {
            const V::I raw = V::load(packed + v * V::bytes);
#pragma GCC unroll 4
            for (int i = 0; i < blocks_a_vector; ++i) w[v * blocks_a_vector + i] = V::template field<bits>(raw, i);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const uint8_t* p = x + r * stride;
            const V::I quads[4] = {quad(p), quad(p + 4), quad(p + 8), quad(p + 12)};
            sums[r] = V::dot_small(sums[r], quads, w);
        }
    }

    template <int rows>
    static void run(const Panel& panel, Rows at) {
        V::I sums[2][rows];
        for (auto& chain : sums)
            for (auto& one : chain) one = V::zero();
        constexpr size_t size = vectors * V::bytes;
        constexpr int chains = rows == 1 ? 2 : 1;
        size_t s = 0;
        for (; s + chains <= panel.dense; s += chains)
#pragma GCC unroll 2
            for (int c = 0; c < chains; ++c)
                step(sums[c], at.x + 16 * (s + c), at.stride, panel.weights + (s + c) * size);
        for (; s < panel.dense; ++s) step(sums[0], at.x + 16 * s, at.stride, panel.weights + s * size);
        add_to(at, sums);
    }
};

template <class Form>
void each_row(const Panel& panel, Rows at, int count) {
    const auto take = [&](auto rows) {
        for (; count >= rows; count -= rows) {
            Form::template run<rows>(panel, at);
            at.x += rows * at.stride, at.acc += rows * at.acc_stride;
        }
    };
    take(Constant<8>()), take(Constant<4>()), take(Constant<1>());
}

void codes(const int32_t* acc, const float* multiplier, uint8_t* out, size_t n, int zero, int low, int high) {
    const V::I least = V::splat_u8(low), most = V::splat_u8(high);
    for (size_t i = 0; i < n; i += V::bytes) {
        const auto value = [&](int k) {
            const size_t at = i + k * V::lanes;
            return V::to_int(V::mul(V::to_float(V::load(acc + at)), V::loadf(multiplier + at)));
        };
        V::I result = V::narrow_plain(value(0), value(1), value(2), value(3), zero);
        result = V::min_u8(V::max_u8(result, least), most);
        if (n - i >= V::bytes) {
            V::store(out + i, result);
        } else {
            uint8_t rest[V::bytes];
            V::store(rest, result);
            std::memcpy(out + i, rest, n - i);
        }
    }
}

void values(const int32_t* acc, const float* multiplier, float* out, size_t n) {
    for (size_t i = 0; i < n; ++i) out[i] = (float)acc[i] * multiplier[i];
}

// Rows whose accumulators, with `panels` vectors each, are in registers at once. (More than sixteen accumulators do not
// stay in thirty-two registers, whatever compilers are told.)
constexpr int rows_at_once(int panels) {
    return V::registers >= 32 || panels == 1 ? 8 : 4;
}

// sums[row][panel] += the products with what a panel lists.
template <int panels, int rows>
void add_listed(const Tile& tile, const uint8_t* x, size_t stride, V::I (&sums)[rows * panels]) {
    for (int p = 0; p < panels; ++p)
        for (const Panel::List& list : tile.panels[p].listed)
            for (size_t b = 0; b < list.count; ++b) {
                const V::I w = V::load(list.weights + b * V::bytes);
                const uint8_t* from = x + 4 * (size_t)list.quads[b];
                for (int r = 0; r < rows; ++r)
                    sums[r * panels + p] = V::dot_bytes(sums[r * panels + p], quad(from + r * stride), w);
            }
}

// Codes of the accumulators from `at` on, four vectors at a time. No loop, so that all of them stay in registers.
template <int panels, int at, int all>
inline void four_codes(const Tile& tile, const V::I (&sums)[all], V::I least, V::I most, uint8_t* out) {
    const auto value = [&](V::I sum, int i) {
        return V::to_int(V::mul(V::to_float(sum), V::loadf(tile.multiplier + i % panels * V::lanes)));
    };
    const V::I codes = V::narrow_plain(value(sums[at], at), value(sums[at + 1], at + 1), value(sums[at + 2], at + 2),
                                       value(sums[at + 3], at + 3), tile.zero);
    V::store(out + at * V::lanes, V::min_u8(V::max_u8(codes, least), most));
    if constexpr (at + 4 < all) four_codes<panels, at + 4>(tile, sums, least, most, out);
}

// Of one such block of rows, to `out` [rows][panels * lanes].
template <int panels, bool listed>
inline void tile_block(const Tile& tile, const uint8_t* x, size_t stride, uint8_t* out) {
    constexpr int rows = rows_at_once(panels), all = rows * panels;
    static_assert(all % 4 == 0, "codes are made of four vectors");
    V::I sums[all];
#pragma GCC unroll 16
    for (int i = 0; i < all; ++i) sums[i] = V::load(tile.bias + i % panels * V::lanes);
    const int8_t* weights[panels];
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) weights[p] = tile.panels[p].weights;
    const size_t dense = tile.panels[0].dense;
    for (size_t b = 0; b < dense; ++b, x += 4) {
        V::I w[panels];
#pragma GCC unroll 2
        for (int p = 0; p < panels; ++p) w[p] = V::load(weights[p] + b * V::bytes);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const V::I four = quad(x + r * stride);
#pragma GCC unroll 2
            for (int p = 0; p < panels; ++p) sums[r * panels + p] = V::dot_bytes(sums[r * panels + p], four, w[p]);
        }
    }
    if (listed) add_listed<panels, rows>(tile, x - 4 * dense, stride, sums);
    const V::I least = V::splat_u8(tile.low), most = V::splat_u8(tile.high);
    four_codes<panels, 0>(tile, sums, least, most, out);
}

// The last block overlaps the one before it.
template <int panels, bool listed>
void tile_rows(const Tile& tile, const uint8_t* x, size_t stride, size_t rows, uint8_t* out, size_t out_stride) {
    constexpr size_t many = rows_at_once(panels), width = (size_t)panels * V::lanes;
    const bool in_place = tile.outputs == width && out_stride == width;
    uint8_t made[many * width];
    if (rows < many) {
        for (size_t r = 0; r < rows; ++r) {
            tile_block<panels, listed>(tile, x + r * stride, 0, made);
            std::memcpy(out + r * out_stride, made, tile.outputs);
        }
        return;
    }
    for (size_t done = 0; done < rows; done += many) {
        const size_t row = done + many <= rows ? done : rows - many;
        uint8_t* const to = out + row * out_stride;
        tile_block<panels, listed>(tile, x + row * stride, stride, in_place ? to : made);
        if (in_place) continue;
        for (size_t r = 0; r < many; ++r)
            if (tile.outputs == width)  // of a size that the compiler knows
                std::memcpy(to + r * out_stride, made + r * width, width);
            else
                std::memcpy(to + r * out_stride, made + r * width, tile.outputs);
    }
}

template <bool listed>
void tile_panels(const Tile& tile, const uint8_t* x, size_t stride, size_t rows, uint8_t* out, size_t out_stride) {
    (tile.count == 1 ? tile_rows<1, listed> : tile_rows<2, listed>)(tile, x, stride, rows, out, out_stride);
}

void tile(const Tile& tile, const uint8_t* x, size_t stride, size_t rows, uint8_t* out, size_t out_stride) {
    bool listed = false;
    for (int p = 0; p < tile.count; ++p)
        for (const Panel::List& list : tile.panels[p].listed) listed = listed || list.count;
    (listed ? tile_panels<true> : tile_panels<false>)(tile, x, stride, rows, out, out_stride);
}

}  // namespace linear

const LinearKernels linear_kernels = {V::lanes,
                                      V::widens,
                                      linear::each_row<linear::Bytes>,
                                      linear::each_row<linear::Packed<4>>,
                                      linear::each_row<linear::Packed<2>>,
                                      linear::codes,
                                      linear::tile,
                                      linear::values};

}}  // namespace shoestring
