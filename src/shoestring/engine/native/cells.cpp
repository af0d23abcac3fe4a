#include "cells.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shoestring {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kBins = 256;     // of the values along an axis, to find their middle by counting
constexpr int64_t kFew = 256;  // below, selecting is quicker

int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

struct Point {
    float at[3];
    int32_t id;
};

struct Bounds {
    float low[3] = {kInfinity, kInfinity, kInfinity}, high[3] = {-kInfinity, -kInfinity, -kInfinity};
    void add(const float* at) {
        for (int a = 0; a < 3; ++a) low[a] = std::min(low[a], at[a]), high[a] = std::max(high[a], at[a]);
    }
    int widest() const {
        int widest = 0;
        for (int a = 1; a < 3; ++a)
            if (high[a] - low[a] > high[widest] - low[widest]) widest = a;
        return widest;
    }
};

void select(Point* points, int64_t n, int64_t half, int axis) {
    std::nth_element(points, points + half, points + n,
                     [axis](const Point& p, const Point& q) { return p.at[axis] < q.at[axis]; });
}

// Moves n points so that the `half` least along an axis come first; returns where they are, `points` or `other`.
// Counting narrows the middle down to one bin, and nothing that is moved needs a branch.
Point* halve(Point* points, Point* other, int64_t n, int64_t half, int axis, const Bounds& bounds) {
    const float low = bounds.low[axis], scale = (kBins - 1) / (bounds.high[axis] - low);
    if (!(scale > 0 && scale < kInfinity) || n < kFew) {
        select(points, n, half, axis);
        return points;
    }
    const auto bin = [&](const Point& p) { return (int)((p.at[axis] - low) * scale); };
    int32_t counts[kBins] = {};
    for (int64_t i = 0; i < n; ++i) ++counts[bin(points[i])];
    int middle = 0;
    int64_t below = 0;
    while (below + counts[middle] <= half) below += counts[middle++];
    const int64_t inside = counts[middle];
    int64_t places[3] = {0, below, below + inside};
    for (int64_t i = 0; i < n; ++i) {
        const int b = bin(points[i]);
        other[places[(b >= middle) + (b > middle)]++] = points[i];
    }
    select(other + below, inside, half - below, axis);
    return other;
}

// The n <= size points of cell c. The last one fills up what is left.
void fill_cell(Cells& cells, int64_t c, const Point* points, int64_t n) {
    Bounds bounds;
    for (int64_t i = 0; i < cells.size; ++i) {
        const Point& point = points[std::min(i, n - 1)];
        cells.id[c * cells.size + i] = point.id;
        for (int a = 0; a < 3; ++a) cells.xyz[(c * 3 + a) * cells.size + i] = point.at[a];
        bounds.add(point.at);
    }
    for (int a = 0; a < 3; ++a) cells.boxes.low[a][c] = bounds.low[a], cells.boxes.high[a][c] = bounds.high[a];
}

// Cells from c on, and groups of them, as the leaves of a kd-tree (Bentley 1975): n points, which are within `bounds`,
// are halved along the longest side again and again. `other` is room for n.
void fill_cells(Cells& cells, int64_t c, Point* points, Point* other, int64_t n, Bounds bounds) {
    while (n > cells.size) {
        const int64_t unit = n > cells.size * kGroup ? cells.size * kGroup : cells.size;
        const int64_t half = (n + unit - 1) / unit / 2 * unit;
        const int axis = bounds.widest();
        Point* const halved = halve(points, other, n, half, axis, bounds);
        if (halved != points) std::swap(points, other);
        Bounds lower = bounds;
        lower.high[axis] = bounds.low[axis] = points[half].at[axis];
        fill_cells(cells, c, points, other, half, lower);
        c += half / cells.size, points += half, other += half, n -= half;
    }
    fill_cell(cells, c, points, n);
}

Boxes carve_boxes(Carver& carver, int64_t count) {
    Boxes boxes{count, up(count, kMostLanes), {}, {}};
    for (auto* side : {boxes.low, boxes.high})
        for (int a = 0; a < 3; ++a) side[a] = carver.take<float>(boxes.places);
    return boxes;
}

Cells carve(Carver& carver, int64_t n, int64_t size, Point*& points, Point*& spare) {
    Cells cells{size, (n + size - 1) / size, n, nullptr, nullptr, {}, {}};
    cells.xyz = carver.take<float>(3 * size * cells.cells);
    cells.id = carver.take<int32_t>(size * cells.cells);
    cells.boxes = carve_boxes(carver, cells.cells);
    cells.groups = carve_boxes(carver, (cells.cells + kGroup - 1) / kGroup);
    points = carver.take<Point>(n);
    spare = carver.take<Point>(n);
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
    Point *points, *spare;
    carve(carver, n, size, points, spare);
    return carver.used();
}

Cells make_cells(const float* xyz, int64_t n, int64_t size, bool sorted, void* memory) {
    Carver carver(memory);
    Point *points, *spare;
    Cells cells = carve(carver, n, size, points, spare);
    for (int64_t i = 0; i < n; ++i) points[i] = {{xyz[3 * i], xyz[3 * i + 1], xyz[3 * i + 2]}, (int32_t)i};
    Bounds bounds;
    bool finite = true;
    for (int64_t i = 0; i < n; ++i) bounds.add(points[i].at);
    for (int64_t i = 0; i < 3 * n; ++i) finite &= std::abs(xyz[i]) < kInfinity;
    if (sorted && finite)
        fill_cells(cells, 0, points, spare, n, bounds);
    else
        for (int64_t c = 0; c < cells.cells; ++c)
            fill_cell(cells, c, points + c * size, std::min(size, n - c * size));
    bound_groups(cells.groups, cells.boxes);
    leave_empty(cells.boxes);
    leave_empty(cells.groups);
    return cells;
}

}  // namespace shoestring
