// Depthwise convolution: every channel is a picture of its own, convolved with a kernel of its own.
//
// A picture is first copied to a *plane* in the scratch of the thread: rows one behind the other with zero points in
// between, one run of rows for each phase of the vertical stride. A tap is then a constant distance along the plane,
// and the outputs of one channel are one long row, with a few columns between the rows that nobody wants.
//
// A vector of 32-bit lanes takes a *chunk* of neighbouring taps at once: four bytes (quads), or two 16-bit pixels
// (pairs) where a processor without dot products of bytes could not add four products exactly. Lane i then holds every
// fourth or second output; what lies between comes from vectors loaded, or weights shifted, by a pixel.
#pragma once

#include "kernels.h"

namespace shoestring {

// What one channel is convolved with. A step is a chunk of taps: its distance in pixels and its weights, once for every
// shift that the form wants.
struct DepthwiseChannel {
    const int32_t* offsets;
    const int8_t* weights;
    int32_t steps;
    int32_t bias;
    Codes codes;
};

// How a picture lies in a plane, in pixels.
struct DepthwisePlane {
    int64_t height, width;  // of the picture
    int64_t left;           // zero points before a plane's first row
    int64_t row;            // from one row of a phase to the next
    int64_t phase, phases;  // from one phase to the next; how many
    uint8_t zero;
};

// One channel of one image. Outputs are u8 or f32.
struct DepthwiseTask {
    const uint8_t* picture;
    const DepthwiseChannel* channel;
    void* plane;    // scratch
    void* outputs;  // scratch: the long row
    void* out;      // where its wanted columns go in the end; no matter to the kernels
};

struct DepthwiseForm {
    int taps;          // in a chunk
    int shifts;        // a chunk's weights are wanted shifted by 0 .. shifts - 1 taps (only 0 if outputs are two apart)
    int weight_bytes;  // of a chunk
    int input_offset;  // pixels count as (u8 - input_offset): the bias makes it good
    void (*pack)(const int8_t* taps, int8_t* out);
    // Writes rows first .. first + count - 1 of each picture, some outside of it, the first to the plane's start.
    void (*fill)(const DepthwiseTask* tasks, int64_t n, const DepthwisePlane& plane, int64_t first, int64_t count);
    // Computes outputs, up to a multiple of DepthwiseKernels::outputs, whose pixels are 1 or 2 apart ([0], [1]).
    void (*codes[2])(const DepthwiseTask* tasks, int64_t n, int64_t outputs);
    void (*floats[2])(const DepthwiseTask* tasks, int64_t n, int64_t outputs);
};

struct DepthwiseKernels {
    int outputs;  // the most computed at once
    bool widens;  // quads are exact only where neither the first two products nor the last two leave 16 bits together
    DepthwiseForm quads, pairs;
};

}  // namespace shoestring
