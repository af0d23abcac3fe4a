#include "linear_panels.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace shoestring {

Panels::Panels(const LinearOp& op, int64_t outputs, const LinearKernels& kernels)
    : weight_(op.weight.data), outputs_(outputs), inputs_((int64_t)op.weight.count / outputs), lanes_(kernels.lanes) {
    const int64_t panels = (outputs + lanes_ - 1) / lanes_;
    lines_.reserve((size_t)(panels * packed_size(8)) / sizeof(Line));
    for (int64_t p = 0; p < panels; ++p) pack_bytes(p, kernels.pairs);
    const int64_t packed = panels * packed_size(op.bits);
    if (op.bits == 8 || packed > (int64_t)(lines_.size() * sizeof(Line) + quads_.size() * sizeof(uint32_t))) return;
    bits_ = op.bits;
    panels_.clear(), quads_.clear(), lines_.clear();
    for (int64_t p = 0; p < panels; ++p) pack_bits(p);
}

int64_t Panels::outputs_of(int64_t panel) const {
    return std::min(lanes_, outputs_ - panel * lanes_);
}

// The weights of a panel's outputs for quad q, [lanes][4]; `block` is left as it is where there is no such weight.
void Panels::gather(int64_t panel, int64_t q, int8_t* block) const {
    const int8_t* from = weight_ + panel * lanes_ * inputs_ + 4 * q;
    const int64_t outputs = outputs_of(panel), left = std::min<int64_t>(4, inputs_ - 4 * q);
    for (int64_t l = 0; l < outputs; ++l, from += inputs_, block += 4) {
        if (left == 4)
            std::memcpy(block, from, 4);
        else
            std::copy_n(from, std::max<int64_t>(left, 0), block);
    }
}

// Moves to `rest` what keeps pairs of products from fitting into 16 bits. False where all fit.
bool Panels::move_excess(int8_t* block, int8_t* rest) const {
    constexpr int16_t most = 128;  // 255 * 128 < 2^15
    bool any = false;
    for (size_t i = 0; i < block_bytes(); i += 2) {
        const auto sum = (int16_t)(block[i] + block[i + 1]);
        any |= sum > most || sum < -most;
    }
    for (size_t i = 0; any && i < block_bytes(); i += 2) {
        const int sum = block[i] + block[i + 1];
        rest[i] = 0, rest[i + 1] = (int8_t)(sum - std::clamp<int>(sum, -most, most));
        block[i + 1] = (int8_t)(block[i + 1] - rest[i + 1]);
    }
    return any;
}

int8_t* Panels::room(size_t size) {
    const size_t at = lines_.size();
    lines_.resize(at + (size + sizeof(Line) - 1) / sizeof(Line));
    return lines_[at].bytes;
}

// In the order of their inputs, so that a panel of fewer inputs begins alike.
void Panels::pack_bytes(int64_t panel, bool pairs) {
    const auto quads = (size_t)(inputs_ + 3) / 4;
    const size_t quad = quads_.size(), line = lines_.size(), size = block_bytes();
    std::vector<int8_t> blocks(quads * size), rest(size), extra;  // all, and what did not fit
    std::vector<uint32_t> filled, extra_quads;
    for (size_t q = 0; q < quads; ++q) {
        int8_t* block = &blocks[q * size];
        gather(panel, (int64_t)q, block);
        if (pairs && move_excess(block, rest.data())) {
            extra.insert(extra.end(), rest.begin(), rest.end());
            extra_quads.push_back((uint32_t)q);
        }
        if (std::any_of(block, block + size, [](int8_t w) { return w != 0; })) filled.push_back((uint32_t)q);
    }
    const bool list = filled.size() * (size + sizeof(uint32_t)) < quads * size;
    listed_ |= list;
    const size_t own = (list ? filled.size() : quads) + extra_quads.size();
    int8_t* to = room(std::max<size_t>(own, 1) * size);
    if (!list) {
        std::copy(blocks.begin(), blocks.end(), to);
        std::copy(extra.begin(), extra.end(), to + blocks.size());
        quads_.insert(quads_.end(), extra_quads.begin(), extra_quads.end());
    }
    for (size_t i = 0, e = 0; list && i < filled.size(); ++i) {
        const auto append = [&](const int8_t* block) {
            to = std::copy_n(block, size, to);
            quads_.push_back(filled[i]);
        };
        append(&blocks[filled[i] * size]);
        if (e < extra_quads.size() && extra_quads[e] == filled[i]) append(&extra[e++ * size]);
    }
    const size_t listed = quads_.size() - quad;
    panels_.push_back({line, quad, list ? 0 : (uint32_t)quads, 0, (uint32_t)listed, false});
}

// Codes are weight + offset, and 0 where there is no weight: what a row has behind its end does not count.
void Panels::pack_bits(int64_t panel) {
    const auto offset = (int8_t)(1 << (bits_ - 1));
    const int64_t steps = (inputs_ + 15) / 16;
    const int in_vector = 8 / bits_;
    const size_t line = lines_.size();
    int8_t* to = room((size_t)packed_size(bits_));
    std::vector<int8_t> codes(block_bytes());
    for (int64_t q = 0; q < 4 * steps; ++q) {
        std::fill(codes.begin(), codes.end(), (int8_t)-offset);
        gather(panel, q, codes.data());
        int8_t* vector = to + (size_t)(q / in_vector) * block_bytes();
        for (size_t i = 0; i < codes.size(); ++i)
            vector[i] = (int8_t)(vector[i] | (codes[i] + offset) << (q % in_vector * bits_));
    }
    panels_.push_back({line, 0, (uint32_t)steps, 0, 0, false});
}

Panel Panels::operator[](size_t i) const {
    const Start& start = panels_[i];
    const auto* own = reinterpret_cast<const int8_t*>(lines_.data() + start.line);
    const uint32_t* quads = quads_.data() + start.quad;
    Panel panel{own, start.dense, {{nullptr, nullptr, 0}, {own, quads, start.listed}}};
    if (!start.theirs) panel.listed[1].weights += start.dense * dense_bytes();
    if (!base_) return panel;
    const Panel theirs = (*base_)[i];
    if (start.theirs) panel.weights = theirs.weights;
    panel.listed[0] = theirs.listed[1], panel.listed[0].count = start.shared;
    return panel;
}

// Whether vectors are equal in the lanes of the outputs that there are: what the others add up to is not looked at.
bool Panels::same(const int8_t* a, const int8_t* b, size_t panel, size_t bytes) const {
    for (size_t at = 0; at < bytes; at += block_bytes())
        if (std::memcmp(a + at, b + at, (size_t)outputs_of((int64_t)panel) * 4) != 0) return false;
    return true;
}

void Panels::share(const Panels& base) {
    if (base.bits_ != bits_ || base.lanes_ != lanes_ || base.size() < size() || base.base_) return;
    const size_t block = block_bytes(), step = dense_bytes();
    std::vector<Line> lines;
    std::vector<uint32_t> quads;
    for (size_t p = 0; p < size(); ++p) {
        const Panel mine = (*this)[p], theirs = base[p];
        const Panel::List &list = mine.listed[1], &their_list = theirs.listed[1];
        size_t dense = 0, shared = 0;
        while (dense < std::min(mine.dense, theirs.dense) &&
               same(mine.weights + dense * step, theirs.weights + dense * step, p, step))
            ++dense;
        while (shared < std::min(list.count, their_list.count) && list.quads[shared] == their_list.quads[shared] &&
               same(list.weights + shared * block, their_list.weights + shared * block, p, block))
            ++shared;
        // What is left of the dense blocks is listed; packed ones cannot be.
        Start& start = panels_[p];
        const size_t left = mine.dense - dense;
        const bool take = dense > 0 && (left == 0 || (bits_ == 8 && dense >= 4 * left));
        const size_t kept = take ? left : mine.dense, bytes = kept * step + (list.count - shared) * block;
        start.line = lines.size(), start.quad = quads.size();
        lines.resize(start.line + (bytes + sizeof(Line) - 1) / sizeof(Line));
        auto* to = reinterpret_cast<int8_t*>(lines.data() + start.line);
        to = std::copy_n(mine.weights + (mine.dense - kept) * step, kept * step, to);
        std::copy_n(list.weights + shared * block, (list.count - shared) * block, to);
        for (size_t q = dense; take && q < mine.dense; ++q) quads.push_back((uint32_t)q);
        quads.insert(quads.end(), list.quads + shared, list.quads + list.count);
        start.theirs = take, start.shared = (uint32_t)shared;
        start.dense = (uint32_t)(take ? dense : mine.dense);
        start.listed = (uint32_t)(list.count - shared + (take ? left : 0));
    }
    lines.shrink_to_fit(), quads.shrink_to_fit();
    lines_ = std::move(lines), quads_ = std::move(quads);
    base_ = &base;
}

size_t Panels::bytes() const {
    return lines_.size() * sizeof(Line) + quads_.size() * sizeof(uint32_t) + panels_.size() * sizeof(Start);
}

int64_t Panels::multiplies() const {
    int64_t blocks = 0;
    for (const Start& s : panels_) blocks += (int64_t)s.dense * (bits_ < 8 ? 4 : 1) + s.shared + s.listed;
    return blocks * lanes_ * 4;
}

}  // namespace shoestring
