// Kernels that sample points in cells and find neighbours among them (points.h says what).
#pragma once

#include "cells.h"
#include "kernels.h"

namespace shoestring {

// The nearest points seen so far, in no order: `kept` of at most `room`, behind which a vector may be written.
struct Candidates {
    float* distance;
    int32_t* id;
    int64_t kept, room;
};

// Leaves the `count` nearest of them in order (by distance, then number). For any count and any ties; nearness.inl has
// something faster for most. `keys`: room for `kept`.
void keep_nearest(Candidates& all, int64_t count, uint64_t* keys);

// What a search needs beside the cells.
struct Search {
    Candidates found;
    uint64_t* keys;   // [found.room]
    float* bounds;    // [places of the groups]
    int32_t* ranks;   // [found.room and a vector]
};

struct NearnessKernels {
    static constexpr int64_t farthest_size = 64, nearest_size = 32;  // points in a cell
    // `near` [cells * size]; `most` and `first` [places of the boxes].
    void (*farthest)(const Cells& cells, float* near, float* most, int32_t* first, int64_t count, int32_t* index);
    // Of `limit` or nearer, squared; where there are fewer than `count`, the nearest of all stands in.
    void (*nearest)(const Cells& cells, const float* centres, int64_t m, int64_t count, float limit, Search& search,
                    int32_t* index);
};

}  // namespace shoestring
