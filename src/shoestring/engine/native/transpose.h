// Copies along two axes, each contiguous on one side at best.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace shoestring {

struct CopyAxis {
    int64_t extent, from, to;  // the strides of both sides, in elements
};

// out[y * rows.to + x * columns.to] = value(in[y * rows.from + x * columns.from]), in squares whose cache lines stay
// while both sides use them.
template <class T, class Value>
void transpose(const T* in, T* out, const CopyAxis& rows, const CopyAxis& columns, Value value) {
    constexpr int64_t side = 16;
    for (int64_t r = 0; r < rows.extent; r += side)
        for (int64_t c = 0; c < columns.extent; c += side)
            for (int64_t y = r; y < std::min(r + side, rows.extent); ++y)
                for (int64_t x = c; x < std::min(c + side, columns.extent); ++x)
                    out[y * rows.to + x * columns.to] = value(in[y * rows.from + x * columns.from]);
}

// Eight rows of eight bytes, a little-endian number each: swaps the halves of ever smaller squares across the diagonal
// (Hacker's Delight, 7-3).
inline void transpose_square(uint64_t (&rows)[8]) {
    constexpr uint64_t masks[3] = {0x00ff00ff00ff00ff, 0x0000ffff0000ffff, 0x00000000ffffffff};
    for (int step = 0; step < 3; ++step)
        for (int i = 0; i < 8; ++i) {
            const int apart = 1 << step, shift = 8 << step;
            if (i & apart) continue;
            const uint64_t change = (rows[i] >> shift ^ rows[i + apart]) & masks[step];
            rows[i + apart] ^= change;
            rows[i] ^= change << shift;
        }
}

// The same for bytes as they are: where the input is contiguous along the rows and the output along the columns, eight
// by eight at a time.
inline void transpose(const uint8_t* in, uint8_t* out, const CopyAxis& rows, const CopyAxis& columns) {
    const auto same = [](uint8_t x) { return x; };
    if (rows.from != 1 || columns.to != 1) return transpose(in, out, rows, columns, same);
    constexpr int64_t side = 64;
    const int64_t high = rows.extent / 8 * 8, wide = columns.extent / 8 * 8;
    for (int64_t r = 0; r < high; r += side)
        for (int64_t c = 0; c < wide; c += side)
            for (int64_t y = r; y < std::min(r + side, high); y += 8)
                for (int64_t x = c; x < std::min(c + side, wide); x += 8) {
                    uint64_t square[8];
                    for (int64_t i = 0; i < 8; ++i) std::memcpy(&square[i], in + y + (x + i) * columns.from, 8);
                    transpose_square(square);
                    for (int64_t i = 0; i < 8; ++i) std::memcpy(out + (y + i) * rows.to + x, &square[i], 8);
                }
    transpose(in + wide * columns.from, out + wide, {high, 1, rows.to}, {columns.extent - wide, columns.from, 1}, same);
    transpose(in + high, out + high * rows.to, {rows.extent - high, 1, rows.to}, columns, same);
}

}  // namespace shoestring
