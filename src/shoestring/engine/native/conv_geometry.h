// Where the rows of a convolution lie. Any convolution is a sum over *shifted planes*: the input, split into one plane
// a phase of the stride and padded so that a tap is a constant shift along the flattened plane. Output pixels are then
// consecutive too, with a few columns between rows that nobody wants.
#pragma once

#include <cstdint>

#include "program.h"

namespace shoestring {

struct ConvGeometry {
    int64_t channels, height, width;         // input
    int64_t outputs, out_height, out_width;  // output
    int64_t group_inputs, group_outputs, groups, taps_high, taps_wide;
    int64_t stride[2], dilation[2], top, left;
    bool direct;     // 1x1, stride 1, unpadded: the input's planes serve as they are
    int64_t row;     // pixels from one row of a plane to the next
    int64_t rows;    // of one plane
    int64_t plane;   // pixels of one plane
    int64_t phases;  // planes of one channel
    bool gapless;    // no unwanted columns: output rows follow one another
    int64_t flat;    // pixels from the first wanted output to the last, unwanted columns included

    ConvGeometry(const ConvOp& op, const Program& program);

    // Pixels from the start of a channel's planes to where output pixel 0 finds its input of a tap.
    int64_t shift(int64_t tap_y, int64_t tap_x) const;
    // Pixels of all planes of one channel.
    int64_t channel() const { return phases * plane; }
    // Fills the planes of one channel from its picture; what is outside of it is `pad`.
    void spread(const uint8_t* image, uint8_t pad, uint8_t* planes) const;
};

}  // namespace shoestring
