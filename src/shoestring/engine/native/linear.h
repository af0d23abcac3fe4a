// Kernels of linear layers: outputs in lanes, four inputs at a time (a *quad*), so that one row of inputs is enough.
//
// A *panel* is the weights of one vector of outputs. Kept as bytes it is a sequence of blocks [lanes][4], one a quad,
// then listed blocks that name their quad: what does not fit into a dense block, or, where many blocks are zero, all
// others. Of listed ones there are two lists: what is shared with another network, and what is the panel's own. Kept in
// 4 or 2 bits it is [inputs / 16] steps of four such blocks, each byte holding the codes (weight + offset) of 2 or 4
// blocks, the first in the low bits.
#pragma once

#include "kernels.h"

namespace shoestring {

struct Panel {
    const int8_t* weights;
    size_t dense;  // blocks of quads 0, 1, 2 ... (packed: steps)
    struct List {
        const int8_t* weights;
        const uint32_t* quads;
        size_t count;
    } listed[2];
};

// Rows of inputs, `stride` bytes apart, and their accumulators, int32 [rows][acc_stride].
struct Rows {
    const uint8_t* x;
    size_t stride;
    int32_t* acc;
    size_t acc_stride;
};

// What many rows are made into codes by, as `LinearKernels::codes` does it. `panels` [count], one or two, of bytes
// and with as many dense blocks each; bias and multiplier [count * lanes]; `outputs`: how many of these are written.
struct Tile {
    const Panel* panels;
    int count;
    const int32_t* bias;
    const float* multiplier;
    int zero, low, high;
    size_t outputs;
};

struct LinearKernels {
    static constexpr int most_rows = 8;
    int lanes;
    // Whether neighbouring products are added in 16 bits: a pair of weights of one sign in a block (elements 0 and 1, 2
    // and 3) must then sum to at most 128 in magnitude.
    bool pairs;
    // acc[r][lane] += the products of row r with the panel; 1 to most_rows rows. Up to 15 bytes behind a row are read.
    void (*bytes)(const Panel& panel, Rows rows, int count);
    void (*packed4)(const Panel& panel, Rows rows, int count);
    void (*packed2)(const Panel& panel, Rows rows, int count);
    // out[i] = requantised(acc[i]) / float32(acc[i]) * multiplier[i]; acc and multiplier are readable up to the next
    // multiple of 4 * lanes.
    void (*codes)(const int32_t* acc, const float* multiplier, uint8_t* out, size_t n, int zero, int low, int high);
    // Rows x [rows], `stride` bytes apart (up to 15 behind a row are read), to out [rows], out_stride bytes apart.
    void (*tile)(const Tile& tile, const uint8_t* x, size_t stride, size_t rows, uint8_t* out, size_t out_stride);
    void (*values)(const int32_t* acc, const float* multiplier, float* out, size_t n);
};

}  // namespace shoestring
