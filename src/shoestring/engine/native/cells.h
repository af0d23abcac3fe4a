// Points in cells: a few dozen neighbours each, with the box around them, so that whole cells can be passed over.
//
// Exact in float32, not only nearly: subtraction, multiplication and addition round monotonously, so the squared distance
// that is computed for the gap to a box is at most what is computed for any point in it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoestring {

// Boxes that are looked at a vector at a time: planes [places], places a multiple of kMostLanes; those behind the last
// box are infinitely far from everything.
struct Boxes {
    int64_t count, places;
    float *low[3], *high[3];
};

constexpr int64_t kMostLanes = 16;  // of any instruction set: what `size` and `places` are multiples of
constexpr int64_t kGroup = 16;      // cells

// Cell c has the points xyz + c * 3 * size: `size` x, then y, then z, and their numbers id + c * size, ascending where
// the points were not sorted. The last cell is filled up with its own last point (`filled` of `cells` * size are real).
// A group is kGroup cells.
struct Cells {
    int64_t size, cells, filled;
    float* xyz;
    int32_t* id;
    Boxes boxes, groups;
};

size_t cells_bytes(int64_t n, int64_t size);
// Puts points xyz [n, 3] into cells of `size` in `memory`, 64-byte aligned, cells_bytes(n, size) long. `sorted`: as
// the leaves of a kd-tree, so that cells and groups are compact; else as they come.
Cells make_cells(const float* xyz, int64_t n, int64_t size, bool sorted, void* memory);

// Hands out parts of one piece of memory, each 64-byte aligned; with none it counts.
class Carver {
public:
    explicit Carver(void* memory) : memory_(static_cast<uint8_t*>(memory)) {}
    template <class T>
    T* take(int64_t elements) {
        uint8_t* const at = memory_ ? memory_ + used_ : nullptr;
        used_ += ((size_t)elements * sizeof(T) + 63) / 64 * 64;
        return reinterpret_cast<T*>(at);
    }
    size_t used() const { return used_; }

private:
    uint8_t* memory_;
    size_t used_ = 0;
};

}  // namespace shoestring
