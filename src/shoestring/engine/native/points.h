// Points in space [n, 3]: sampling and neighbours, the same indices as the loops of geometry/reference.py give.
//
// Distances are squared, in float32, summed as (dx*dx + dy*dy) + dz*dz with nothing fused; of equal ones the lower index
// comes first. Coordinates are finite; with others the indices are in range and nothing else is said. 1 <= count <= n <
// 2^31. Nothing is allocated and nothing throws: `scratch` is 64-byte aligned memory, as much as the *_scratch function
// says in bytes. `kernels`: of one instruction set; nullptr takes the best there is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace shoestring {

// Farthest point sampling: index [count], beginning with 0, each next one the farthest from all before it.
size_t farthest_scratch(int64_t n);
void farthest_points(const float* xyz, int64_t n, int64_t count, int32_t* index, float* scratch,
                     const Kernels* kernels = nullptr);

// The nearest points to each of `centres` [m, 3], nearest first: index [m, count].
size_t nearest_scratch(int64_t n, int64_t count);
void nearest_points(const float* centres, int64_t m, const float* xyz, int64_t n, int64_t count, int32_t* index,
                    void* scratch, const Kernels* kernels = nullptr);

// Ball query: the same, but the nearest point stands in for those whose squared distance is above radius * radius.
// Scratch as for nearest_points.
void points_within(const float* centres, int64_t m, const float* xyz, int64_t n, float radius, int64_t count,
                   int32_t* index, void* scratch, const Kernels* kernels = nullptr);

// out[i] = the `bytes` bytes of row index[i] of x [n], for i < count. Indices outside x are taken as 0.
void take_rows(const void* x, int64_t n, size_t bytes, const int32_t* index, int64_t count, void* out);

// The three nearest points (fewer where n < 3) to each centre and their weights, 1 / (squared distance + 1e-8) over
// their sum (PointNet++, arXiv 1706.02413, section 3.4, p = 2): index and weights [m, min(3, n)]. Scratch as for
// nearest_points with a count of 3.
void three_nearest(const float* centres, int64_t m, const float* xyz, int64_t n, int32_t* index, float* weights,
                   void* scratch, const Kernels* kernels = nullptr);
// out[i] = the sum of weights[i, k] * rows[index[i, k]] over k < near, in order: rows [n, width], out [m, width].
void blend_rows(const float* rows, int64_t width, const int32_t* index, const float* weights, int64_t near, int64_t m,
                float* out);

}  // namespace shoestring
