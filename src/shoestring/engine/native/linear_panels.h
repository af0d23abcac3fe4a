// The weights of a linear layer as the kernels of linear.h read them, in the form that has the fewest bytes: with one
// row of inputs reading them is what takes the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "linear.h"
#include "program.h"

namespace shoestring {

// Panels one after another, each from a multiple of 64 bytes on.
class Panels {
public:
    Panels(const LinearOp& op, int64_t outputs, const LinearKernels& kernels);
    Panels(const Panels&) = delete;

    // The blocks that begin a panel of `base` as they do here are read there and no longer kept here. `base` must
    // outlive this and share nothing itself.
    void share(const Panels& base);

    int bits() const { return bits_; }
    bool listed() const { return listed_; }
    size_t size() const { return panels_.size(); }
    size_t bytes() const;        // not what is shared
    int64_t multiplies() const;  // blocks that are executed, counted in weights
    Panel operator[](size_t i) const;

private:
    struct alignas(64) Line {
        int8_t bytes[64];
    };
    // Where a panel's own bytes begin: of its dense blocks, unless they are the base's, then of its own listed ones.
    struct Start {
        size_t line, quad;
        uint32_t dense, shared, listed;  // blocks; `shared`: those that are listed in the base
        bool theirs;                     // the dense ones are
    };
    int64_t packed_size(int bits) const { return (inputs_ + 15) / 16 * lanes_ * 2 * bits; }
    size_t block_bytes() const { return (size_t)lanes_ * 4; }
    // Of a dense block, or of a step of packed ones.
    size_t dense_bytes() const { return bits_ == 8 ? block_bytes() : (size_t)(lanes_ * 2 * bits_); }
    int64_t outputs_of(int64_t panel) const;
    void gather(int64_t panel, int64_t q, int8_t* block) const;
    bool move_excess(int8_t* block, int8_t* rest) const;
    int8_t* room(size_t size);
    void pack_bytes(int64_t panel, bool pairs);
    void pack_bits(int64_t panel);
    bool same(const int8_t* a, const int8_t* b, size_t panel, size_t bytes) const;

    const int8_t* weight_;  // only while packing
    int64_t outputs_, inputs_, lanes_;
    int bits_ = 8;
    bool listed_ = false;
    std::vector<Start> panels_;
    std::vector<uint32_t> quads_;
    std::vector<Line> lines_;
    const Panels* base_ = nullptr;
};

}  // namespace shoestring
