// Kernels over points in cells (nearness.h), for one instruction set: V comes from the file that includes this.
#include "nearness.h"

namespace shoestring { namespace {
namespace nearness {

constexpr float kInfinity = __builtin_inff();
constexpr uint32_t kAll = (1u << V::lanes) - 1;

struct Centre {
    V::F x, y, z;
    Centre(float px, float py, float pz) : x(V::splat(px)), y(V::splat(py)), z(V::splat(pz)) {}
};

inline V::F sum_of_squares(V::F x, V::F y, V::F z) {
    return V::addf(V::addf(V::mul(x, x), V::mul(y, y)), V::mul(z, z));
}

// Squared distances to the points of a cell from lane i on.
inline V::F away(const float* cell, int64_t size, int64_t i, const Centre& p) {
    return sum_of_squares(V::subf(V::loadf(cell + i), p.x), V::subf(V::loadf(cell + size + i), p.y),
                          V::subf(V::loadf(cell + 2 * size + i), p.z));
}

inline V::F gap(const float* low, const float* high, V::F p) {
    return V::maxf(V::maxf(V::subf(V::loadf(low), p), V::subf(p, V::loadf(high))), V::splat(0.0f));
}

// No point of the boxes from b on is nearer than this.
inline V::F bound(const Boxes& boxes, int64_t b, const Centre& p) {
    return sum_of_squares(gap(boxes.low[0] + b, boxes.high[0] + b, p.x),
                          gap(boxes.low[1] + b, boxes.high[1] + b, p.y),
                          gap(boxes.low[2] + b, boxes.high[2] + b, p.z));
}

inline int lowest(uint32_t bits) {
    return __builtin_ctz(bits);
}

// --- Farthest point sampling: only cells that the new point may come nearer to are looked at (QuickFPS, Han et al. 2023,
// with flat cells in the place of its tree). `near`: of each point, squared, to the nearest sample; `most`: the largest
// of a cell; `first`: the place in its cell of the lowest number that has it, -1 where that is not known.

constexpr int64_t kSize = NearnessKernels::farthest_size;

inline float come_nearer(const float* cell, float* near, const Centre& p) {
    V::F most = V::splat(-1.0f);
    for (int64_t i = 0; i < kSize; i += V::lanes) {
        const V::F now = V::minf(away(cell, kSize, i, p), V::loadf(near + i));
        V::storef(near + i, now);
        most = V::maxf(now, most);
    }
    return V::largest(most);
}

inline int32_t first_of(const float* near, const int32_t* id, float most) {
    int32_t place = 0;
    bool found = false;
    for (int64_t i = 0; i < kSize; i += V::lanes)
        for (uint32_t bits = V::at_most(V::splat(most), V::loadf(near + i)); bits; bits &= bits - 1) {
            const int32_t at = (int32_t)i + lowest(bits);
            if (!found || id[at] < id[place]) place = at;
            found = true;
        }
    return place;
}

// The slot of the farthest point, of equally far ones the lowest number.
inline int64_t farthest_slot(const Cells& cells, const float* near, const float* most, int32_t* first) {
    V::F largest = V::splat(-1.0f);
    for (int64_t b = 0; b < cells.boxes.places; b += V::lanes) largest = V::maxf(V::loadf(most + b), largest);
    const float far = V::largest(largest);
    int64_t slot = -1;
    for (int64_t b = 0; b < cells.boxes.places; b += V::lanes)
        for (uint32_t bits = V::at_most(V::splat(far), V::loadf(most + b)); bits; bits &= bits - 1) {
            const int64_t c = b + lowest(bits);
            if (c >= cells.cells) break;
            if (first[c] < 0) first[c] = first_of(near + c * kSize, cells.id + c * kSize, far);
            const int64_t at = c * kSize + first[c];
            if (slot < 0 || cells.id[at] < cells.id[slot]) slot = at;
        }
    return slot < 0 ? 0 : slot;
}

void farthest(const Cells& cells, float* near, float* most, int32_t* first, int64_t count, int32_t* index) {
    for (int64_t i = 0; i < cells.cells * kSize; ++i) near[i] = kInfinity;
    for (int64_t b = 0; b < cells.boxes.places; ++b) most[b] = b < cells.cells ? kInfinity : -1.0f, first[b] = -1;
    int64_t slot = farthest_slot(cells, near, most, first);  // point 0: all are equally far from none
    for (int64_t k = 0;; ++k) {
        index[k] = cells.id[slot];
        if (k + 1 == count) return;
        const float* const at = cells.xyz + slot / kSize * 3 * kSize + slot % kSize;
        const Centre p(at[0], at[kSize], at[2 * kSize]);
        for (int64_t b = 0; b < cells.boxes.places; b += V::lanes) {
            uint32_t bits = kAll & ~V::at_most(V::loadf(most + b), bound(cells.boxes, b, p));
            for (; bits; bits &= bits - 1) {
                const int64_t c = b + lowest(bits);
                if (c >= cells.cells) break;
                most[c] = come_nearer(cells.xyz + c * 3 * kSize, near + c * kSize, p);
                first[c] = -1;
            }
        }
        slot = farthest_slot(cells, near, most, first);
    }
}

// --- The nearest points: of a threshold that sinks, only groups and cells that reach below it are looked at, the most
// promising first.

constexpr int64_t kSmall = NearnessKernels::nearest_size;
constexpr int64_t kRanked = 64;  // as many neighbours at most are selected by comparing each with each

// ranks[i] = how many of the candidates are nearer than candidate i. Writes to the end of the last vector.
inline void rank(const Candidates& all, int32_t* ranks) {
    for (int64_t i = 0; i < all.kept; i += V::lanes) {
        const V::F own = V::loadf(all.distance + i);
        V::I nearer[2] = {V::zero(), V::zero()};
        int64_t j = 0;
        for (; j + 2 <= all.kept; j += 2)
            for (int k = 0; k < 2; ++k) nearer[k] = V::count_less(nearer[k], V::splat(all.distance[j + k]), own);
        if (j < all.kept) nearer[0] = V::count_less(nearer[0], V::splat(all.distance[j]), own);
        V::store(ranks + i, V::add(nearer[0], nearer[1]));
    }
}

// Leaves the `count` nearest (there are as many) and returns the largest distance.
float compact(Search& search, int64_t count) {
    Candidates& all = search.found;
    if (count <= kRanked) {
        rank(all, search.ranks);
        int64_t last = 0, below = 0;  // the count-th, unless others are as far
        while (last < all.kept && search.ranks[last] != count - 1) ++last;
        const float largest = last < all.kept ? all.distance[last] : -1.0f;
        for (int64_t i = 0; i < all.kept; ++i) below += all.distance[i] <= largest;
        if (below == count) {
            const V::F limit = V::splat(largest);
            const int64_t kept = all.kept;
            all.kept = 0;
            for (int64_t i = 0; i < kept; i += V::lanes) {
                const V::F distance = V::loadf(all.distance + i);
                uint32_t bits = V::at_most(distance, limit);
                if (kept - i < V::lanes) bits &= (1u << (kept - i)) - 1;
                V::append(all.distance + all.kept, all.id + all.kept, distance, V::load(all.id + i), bits);
                all.kept += __builtin_popcount(bits);
            }
            return largest;
        }
    }
    keep_nearest(all, count, search.keys);
    return all.distance[count - 1];
}

// The numbers of the `kept` candidates in order.
void finish(Search& search, int32_t* index) {
    Candidates& all = search.found;
    if (all.kept <= kRanked) {
        rank(all, search.ranks);
        int64_t sum = 0;
        for (int64_t i = 0; i < all.kept; ++i) sum += search.ranks[i];
        if (2 * sum == all.kept * (all.kept - 1)) {  // no two are equally far
            for (int64_t i = 0; i < all.kept; ++i) index[search.ranks[i]] = all.id[i];
            return;
        }
    }
    keep_nearest(all, all.kept, search.keys);
    for (int64_t i = 0; i < all.kept; ++i) index[i] = all.id[i];
}

inline void look_at_cell(const Cells& cells, int64_t c, const Centre& p, int64_t count, float& limit, Search& search) {
    const float* const cell = cells.xyz + c * 3 * kSmall;
    const int64_t real = cells.filled - c * kSmall;
    Candidates& all = search.found;
    const V::F threshold = V::splat(limit);
    for (int64_t i = 0; i < kSmall; i += V::lanes) {
        const V::F distance = away(cell, kSmall, i, p);
        uint32_t bits = V::at_most(distance, threshold);
        if (real < i + V::lanes) bits &= real > i ? (1u << (real - i)) - 1 : 0;
        if (!bits) continue;
        V::append(all.distance + all.kept, all.id + all.kept, distance, V::load(cells.id + c * kSmall + i), bits);
        all.kept += __builtin_popcount(bits);
    }
    if (all.kept >= count && (limit == kInfinity || all.kept > all.room - kSmall)) limit = compact(search, count);
}

// The least of bounds [places], and where it is.
inline int64_t least_of(const float* bounds, int64_t places) {
    V::F least = V::splat(kInfinity);
    for (int64_t i = 0; i < places; i += V::lanes) least = V::minf(V::loadf(bounds + i), least);
    const V::F closest = V::splat(-V::largest(V::subf(V::splat(0.0f), least)));
    for (int64_t i = 0; i < places; i += V::lanes)
        if (const uint32_t bits = V::at_most(V::loadf(bounds + i), closest)) return i + lowest(bits);
    return 0;
}

// Bits in order of their bounds, the last few of which are cut off. Returns how many there are.
inline int in_order(const float* bounds, uint32_t bits, uint32_t* order) {
    int found = 0;
    for (; bits; bits &= bits - 1) {
        const uint32_t c = (uint32_t)lowest(bits);
        uint32_t key;
        __builtin_memcpy(&key, bounds + c, sizeof key);
        key = (key & ~(uint32_t)(kGroup - 1)) | c;
        int at = found++;
        for (; at > 0 && order[at - 1] > key; --at) order[at] = order[at - 1];
        order[at] = key;
    }
    return found;
}

void look_at_group(const Cells& cells, int64_t g, const Centre& p, int64_t count, float& limit, Search& search) {
    const int64_t here = cells.cells - g * kGroup;
    float bounds[kGroup];
    for (int64_t i = 0; i < kGroup; i += V::lanes) V::storef(bounds + i, bound(cells.boxes, g * kGroup + i, p));
    const int64_t first = least_of(bounds, kGroup);
    if (bounds[first] <= limit) look_at_cell(cells, g * kGroup + first, p, count, limit, search);
    uint32_t bits = 0, order[kGroup];
    for (int64_t i = 0; i < kGroup; i += V::lanes) bits |= V::at_most(V::loadf(bounds + i), V::splat(limit)) << i;
    bits &= (here < kGroup ? (1u << here) - 1 : ~0u) & ~(1u << first);
    const int found = in_order(bounds, bits, order);
    for (int i = 0; i < found; ++i) {
        const int64_t c = order[i] & (kGroup - 1);
        if (bounds[c] <= limit) look_at_cell(cells, g * kGroup + c, p, count, limit, search);
    }
}

void search_around(const Cells& cells, const Centre& p, int64_t count, float limit, Search& search) {
    const Boxes& groups = cells.groups;
    search.found.kept = 0;
    for (int64_t g = 0; g < groups.places; g += V::lanes) V::storef(search.bounds + g, bound(groups, g, p));
    const int64_t home = least_of(search.bounds, groups.places);
    look_at_group(cells, home, p, count, limit, search);
    for (int64_t g = 0; g < groups.places; g += V::lanes)
        for (uint32_t bits = V::at_most(V::loadf(search.bounds + g), V::splat(limit)); bits; bits &= bits - 1) {
            const int64_t one = g + lowest(bits);
            if (one != home && one < groups.count && search.bounds[one] <= limit)
                look_at_group(cells, one, p, count, limit, search);
        }
    if (search.found.kept > count) compact(search, count);
}

void nearest(const Cells& cells, const float* centres, int64_t m, int64_t count, float limit, Search& search,
             int32_t* index) {
    for (int64_t i = 0; i < m; ++i, index += count) {
        const Centre p(centres[3 * i], centres[3 * i + 1], centres[3 * i + 2]);
        search_around(cells, p, count, limit, search);
        if (search.found.kept == 0) search_around(cells, p, 1, kInfinity, search);
        const int64_t found = search.found.kept;
        if (found == 0) index[0] = 0;  // no distance is a number
        finish(search, index);
        for (int64_t k = found ? found : 1; k < count; ++k) index[k] = index[0];
    }
}

}  // namespace nearness

const NearnessKernels nearness_kernels = {nearness::farthest, nearness::nearest};

}}  // namespace shoestring
