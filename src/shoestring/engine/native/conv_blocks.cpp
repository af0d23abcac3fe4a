// How packed weights are kept, handed to the kernels, and shared.
#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "conv_packing.h"

namespace shoestring {
namespace {

constexpr uint32_t kPartly = 5;  // a list of pairs may be shared with one in so many left over

}  // namespace

PackedConv::PackedConv(const Codes& codes, bool interleaved, const ConvKernels& kernels)
    : kernels_(kernels), sorts_(kernels.splits ? 3 : 1), a_quad_(interleaved ? 1 : 4) {
    form_.zero = codes.zero, form_.low = codes.low, form_.high = codes.high;
    form_.zeros = 0x10001u * (uint32_t)codes.zero;
    form_.lows = 0x1010101u * (uint32_t)codes.low;
    form_.highs = 0x1010101u * (uint32_t)codes.high;
    form_.bounded = codes.low > 0 || codes.high < 255;
}

void PackedConv::reserve(size_t blocks, size_t quads) {
    values_.reserve(blocks), starts_.reserve(blocks), own_.reserve(blocks * sorts_);
    if (a_quad_ == 4) offsets_.reserve(quads * a_quad_);  // those of interleaved quads are mostly the same again
    weights_.reserve(quads * 16);
}

void PackedConv::begin(const int32_t bias[4], const float multipliers[4]) {
    const size_t offsets = offsets_.size() / a_quad_, weights = weights_.size() / 16;
    if (offsets > UINT32_MAX || weights > UINT32_MAX) throw std::bad_alloc();
    starts_.push_back({(uint32_t)offsets, (uint32_t)weights});
    values_.emplace_back();
    std::memcpy(values_.back().bias, bias, sizeof values_.back().bias);
    std::memcpy(values_.back().multipliers, multipliers, sizeof values_.back().multipliers);
    own_.resize(own_.size() + sorts_);
}

void PackedConv::put(const Row* const rows[4], Sort sort) {
    const Row* any = nullptr;
    for (int i = 0; i < 4; ++i) any = any ? any : rows[i];
    int8_t weights[16] = {};
    for (int i = 0; i < 4; ++i) {
        // A row that is missing has no weight: any address will do.
        offsets_.push_back(rows[i] ? rows[i]->offset : any->offset);
        for (int o = 0; rows[i] && o < 4; ++o) weights[4 * o + i] = rows[i]->weights[o];
    }
    put(weights, sort);
}

void PackedConv::put(const Quad& quad, Sort sort) {
    offsets_.push_back(quad.offset);
    put(quad.weights, sort);
}

void PackedConv::put(const int8_t weights[16], Sort sort) {
    int8_t widened[32];
    if (sort == kWide) kernels_.widen(weights, widened);
    const int8_t* data = sort == kWide ? widened : weights;
    weights_.insert(weights_.end(), data, data + (sort == kWide ? 32 : 16));
}

// Offsets with which the block before begins are not kept twice.
void PackedConv::end() {
    if (starts_.size() < 2) return;
    Start& last = starts_.back();
    const Start& before = starts_.end()[-2];
    size_t there = 0;
    for (size_t s = 0; s < sorts_; ++s) there += own_[own_.size() - 2 * sorts_ + s] * item(s).offsets;
    const int32_t *begin = offsets_.data() + last.offsets * a_quad_, *end = offsets_.data() + offsets_.size();
    if ((size_t)(end - begin) > there || !std::equal(begin, end, offsets_.data() + before.offsets * a_quad_)) return;
    offsets_.resize(last.offsets * a_quad_);
    last.offsets = before.offsets;
}

PackedConv::Item PackedConv::item(size_t sort) const {
    if (sorts_ == 1 || sort == kQuads) return {16, a_quad_};
    return {32, sort == kPairs ? 2 * a_quad_ : a_quad_};
}

ConvList& PackedConv::list(ConvBlock& block, size_t sort) const {
    return sorts_ == 1 || sort == kQuads ? block.quads : sort == kPairs ? block.pairs : block.wide;
}

void PackedConv::fill(size_t i, ConvBlock& block) const {
    std::memcpy(block.bias, values_[i].bias, sizeof block.bias);
    std::memcpy(block.multipliers, values_[i].multipliers, sizeof block.multipliers);
    if (base_) return fill_shared(i, block);
    const Start& start = starts_[i];
    const int32_t* offsets = offsets_.data() + start.offsets * a_quad_;
    const int8_t* weights = weights_.data() + (size_t)start.weights * 16;
    for (size_t s = 0; s < sorts_; ++s) {
        const uint32_t n = own_[i * sorts_ + s];
        list(block, s) = {offsets, weights, (int32_t)n};
        offsets += n * item(s).offsets, weights += n * item(s).bytes;
    }
}

void PackedConv::fill_shared(size_t i, ConvBlock& block) const {
    const Start& start = *row(starts_, i, 1);
    const size_t base_i = base_of(i);
    const Start& there = base_->starts_[base_i];
    const uint32_t *own = row(own_, i, sorts_), *theirs = &base_->own_[base_i * sorts_];
    const Shared* shared = row(shared_, i, sorts_);
    const int32_t *offsets = offsets_.data() + start.offsets * a_quad_,
                  *their_offsets = base_->offsets_.data() + there.offsets * a_quad_;
    const int8_t *weights = weights_.data() + (size_t)start.weights * 16,
                 *their_weights = base_->weights_.data() + (size_t)there.weights * 16;
    for (size_t s = 0; s < sorts_; ++s) {
        const auto [bytes, each] = item(s);
        const size_t items = shared[s].items, rows = shared[s].rows;
        const int32_t** const at = offsets_shared_ ? &their_offsets : &offsets;
        ConvList& first = list(block, s);
        first = {*at, their_weights, (int32_t)items};
        if (!offsets_shared_) offsets += items * each;
        if (sorts_ == 3) {  // all of it or nothing
            if (items == 0) first = {offsets, weights, (int32_t)own[s]};
            offsets += own[s] * each, weights += own[s] * bytes;
            their_offsets += theirs[s] * each, their_weights += theirs[s] * bytes;
            continue;
        }
        block.rest = {offsets, weights, (int32_t)own[s]};
        if (rows == 0) continue;
        constexpr uint8_t kept[4][4] = {{}, {255}, {255, 255}, {255, 255, 255}};
        uint32_t mask, last[4];
        std::memcpy(&mask, kept[rows], 4), std::memcpy(last, their_weights + items * 16, 16);
        for (uint32_t& four : last) four &= mask;
        std::memcpy(block.last_weights, last, 16);
        const int32_t* from = offsets_shared_ ? their_offsets + items * each : offsets;
        for (size_t k = 0; k < each; ++k) block.last_offsets[k] = from[k < rows ? k : 0];
        block.rest = {block.last_offsets, block.last_weights, 1};
    }
}

void PackedConv::share(const PackedConv& base, size_t in_group, size_t base_in_group) {
    const bool fits = base.sorts_ == sorts_ && base.a_quad_ == a_quad_ && in_group <= base_in_group &&
                      size() / in_group <= base.size() / base_in_group && !base.base_;
    if (!fits) return;
    in_group_ = in_group, base_in_group_ = base_in_group;
    // With their offsets, or, where pictures have another size, without: whichever leaves fewer bytes here.
    std::vector<Shared> whole, weights;
    whole.reserve(own_.size()), weights.reserve(own_.size());
    const size_t all_offsets = offsets_.size() * sizeof(int32_t), now = weights_.size() + all_offsets;
    size_t left_whole = own_.size() * sizeof(Shared), left_weights = left_whole + all_offsets;
    ConvBlock mine, theirs;
    for (size_t i = 0; i < size(); ++i) {
        fill(i, mine), base.fill(base_of(i), theirs);
        for (size_t s = 0; s < sorts_; ++s) {
            const ConvList &a = list(mine, s), &b = list(theirs, s);
            const auto left = [&](std::vector<Shared>& found, bool offsets) {
                // Of pairs that are left quads are made, behind which there is nothing shared.
                const bool after_pairs =
                    s == kQuads && found.back().items > 0 && found.back().items < (uint32_t)mine.pairs.count;
                found.push_back(after_pairs ? Shared{} : common(a, b, s, offsets));
                return (size_t)a.count - found.back().items - (found.back().rows > 0);
            };
            const auto [bytes, each] = item(s);
            left_whole += left(whole, true) * (bytes + each * sizeof(int32_t));
            left_weights += left(weights, false) * bytes;
        }
    }
    const bool offsets_shared = left_whole <= left_weights;
    if (std::min(left_whole, left_weights) >= now) return;
    keep(offsets_shared, offsets_shared ? std::move(whole) : std::move(weights));
    base_ = &base;
}

// How much of a list begins one of the base. Of one of three sorts it is all or nothing; but what few pairs are left
// can be quads.
PackedConv::Shared PackedConv::common(const ConvList& mine, const ConvList& theirs, size_t sort, bool offsets) const {
    const Item sizes = item(sort);  // no structured binding: in C++17 no lambda can capture one
    const size_t bytes = sizes.bytes, each = sizes.offsets;
    const auto count = (uint32_t)mine.count, most = std::min(count, (uint32_t)theirs.count);
    uint32_t n = 0;
    const auto same = [&] {
        return std::memcmp(mine.weights + n * bytes, theirs.weights + n * bytes, bytes) == 0 &&
               (!offsets ||
                std::equal(mine.offsets + n * each, mine.offsets + (n + 1) * each, theirs.offsets + n * each));
    };
    while (n < most && same()) ++n;
    if (sorts_ == 3) return {n == count || (sort == kPairs && kPartly * (count - n) <= count) ? n : 0, 0};
    // The one quad that is left may be the first rows of theirs.
    uint32_t rows = sorts_ == 1 && n + 1 == count && n < most ? 3 : 0;
    for (; rows > 0; --rows) {
        const int8_t *w = mine.weights + n * bytes, *v = theirs.weights + n * bytes;
        bool good = true;
        for (uint32_t k = 0; k < 16; ++k) good = good && w[k] == (k % 4 < rows ? v[k] : 0);
        const int32_t *at = mine.offsets + n * each, *there = theirs.offsets + n * each;
        for (uint32_t k = 0; k < each && offsets; ++k) good = good && at[k] == there[k < rows ? k : 0];
        if (good) break;
    }
    return {n, rows};
}

// Drops the items that are shared.
void PackedConv::keep(bool offsets_shared, std::vector<Shared> shared) {
    std::vector<int32_t> offsets;
    std::vector<int8_t> weights;
    ConvBlock all;
    for (size_t i = 0; i < size(); ++i) {
        fill(i, all);
        uint32_t more = 0;  // quads that were pairs
        starts_[i].weights = (uint32_t)(weights.size() / 16);
        if (offsets_shared) starts_[i].offsets = (uint32_t)(offsets.size() / a_quad_);
        for (size_t s = 0; s < sorts_; ++s) {
            const ConvList& kept = list(all, s);
            const auto [items, rows] = shared[i * sorts_ + s];
            const auto begin = (size_t)items + (rows > 0), end = (size_t)kept.count;
            const auto [bytes, each] = item(s);
            own_[i * sorts_ + s] = (uint32_t)(end - begin) + more;
            more = 0;
            if (sorts_ == 3 && s == kPairs && items > 0) std::swap(more, own_[i * sorts_]), more *= 2;
            weights.insert(weights.end(), kept.weights + begin * bytes, kept.weights + end * bytes);
            if (offsets_shared) offsets.insert(offsets.end(), kept.offsets + begin * each, kept.offsets + end * each);
        }
    }
    weights.shrink_to_fit(), weights_ = std::move(weights);
    if (offsets_shared) offsets.shrink_to_fit(), offsets_ = std::move(offsets);
    offsets_shared_ = offsets_shared, shared_ = std::move(shared);
    fold(starts_, 1), fold(own_, sorts_), fold(shared_, sorts_);
}

// One row for all, where all are the same.
template <class T>
void PackedConv::fold(std::vector<T>& table, size_t length) {
    for (size_t i = length; i < table.size(); i += length)
        if (std::memcmp(&table[i], table.data(), length * sizeof(T)) != 0) return;
    table.resize(std::min(table.size(), length));
    table.shrink_to_fit();
}

size_t PackedConv::bytes() const {
    return values_.size() * sizeof(Values) + starts_.size() * sizeof(Start) + own_.size() * sizeof(uint32_t) +
           shared_.size() * sizeof(Shared) + offsets_.size() * sizeof(int32_t) + weights_.size();
}

int64_t PackedConv::quads() const {
    int64_t total = 0;
    for (size_t i = 0; i < size(); ++i)
        for (size_t s = 0; s < sorts_; ++s) {
            const auto [items, rows] = base_ ? row(shared_, i, sorts_)[s] : Shared{};
            total += (int64_t)(row(own_, i, sorts_)[s] + items) * (sorts_ == 3 && s == kPairs ? 2 : 1) + (rows > 0);
        }
    return total;
}

}  // namespace shoestring
