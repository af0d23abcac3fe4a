// Copies of elements from one order to another, and softmax.
//
// A copy's nested extents are first reduced to what they come to: axes that continue one another become one, and the
// axis along which the output is contiguous becomes the innermost. What remains is runs (contiguous on both sides),
// transposes (contiguous on the input's side along another axis) or neither.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "pointwise.h"
#include "step.h"
#include "transpose.h"

namespace shoestring {
namespace {

using Axis = CopyAxis;

// Outermost first. Elements are copied independently, so their order is free.
std::vector<Axis> reduced(const CopyOp& op) {
    std::vector<Axis> axes;
    for (int i = 0; i < 6; ++i)
        if (op.extents[i] > 1) axes.push_back({op.extents[i], op.strides[i], op.to_strides[i]});
    std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.to > b.to; });
    std::vector<Axis> merged;
    for (const Axis& axis : axes) {
        if (!merged.empty()) {
            Axis& last = merged.back();
            if (last.from == axis.from * axis.extent && last.to == axis.to * axis.extent) {
                last = {last.extent * axis.extent, axis.from, axis.to};
                continue;
            }
        }
        merged.push_back(axis);
    }
    if (merged.empty()) merged.push_back({1, 1, 1});
    return merged;
}

// The innermost one or two axes: an inner loop of `rows` x `columns`; rows.extent is 1 for runs.
struct Tile {
    Axis rows, columns;
    bool run() const { return columns.from == 1 && columns.to == 1; }
};

template <class T>
class CopyStep final : public Step {
public:
    CopyStep(const CopyOp& op, const Program& program, const Kernels& kernels)
        : edge_(op),
          start_(op.start),
          to_(op.to),
          in_((int64_t)program.tensors[(size_t)op.input].elements),
          out_((int64_t)program.tensors[(size_t)op.output].elements),
          outer_(reduced(op)),
          table_(op.table.data, op.table.data + op.table.count),
          lookup_(kernels.pointwise->table) {
        tile_ = {{1, 0, 0}, outer_.back()};
        outer_.pop_back();
        if (tile_.run()) return;
        // The other side of a transpose: the axis along which the input is closest to contiguous.
        const auto size = [](const Axis& axis) { return axis.from < 0 ? -axis.from : axis.from; };
        const auto best = std::min_element(outer_.begin(), outer_.end(),
                                           [&](const Axis& a, const Axis& b) { return size(a) < size(b); });
        if (best == outer_.end()) return;
        tile_.rows = *best;
        outer_.erase(best);
    }

    const char* label() const override { return tile_.run() ? "copy" : "copy, transposed"; }

    void run(int, const Work& work) const noexcept override {
        int64_t tiles = work.images;
        for (const Axis& axis : outer_) tiles *= axis.extent;
        // Few tiles: each is shared, along its longer axis. Many: each belongs to one thread.
        const bool shared = tiles < 4 * work.parts;
        const Range mine = shared ? Range{0, tiles} : share(tiles, work.part, work.parts);
        Tile tile = tile_;
        int64_t from = start_, to = to_;
        if (shared) {
            Axis& axis = tile.rows.extent > tile.columns.extent ? tile.rows : tile.columns;
            const Range part = share(axis.extent, work.part, work.parts, 64);
            axis.extent = part.end - part.begin;
            from += part.begin * axis.from, to += part.begin * axis.to;
            if (axis.extent <= 0) return;
        }
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            int64_t at = i, in = from, out = to;
            for (auto axis = outer_.rbegin(); axis != outer_.rend(); ++axis) {
                in += at % axis->extent * axis->from, out += at % axis->extent * axis->to;
                at /= axis->extent;
            }
            copy(work.tensor<T>(edge_.input) + at * in_ + in, work.tensor<T>(edge_.output) + at * out_ + out, tile);
        }
    }

private:
    void copy(const T* in, T* out, const Tile& tile) const {
        if (tile.run() && table_.empty()) {
            std::memcpy(out, in, (size_t)tile.columns.extent * sizeof(T));
        } else if constexpr (std::is_same_v<T, uint8_t>) {
            if (tile.run())
                lookup_(in, out, (size_t)tile.columns.extent, table_.data());
            else if (table_.empty())
                transpose(in, out, tile.rows, tile.columns);
            else
                transpose(in, out, tile.rows, tile.columns, [&](uint8_t x) { return table_[x]; });
        } else {
            transpose(in, out, tile.rows, tile.columns, [](T x) { return x; });
        }
    }

    Edge edge_;
    int64_t start_, to_, in_, out_;
    std::vector<Axis> outer_;
    Tile tile_;
    std::vector<uint8_t> table_;
    void (*lookup_)(const uint8_t*, uint8_t*, size_t, const uint8_t*);
};

// e^x for x <= 0, to 1 unit in the last place or so; below -87 it counts as -87, so that the result is a normal number.
// e^x = 2^n e^r with |r| <= ln 2 / 2; ln 2 in two parts, of which n times the first is exact; the polynomial is that of
// expf in the Cephes library (S. Moshier, 1989).
inline float exponential(float x) {
    x = x > -87.0f ? x : -87.0f;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to a whole number
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    p = p * (r * r) + r + 1.0f;
    const uint32_t exponent = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    std::memcpy(&power, &exponent, sizeof power);
    return p * power;
}

class SoftmaxStep final : public Step {
public:
    explicit SoftmaxStep(const SoftmaxOp& op) : op_(op) {}
    const char* label() const override { return "softmax"; }
    void run(int, const Work& work) const noexcept override {
        const int64_t inner = op_.inner, size = op_.length * inner;
        const Range mine = share(work.images * op_.outer * inner, work.part, work.parts, 16);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            const int64_t at = i / inner * size + i % inner;
            one(work.tensor<float>(op_.input) + at, work.tensor<float>(op_.output) + at);
        }
    }

private:
    void one(const float* in, float* out) const {
        const int64_t length = op_.length, step = op_.inner;
        float most = in[0];
        for (int64_t i = 1; i < length; ++i) most = std::max(most, in[i * step]);
        double sum = 0;
        for (int64_t i = 0; i < length; ++i) sum += out[i * step] = exponential(in[i * step] - most);
        const auto total = (float)sum;
        for (int64_t i = 0; i < length; ++i) out[i * step] /= total;
    }

    SoftmaxOp op_;
};

}  // namespace

std::unique_ptr<Step> make_copy(const CopyOp& op, const Program& program, const Kernels& kernels) {
    if (program.tensors[(size_t)op.input].dtype == DType::u8)
        return std::make_unique<CopyStep<uint8_t>>(op, program, kernels);
    return std::make_unique<CopyStep<float>>(op, program, kernels);
}

std::unique_ptr<Step> make_softmax(const SoftmaxOp& op, const Program&, const Kernels&) {
    return std::make_unique<SoftmaxStep>(op);
}

}  // namespace shoestring
