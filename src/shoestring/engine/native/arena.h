// One piece of memory for everything that a run needs, planned ahead: blocks that are never in use at the same time
// share bytes.
#pragma once

#include <cstddef>
#include <vector>

namespace shoestring {

struct Block {
    size_t bytes;
    size_t first, last;  // the steps during which it is in use, both included
    size_t offset = 0;   // where it lies: a multiple of 64
};

// Places the blocks and returns the bytes that they take together.
size_t place(std::vector<Block>& blocks);

}  // namespace shoestring
