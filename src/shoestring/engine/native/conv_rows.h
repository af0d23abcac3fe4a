// What a block of a convolution reads: the rows or quads with a weight that is not zero.
#pragma once

#include <cstdint>
#include <vector>

#include "conv_geometry.h"
#include "conv_packing.h"

namespace shoestring {

// The weights of a block, output by output, for one input channel and tap.
struct Columns {
    const int8_t* of[4];
    int64_t taps, inputs;

    int8_t at(int64_t output, int64_t channel, int64_t tap) const {
        return of[output] && channel < inputs ? of[output][channel * taps + tap] : (int8_t)0;
    }
};

// Offsets count from the first channel of the group.
void rows_of(const Columns& w, const ConvGeometry& g, std::vector<Row>& rows);
// Four rows of a tile, one after another, each of so many pixels: any channels and taps.
void tile_quads_of(const Columns& w, int64_t row, std::vector<Quad>& quads);
// Four channels, all taps.
void plane_quads_of(const Columns& w, const ConvGeometry& g, std::vector<Quad>& quads);

}  // namespace shoestring
