// Sorting input rows and quads so that sums in 16 bits are exact.
//
// vpmaddubsw adds u8 * w for two neighbours in 16 bits. With u8 <= 255 the sum of any of them stays exact when the
// positive weights add up to at most 128 and the negative ones too (255 * 128 < 2^15). So rows are put into sets whose
// weights stay within that, for all four outputs: sets of up to four rows (two of such sets are a pair of quads), of
// two (two of such sets are a quad), and rows that fit nowhere, which are widened before they are multiplied. They are
// taken as they come, so that the lists of a block that has only the first inputs begin as those of one that has all.

#include "conv_packing.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace shoestring {
namespace {

constexpr int kOpen = 12;  // sets tried for a row: more find a little more, slower

// Sums of weights of one sign.
typedef int16_t Sums __attribute__((vector_size(16)));

bool exact(Sums a, Sums b = Sums{}) {
    const Sums over = (a > 128) | (b > 128);
    uint64_t halves[2];
    std::memcpy(halves, &over, sizeof halves);
    return (halves[0] | halves[1]) == 0;
}

// Positive weights of four outputs, then negative ones.
Sums sums_of(const Row& row) {
    const int8_t* w = row.weights;
    const auto minus = [](int8_t x) { return (int16_t)-x; };
    const Sums signs = {w[0], w[1], w[2], w[3], minus(w[0]), minus(w[1]), minus(w[2]), minus(w[3])};
    return signs & (signs > 0);
}

// A quad and the sums of its pairs of neighbours, two for each output.
struct SummedQuad {
    const Quad* quad;
    Sums positive, negative;

    SummedQuad() = default;
    explicit SummedQuad(const Quad& q) : quad(&q) {
        Sums pairs;  // of bytes
        std::memcpy(&pairs, q.weights, sizeof pairs);
        const Sums high = pairs >> 8, low = (pairs << 8) >> 8;
        positive = (high & (high > 0)) + (low & (low > 0));
        negative = positive - high - low;
    }
    bool exact_with(const SummedQuad& other) const {
        return exact(positive + other.positive, negative + other.negative);
    }
};

struct RowSet {
    Sums sums{};
    const Row* rows[4];
    int count = 0;
};

// First fit into the last few open sets.
std::vector<RowSet> sets_of(const std::vector<Row>& rows) {
    std::vector<RowSet> sets;
    sets.reserve(rows.size() / 3 + 4);
    std::array<size_t, kOpen> open{};
    int n = 0;
    for (const Row& row : rows) {
        const Sums own = sums_of(row);
        int found = -1;
        for (int i = 0; i < n && found < 0; ++i)
            if (exact(sets[open[i]].sums + own)) found = i;
        if (found < 0) {
            if (n == kOpen) std::move(open.begin() + 1, open.end(), open.begin()), --n;
            open[n] = sets.size();
            found = n++;
            sets.emplace_back();
        }
        RowSet& set = sets[open[found]];
        set.sums = set.sums + own;
        set.rows[set.count++] = &row;
        if (set.count == 4) std::move(open.begin() + found + 1, open.begin() + n, open.begin() + found), --n;
    }
    return sets;
}

}  // namespace

void PackedConv::add_rows(const std::vector<Row>& rows, const int32_t bias[4], const float multipliers[4]) {
    begin(bias, multipliers);
    if (kernels_.splits)
        add_sorted(rows);
    else
        for (size_t i = 0; i < rows.size(); i += 4, ++count(kQuads)) {
            const Row* four[4];
            for (size_t j = 0; j < 4; ++j) four[j] = i + j < rows.size() ? &rows[i + j] : nullptr;
            put(four, kQuads);
        }
    end();
}

void PackedConv::add_sorted(const std::vector<Row>& rows) {
    std::vector<const RowSet*> fours, twos;
    std::vector<const Row*> singles;
    const std::vector<RowSet> sets = sets_of(rows);
    for (const RowSet& set : sets) {
        if (set.count > 2)
            fours.push_back(&set);
        else if (set.count == 2)
            twos.push_back(&set);
        else
            singles.push_back(set.rows[0]);
    }
    const auto row = [](const RowSet* set, int i) { return i < set->count ? set->rows[i] : nullptr; };
    size_t f = 0;
    for (; f + 1 < fours.size(); f += 2, ++count(kPairs))
        for (int half = 0; half < 4; half += 2) {
            const Row* four[4] = {row(fours[f], half), row(fours[f], half + 1), row(fours[f + 1], half),
                                  row(fours[f + 1], half + 1)};
            put(four, kPairs);
        }
    if (f < fours.size()) {
        const Row* four[4] = {row(fours[f], 0), row(fours[f], 1), row(fours[f], 2), row(fours[f], 3)};
        put(four, kQuads), ++count(kQuads);
    }
    // A last row alone joins the last two: a set of one.
    RowSet last;
    if (twos.size() % 2 == 1 && !singles.empty()) {
        last.rows[0] = singles.back(), last.count = 1;
        singles.pop_back();
        twos.push_back(&last);
    }
    for (size_t t = 0; t < twos.size(); t += 2, ++count(kQuads)) {
        const bool two = t + 1 < twos.size();
        const Row* four[4] = {row(twos[t], 0), row(twos[t], 1), two ? row(twos[t + 1], 0) : nullptr,
                              two ? row(twos[t + 1], 1) : nullptr};
        put(four, kQuads);
    }
    for (size_t s = 0; s < singles.size(); s += 4, ++count(kWide)) {
        const Row* four[4];
        for (size_t j = 0; j < 4; ++j) four[j] = s + j < singles.size() ? singles[s + j] : nullptr;
        put(four, kWide);
    }
}

void PackedConv::add_quads(const std::vector<Quad>& quads, const int32_t bias[4], const float multipliers[4]) {
    begin(bias, multipliers);
    if (kernels_.splits)
        add_sorted(quads);
    else
        for (const Quad& quad : quads) put(quad, kQuads), ++count(kQuads);
    end();
}

void PackedConv::add_sorted(const std::vector<Quad>& quads) {
    std::array<SummedQuad, kOpen> open;  // the last that found no partner, in any order
    size_t n = 0;
    std::vector<const Quad*> alone, wide;
    for (const Quad& quad : quads) {
        const SummedQuad summed(quad);
        if (!exact(summed.positive, summed.negative)) {
            wide.push_back(&quad);
            continue;
        }
        size_t i = 0;
        while (i < n && !open[i].exact_with(summed)) ++i;
        if (i < n) {
            put(*open[i].quad, kPairs), put(quad, kPairs), ++count(kPairs);
            open[i] = open[--n];
        } else if (n < open.size()) {
            open[n++] = summed;
        } else {  // in the place of one after another
            alone.push_back(open[alone.size() % n].quad);
            open[(alone.size() - 1) % n] = summed;
        }
    }
    for (size_t i = 0; i < n; ++i) alone.push_back(open[i].quad);
    for (const Quad* quad : alone) put(*quad, kQuads), ++count(kQuads);
    for (const Quad* quad : wide) put(*quad, kWide), ++count(kWide);
}

}  // namespace shoestring
