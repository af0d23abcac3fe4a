// Convolution as a list of products: a block of four output channels is a list of *quads*, four input rows and the
// sixteen weights between; a zero block is a quad that is not in the list. An input row is a pointer to as many
// consecutive pixels as one wants: a channel's plane, or for k x k kernels a padded plane shifted by a tap.
#pragma once

#include "kernels.h"

namespace shoestring {

// Quads, or pairs of quads, one after another.
struct ConvList {
    const int32_t* offsets;  // bytes from the input: four a quad (gathered) or one a quad (interleaved)
    const int8_t* weights;   // 16 bytes a quad: four of the first output, four of the second, ...; 32 a wide quad
    int32_t count;
};

// One block of four outputs. Quads come in three sorts, because without a dot-product instruction exact sums need care
// (vec_avx2.h): `pairs` of quads whose products may be added in 16 bits together, `quads` whose pairs of products may,
// and `wide` ones. Where the processor has a dot product there are only `quads`, and maybe a `rest` of them that is the
// block's own, when those are shared with another network.
struct ConvBlock {
    ConvList pairs, quads, wide, rest;
    int32_t last_offsets[4];  // where a list ends within a shared quad: what is the block's of it, which is the `rest`
    int8_t last_weights[16];
    int32_t bias[4];
    float multipliers[4];
    int32_t zero, low, high;  // as in Codes
    // The same, repeated to fill 32 bits (halves, then bytes), and whether the bounds matter.
    uint32_t zeros, lows, highs;
    bool bounded;
};

struct ConvKernels {
    bool splits;       // quads must be sorted into pairs, quads and wide ones; else all are `quads`
    int input_offset;  // inputs count as (u8 - input_offset): the bias makes it good
    // Each input row a pointer of its own (offsets in planes of pixels): what 4x1 blocks need.
    void (*gathered)(const ConvBlock& block, const uint8_t* input, int64_t pixels, uint8_t* const out[4]);
    // Four rows interleaved pixel by pixel: what dense layers and 4x4 blocks need.
    void (*interleaved)(const ConvBlock& block, const uint8_t* input, int64_t pixels, uint8_t* const out[4]);
    // The same, without codes: the accumulators.
    void (*accumulated)(const ConvBlock& block, const uint8_t* input, int64_t pixels, int32_t* const out[4]);
    // Four rows to their interleaved form, 4 * pixels bytes.
    void (*interleave)(const uint8_t* const rows[4], int64_t pixels, uint8_t* out);
    // What a wide quad's weights look like.
    void (*widen)(const int8_t weights[16], int8_t out[32]);
};

}  // namespace shoestring
