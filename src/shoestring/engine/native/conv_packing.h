// The weights of a convolution as the kernels of conv.h read them.
#pragma once

#include <cstdint>
#include <vector>

#include "conv.h"

namespace shoestring {

// An input row that four outputs share: where it is, and its four weights.
struct Row {
    int32_t offset;
    int8_t weights[4];
};

// Four interleaved input rows: where they are, and for each output four weights.
struct Quad {
    int32_t offset;
    int8_t weights[16];
};

// Blocks one after another; `block(i)` points into the vectors.
class PackedConv {
public:
    // Room for so many quads, gathered or interleaved; there may be more in the end.
    void reserve(size_t blocks, size_t quads, bool interleaved);
    // Appends a block. `rows` and `quads` may be empty: a block of zeros. Their order does not matter.
    void add_rows(std::vector<Row>& rows, const int32_t bias[4], const Codes codes[4], const ConvKernels& kernels);
    void add_quads(std::vector<Quad>& quads, const int32_t bias[4], const Codes codes[4], const ConvKernels& kernels);

    ConvBlock block(size_t i) const;
    size_t size() const { return blocks_.size(); }
    size_t bytes() const;
    // Quads of all blocks: what the kernel executes.
    int64_t quads() const;

private:
    struct Start {
        size_t offsets, weights;
        ConvBlock block;
    };
    void begin(const int32_t bias[4], const Codes codes[4]);
    void put(const Row* const rows[4], bool wide, const ConvKernels& kernels);
    void put(const Quad& quad, bool wide, const ConvKernels& kernels);

    std::vector<Start> blocks_;
    std::vector<int32_t> offsets_;
    std::vector<int8_t> weights_;
};

}  // namespace shoestring
