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
    // `codes`: of all outputs, but for their multipliers. `interleaved`: quads are added, not rows.
    PackedConv(const Codes& codes, bool interleaved, const ConvKernels& kernels);
    PackedConv(const PackedConv&) = delete;

    // Room for so many quads; there may be more in the end.
    void reserve(size_t blocks, size_t quads);
    // Appends a block. `rows` and `quads` may be empty: a block of zeros. Their order does not matter.
    void add_rows(const std::vector<Row>& rows, const int32_t bias[4], const float multipliers[4]);
    void add_quads(const std::vector<Quad>& quads, const int32_t bias[4], const float multipliers[4]);
    // Once all are there: the items that begin a block's list in `base` as they do here are read there and no longer
    // kept here. `base` must outlive this and share nothing itself; there are as many groups in it, of `base_in_group`
    // blocks to our `in_group`.
    void share(const PackedConv& base, size_t in_group, size_t base_in_group);

    // What the kernels take: one that takes the values of one block after another, staying where it is.
    const ConvBlock& empty() const { return form_; }
    void fill(size_t i, ConvBlock& block) const;
    size_t size() const { return values_.size(); }
    size_t bytes() const;  // not what is shared
    // Quads of all blocks: what the kernel executes.
    int64_t quads() const;

private:
    struct Values {
        int32_t bias[4];
        float multipliers[4];
    };
    // Where what is a block's own begins, in quads (a wide one counts twice in `weights`).
    struct Start {
        uint32_t offsets, weights;
    };
    // Items of the base, then so many rows of the quad that follows there.
    struct Shared {
        uint32_t items : 30, rows : 2;
    };
    // What lists of one sort have in an item.
    struct Item {
        size_t bytes, offsets;
    };
    enum Sort { kPairs, kQuads, kWide };
    void begin(const int32_t bias[4], const float multipliers[4]);
    void add_sorted(const std::vector<Row>& rows);
    void add_sorted(const std::vector<Quad>& quads);
    void put(const Row* const rows[4], Sort sort);
    void put(const Quad& quad, Sort sort);
    void put(const int8_t weights[16], Sort sort);
    uint32_t& count(Sort sort) { return own_[own_.size() - sorts_ + (sorts_ == 1 ? 0 : sort)]; }
    void end();

    Item item(size_t sort) const;
    ConvList& list(ConvBlock& block, size_t sort) const;
    // Rows of a table with a row for each block, or one for all.
    template <class T>
    static const T* row(const std::vector<T>& table, size_t i, size_t length) {
        return table.data() + (table.size() == length ? 0 : i * length);
    }
    template <class T>
    static void fold(std::vector<T>& table, size_t length);
    size_t base_of(size_t i) const { return i < in_group_ ? i : i / in_group_ * base_in_group_ + i % in_group_; }
    void fill_shared(size_t i, ConvBlock& block) const;
    Shared common(const ConvList& mine, const ConvList& theirs, size_t sort, bool offsets) const;
    void keep(bool offsets_shared, std::vector<Shared> shared);

    const ConvKernels& kernels_;
    ConvBlock form_{};  // what all blocks have in common
    size_t sorts_;      // 3; or 1, where all are quads
    size_t a_quad_;     // offsets
    std::vector<Values> values_;
    std::vector<Start> starts_;
    std::vector<uint32_t> own_;   // items [blocks][sorts]
    std::vector<Shared> shared_;  // [blocks][sorts], with a base
    std::vector<int32_t> offsets_;
    std::vector<int8_t> weights_;
    const PackedConv* base_ = nullptr;
    size_t in_group_ = 0, base_in_group_ = 0;
    bool offsets_shared_ = false;  // else `offsets_` has those of shared items, too
};

}  // namespace shoestring
