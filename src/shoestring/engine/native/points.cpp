#include "points.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "nearness.h"

namespace shoestring {
namespace {

constexpr int64_t kSorted = 256;  // from so many points on it pays to sort them into compact cells

const NearnessKernels& nearness(const Kernels* kernels) {
    static const Kernels* const best = kernels_here() ? kernels_here() : kernels_named("portable");
    return *(kernels ? kernels : best)->nearness;
}

float squared(const float* a, const float* b) {
    const float dx = a[0] - b[0], dy = a[1] - b[1], dz = a[2] - b[2];
    return (dx * dx + dy * dy) + dz * dz;
}

struct Sampling {
    void* memory;
    float *near, *most;
    int32_t* first;

    Sampling(Carver& carver, int64_t n) {
        constexpr int64_t size = NearnessKernels::farthest_size;
        const int64_t cells = (n + size - 1) / size, places = (cells + kMostLanes - 1) / kMostLanes * kMostLanes;
        memory = carver.take<uint8_t>((int64_t)cells_bytes(n, size));
        near = carver.take<float>(cells * size);
        most = carver.take<float>(places);
        first = carver.take<int32_t>(places);
    }
};

struct Searching {
    void* memory;
    Search search;

    Searching(Carver& carver, int64_t n, int64_t count) {
        constexpr int64_t size = NearnessKernels::nearest_size;
        const int64_t groups = (n + size * kGroup - 1) / (size * kGroup);
        const int64_t room = count + std::max(count, size) + size;
        memory = carver.take<uint8_t>((int64_t)cells_bytes(n, size));
        search.found = {carver.take<float>(room + kMostLanes), carver.take<int32_t>(room + kMostLanes), 0, room};
        search.keys = carver.take<uint64_t>(room);
        search.bounds = carver.take<float>((groups + kMostLanes - 1) / kMostLanes * kMostLanes);
        search.ranks = carver.take<int32_t>(room + kMostLanes);
    }
};

void search_all(const float* centres, int64_t m, const float* xyz, int64_t n, int64_t count, float limit,
                int32_t* index, void* scratch, const Kernels* kernels) {
    Carver carver(scratch);
    Searching room(carver, n, count);
    std::fill_n(room.search.found.distance, room.search.found.room + kMostLanes, 0.0f);
    std::fill_n(room.search.found.id, room.search.found.room + kMostLanes, 0);
    const Cells cells = make_cells(xyz, n, NearnessKernels::nearest_size, n >= kSorted && m > 4, room.memory);
    nearness(kernels).nearest(cells, centres, m, count, limit, room.search, index);
}

}  // namespace

void keep_nearest(Candidates& all, int64_t count, uint64_t* keys) {
    // Squared distances are not negative, so their bits are in the same order as they are.
    for (int64_t i = 0; i < all.kept; ++i) {
        uint32_t bits;
        std::memcpy(&bits, all.distance + i, sizeof bits);
        keys[i] = (uint64_t)bits << 32 | (uint32_t)all.id[i];
    }
    if (count < all.kept) std::nth_element(keys, keys + count, keys + all.kept);
    std::sort(keys, keys + count);
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t bits = (uint32_t)(keys[i] >> 32);
        std::memcpy(all.distance + i, &bits, sizeof bits);
        all.id[i] = (int32_t)(uint32_t)keys[i];
    }
    all.kept = count;
}

size_t farthest_scratch(int64_t n) {
    Carver carver(nullptr);
    Sampling(carver, n);
    return carver.used();
}

void farthest_points(const float* xyz, int64_t n, int64_t count, int32_t* index, float* scratch,
                     const Kernels* kernels) {
    Carver carver(scratch);
    const Sampling room(carver, n);
    const Cells cells = make_cells(xyz, n, NearnessKernels::farthest_size, n >= kSorted && count > 8, room.memory);
    nearness(kernels).farthest(cells, room.near, room.most, room.first, count, index);
}

size_t nearest_scratch(int64_t n, int64_t count) {
    Carver carver(nullptr);
    Searching(carver, n, count);
    return carver.used();
}

void nearest_points(const float* centres, int64_t m, const float* xyz, int64_t n, int64_t count, int32_t* index,
                    void* scratch, const Kernels* kernels) {
    search_all(centres, m, xyz, n, count, std::numeric_limits<float>::infinity(), index, scratch, kernels);
}

void points_within(const float* centres, int64_t m, const float* xyz, int64_t n, float radius, int64_t count,
                   int32_t* index, void* scratch, const Kernels* kernels) {
    search_all(centres, m, xyz, n, count, radius * radius, index, scratch, kernels);
}

void take_rows(const void* x, int64_t n, size_t bytes, const int32_t* index, int64_t count, void* out) {
    for (int64_t i = 0; i < count; ++i) {
        const int64_t row = index[i] < 0 || index[i] >= n ? 0 : index[i];
        std::memcpy(static_cast<uint8_t*>(out) + (size_t)i * bytes, static_cast<const uint8_t*>(x) + (size_t)row * bytes,
                    bytes);
    }
}

void three_nearest(const float* centres, int64_t m, const float* xyz, int64_t n, int32_t* index, float* weights,
                   void* scratch, const Kernels* kernels) {
    const int64_t near = std::min<int64_t>(3, n);
    nearest_points(centres, m, xyz, n, near, index, scratch, kernels);
    for (int64_t i = 0; i < m; ++i) {
        float* const own = weights + i * near;
        float sum = 0;
        for (int64_t k = 0; k < near; ++k) {
            own[k] = 1.0f / (squared(centres + 3 * i, xyz + 3 * (int64_t)index[i * near + k]) + 1e-8f);
            sum += own[k];
        }
        for (int64_t k = 0; k < near; ++k) own[k] /= sum;
    }
}

void blend_rows(const float* rows, int64_t width, const int32_t* index, const float* weights, int64_t near, int64_t m,
                float* out) {
    for (int64_t i = 0; i < m; ++i) {
        float* const own = out + i * width;
        std::fill(own, own + width, 0.0f);
        for (int64_t k = 0; k < near; ++k) {
            const float weight = weights[i * near + k];
            const float* const row = rows + (int64_t)index[i * near + k] * width;
            for (int64_t c = 0; c < width; ++c) own[c] += weight * row[c];
        }
    }
}

}  // namespace shoestring
