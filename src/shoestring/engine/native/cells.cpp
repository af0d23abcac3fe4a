#include "cells.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace shoestring {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kBits = 10, kSteps = 1 << kBits;  // of a coordinate in a key
constexpr int kDeepest = 8;                     // sorts of what fell into one step

int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// What sorting needs: keys and numbers, and as many again.
struct Order {
    uint32_t *key, *key2;
    int32_t *id, *id2;
};

// Bit i of x to bit 3 * i.
uint32_t spread(uint32_t x) {
    x = (x | x << 16) & 0x030000ff;
    x = (x | x << 8) & 0x0300f00f;
    x = (x | x << 4) & 0x030c30c3;
    return (x | x << 2) & 0x09249249;
}

// By key, equal ones in their order: three passes of counting.
void sort_keys(Order& all, int64_t first, int64_t n) {
    uint32_t places[3][kSteps] = {};
    for (int64_t i = first; i < first + n; ++i)
        for (int pass = 0; pass < 3; ++pass) ++places[pass][all.key[i] >> (pass * kBits) & (kSteps - 1)];
    for (auto& pass : places) {
        uint32_t sum = (uint32_t)first;
        for (uint32_t& place : pass) {
            const uint32_t count = place;
            place = sum;
            sum += count;
        }
    }
    uint32_t *key = all.key, *key2 = all.key2;
    int32_t *id = all.id, *id2 = all.id2;
    for (int pass = 0; pass < 3; ++pass) {
        for (int64_t i = first; i < first + n; ++i) {
            const uint32_t to = places[pass][key[i] >> (pass * kBits) & (kSteps - 1)]++;
            key2[to] = key[i], id2[to] = id[i];
        }
        std::swap(key, key2), std::swap(id, id2);
    }
    std::copy(key + first, key + first + n, all.key + first);
    std::copy(id + first, id + first + n, all.id + first);
}

// Sorts numbers [first, first + n) along the curve through their own bounds; then, each by itself, those that are too
// many for a cell in one step of it, or an outlier would put all others into one.
void sort_points(const float* xyz, Order& all, int64_t first, int64_t n, int64_t size, int depth) {
    float low[3] = {kInfinity, kInfinity, kInfinity}, high[3] = {-kInfinity, -kInfinity, -kInfinity};
    for (int64_t i = first; i < first + n; ++i)
        for (int a = 0; a < 3; ++a) {
            const float at = xyz[3 * (int64_t)all.id[i] + a];
            low[a] = std::min(low[a], at), high[a] = std::max(high[a], at);
        }
    double widest = 0;
    for (int a = 0; a < 3; ++a) widest = std::max(widest, (double)high[a] - (double)low[a]);
    if (!(widest > 0)) return;
    const double scale = (kSteps - 1) / widest;
    for (int64_t i = first; i < first + n; ++i) {
        uint32_t key = 0;
        for (int a = 0; a < 3; ++a) {
            const double at = ((double)xyz[3 * (int64_t)all.id[i] + a] - (double)low[a]) * scale;
            const int step = at > 0 ? at < kSteps - 1 ? (int)at : kSteps - 1 : 0;  // what is not a number, too
            key |= spread((uint32_t)step) << a;
        }
        all.key[i] = key;
    }
    sort_keys(all, first, n);
    if (depth == kDeepest) return;
    for (int64_t begin = first, end; begin < first + n; begin = end) {
        for (end = begin + 1; end < first + n && all.key[end] == all.key[begin];) ++end;
        if (end - begin > 4 * size) {
            sort_points(xyz, all, begin, end - begin, size, depth + 1);
            // The keys of the part are of no more use to this one, which has read them.
        }
    }
}

Boxes carve_boxes(Carver& carver, int64_t count) {
    Boxes boxes{count, up(count, kMostLanes), {}, {}};
    for (auto* side : {boxes.low, boxes.high})
        for (int a = 0; a < 3; ++a) side[a] = carver.take<float>(boxes.places);
    return boxes;
}

Cells carve(Carver& carver, int64_t n, int64_t size, Order& order) {
    Cells cells{size, (n + size - 1) / size, n, nullptr, nullptr, {}, {}};
    cells.xyz = carver.take<float>(3 * size * cells.cells);
    cells.id = carver.take<int32_t>(size * cells.cells);
    cells.boxes = carve_boxes(carver, cells.cells);
    cells.groups = carve_boxes(carver, (cells.cells + kGroup - 1) / kGroup);
    order = {carver.take<uint32_t>(n), carver.take<uint32_t>(n), carver.take<int32_t>(n), carver.take<int32_t>(n)};
    return cells;
}

void bound_groups(Boxes& groups, const Boxes& boxes) {
    for (int a = 0; a < 3; ++a)
        for (int64_t g = 0; g < groups.count; ++g) {
            const int64_t first = g * kGroup, end = std::min(first + kGroup, boxes.count);
            groups.low[a][g] = *std::min_element(boxes.low[a] + first, boxes.low[a] + end);
            groups.high[a][g] = *std::max_element(boxes.high[a] + first, boxes.high[a] + end);
        }
}

void leave_empty(Boxes& boxes) {
    for (int a = 0; a < 3; ++a) {
        std::fill(boxes.low[a] + boxes.count, boxes.low[a] + boxes.places, kInfinity);
        std::fill(boxes.high[a] + boxes.count, boxes.high[a] + boxes.places, -kInfinity);
    }
}

}  // namespace

size_t cells_bytes(int64_t n, int64_t size) {
    Carver carver(nullptr);
    Order order;
    carve(carver, n, size, order);
    return carver.used();
}

Cells make_cells(const float* xyz, int64_t n, int64_t size, bool sorted, void* memory) {
    Carver carver(memory);
    Order order;
    Cells cells = carve(carver, n, size, order);
    for (int64_t i = 0; i < n; ++i) order.id[i] = (int32_t)i;
    if (sorted) sort_points(xyz, order, 0, n, size, 0);
    for (int64_t c = 0; c < cells.cells; ++c) {
        float low[3] = {kInfinity, kInfinity, kInfinity}, high[3] = {-kInfinity, -kInfinity, -kInfinity};
        for (int64_t i = 0; i < size; ++i) {
            const int32_t id = order.id[std::min(c * size + i, n - 1)];
            cells.id[c * size + i] = id;
            for (int a = 0; a < 3; ++a) {
                const float at = xyz[3 * (int64_t)id + a];
                cells.xyz[(c * 3 + a) * size + i] = at;
                low[a] = std::min(low[a], at), high[a] = std::max(high[a], at);
            }
        }
        for (int a = 0; a < 3; ++a) cells.boxes.low[a][c] = low[a], cells.boxes.high[a][c] = high[a];
    }
    bound_groups(cells.groups, cells.boxes);
    leave_empty(cells.boxes);
    leave_empty(cells.groups);
    return cells;
}

}  // namespace shoestring
