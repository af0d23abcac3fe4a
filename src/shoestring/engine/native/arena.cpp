#include "arena.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <numeric>

namespace shoestring {
namespace {

constexpr size_t kMost = size_t{1} << 46;  // beyond what a processor can address; sums stay far from overflow

}  // namespace

// Greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020): the largest
// block first, each into the smallest gap between blocks that are in use at the same time, or behind them.
size_t place(std::vector<Block>& blocks) {
    std::vector<size_t> order(blocks.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
    std::vector<const Block*> placed;  // by offset
    size_t total = 0;
    for (const size_t index : order) {
        Block& block = blocks[index];
        if (block.bytes > kMost) throw std::bad_alloc();
        block.bytes = (block.bytes + 63) / 64 * 64;
        size_t end = 0, best = 0, smallest = SIZE_MAX;
        for (const Block* other : placed) {
            if (other->last < block.first || block.last < other->first) continue;
            if (other->offset >= end + block.bytes && other->offset - end < smallest)
                best = end, smallest = other->offset - end;
            end = std::max(end, other->offset + other->bytes);
        }
        block.offset = smallest == SIZE_MAX ? end : best;
        total = std::max(total, block.offset + block.bytes);
        if (total > kMost) throw std::bad_alloc();
        placed.insert(std::upper_bound(placed.begin(), placed.end(), &block,
                                       [](const Block* a, const Block* b) { return a->offset < b->offset; }),
                      &block);
    }
    return total;
}

}  // namespace shoestring
