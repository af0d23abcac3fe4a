// Plain loops for now: what the fast forms must equal.
#include "points.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace shoestring {
namespace {

float squared(const float* a, const float* b) {
    const float dx = a[0] - b[0], dy = a[1] - b[1], dz = a[2] - b[2];
    return (dx * dx + dy * dy) + dz * dz;
}

struct Candidate {
    float distance;
    int32_t index;
    bool operator<(const Candidate& other) const {
        return distance < other.distance || (distance == other.distance && index < other.index);
    }
};

// The nearest [count] of the points to one centre, in order.
void nearest_to(const float* centre, const float* xyz, int64_t n, int64_t count, Candidate* all) {
    for (int64_t i = 0; i < n; ++i) all[i] = {squared(centre, xyz + 3 * i), (int32_t)i};
    std::partial_sort(all, all + count, all + n);
}

}  // namespace

size_t farthest_scratch(int64_t n) {
    return (size_t)n * sizeof(float);
}

void farthest_points(const float* xyz, int64_t n, int64_t count, int32_t* index, float* scratch, const Kernels*) {
    std::fill(scratch, scratch + n, std::numeric_limits<float>::infinity());
    int64_t last = 0;
    for (int64_t k = 0; k < count; ++k) {
        index[k] = (int32_t)last;
        int64_t best = 0;
        for (int64_t i = 0; i < n; ++i) {
            scratch[i] = std::min(scratch[i], squared(xyz + 3 * i, xyz + 3 * last));
            if (scratch[i] > scratch[best]) best = i;
        }
        last = best;
    }
}

size_t nearest_scratch(int64_t n, int64_t) {
    return (size_t)n * sizeof(Candidate);
}

void nearest_points(const float* centres, int64_t m, const float* xyz, int64_t n, int64_t count, int32_t* index,
                    void* scratch, const Kernels*) {
    auto* const all = static_cast<Candidate*>(scratch);
    for (int64_t i = 0; i < m; ++i) {
        nearest_to(centres + 3 * i, xyz, n, count, all);
        for (int64_t k = 0; k < count; ++k) index[i * count + k] = all[k].index;
    }
}

void points_within(const float* centres, int64_t m, const float* xyz, int64_t n, float radius, int64_t count,
                   int32_t* index, void* scratch, const Kernels* kernels) {
    nearest_points(centres, m, xyz, n, count, index, scratch, kernels);
    const float limit = radius * radius;
    for (int64_t i = 0; i < m; ++i)
        for (int64_t k = count - 1; k > 0; --k) {
            int32_t& one = index[i * count + k];
            if (squared(centres + 3 * i, xyz + 3 * (int64_t)one) <= limit) break;
            one = index[i * count];
        }
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
