// Pools: rows of a window are reduced to one row, then its columns. Planes are shared between threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "linear.h"
#include "pointwise.h"
#include "step.h"

namespace shoestring {
namespace {

struct Axis {
    int64_t in, out, kernel, stride, dilation, pad;
    int64_t start(int64_t o) const { return o * stride - pad; }
};

Axis axis_of(const Tensor& in, const Tensor& out, int axis, int kernel, int stride, int dilation, int pad) {
    return {in.shape[(size_t)axis], out.shape[(size_t)axis], kernel, stride, dilation, pad};
}

// Calls plane(in, out, scratch) for a thread's share of the channels of all images.
template <class Plane>
void each_plane(const Work& work, const Edge& edge, int64_t channels, const Axis& y, const Axis& x, size_t scratch,
                Plane plane) {
    const Range mine = share(channels * work.images, work.part, work.parts);
    for (int64_t c = mine.begin; c < mine.end; ++c)
        plane(work.tensor(edge.input) + c * y.in * x.in, work.tensor(edge.output) + c * y.out * x.out,
              work.scratch + (size_t)work.part * scratch);
}

class MaxPool final : public Step {
public:
    MaxPool(const MaxPoolOp& op, const Tensor& in, const Tensor& out, const PointwiseKernels& kernels)
        : edge_(op),
          kernels_(kernels),
          channels_(in.shape[0]),
          y_(axis_of(in, out, 1, op.kernel[0], op.stride[0], op.dilation[0], op.pads[0])),
          x_(axis_of(in, out, 2, op.kernel[1], op.stride[1], op.dilation[1], op.pads[1])) {
        const int64_t reach = (x_.out - 1) * x_.stride + (x_.kernel - 1) * x_.dilation + 1;
        phase_ = (reach + x_.stride - 1) / x_.stride;
        row_ = std::max(phase_ * x_.stride, x_.pad + x_.in);
    }

    const char* label() const override { return "max pool"; }
    size_t scratch(int, int parts) const override { return (size_t)parts * own(); }
    void run(int, const Work& work) const noexcept override {
        each_plane(work, edge_, channels_, y_, x_, own(), [&](const uint8_t* in, uint8_t* out, uint8_t* row) {
            std::memset(row, 0, (size_t)row_);  // padding is the least code, so it never wins
            for (int64_t o = 0; o < y_.out; ++o) {
                rows(in, o, row + x_.pad);
                columns(row, row + row_, out + o * x_.out);
            }
        });
    }

private:
    // A row with its padding; then, for strides above 1, its columns sorted by their remainder: [stride][phase_].
    size_t own() const { return (size_t)(row_ + (x_.stride > 1 ? x_.stride * phase_ : 0) + 63) / 64 * 64; }

    void rows(const uint8_t* in, int64_t o, uint8_t* row) const {
        bool first = true;
        for (int64_t k = 0; k < y_.kernel; ++k) {
            const int64_t y = y_.start(o) + k * y_.dilation;
            if (y < 0 || y >= y_.in) continue;
            if (first)
                std::memcpy(row, in + y * x_.in, (size_t)x_.in);
            else
                kernels_.maximum(in + y * x_.in, row, (size_t)x_.in);
            first = false;
        }
        if (first) std::memset(row, 0, (size_t)x_.in);
    }

    void columns(const uint8_t* row, uint8_t* sorted, uint8_t* out) const {
        const int64_t stride = x_.stride;
        const uint8_t* from = row;
        if (stride > 1) {
            sort(row, sorted);
            from = sorted;
        }
        for (int64_t k = 0; k < x_.kernel; ++k) {
            const int64_t at = k * x_.dilation;
            const uint8_t* one = from + at % stride * phase_ + at / stride;
            if (k == 0)
                std::memcpy(out, one, (size_t)x_.out);
            else
                kernels_.maximum(one, out, (size_t)x_.out);
        }
    }

    void sort(const uint8_t* row, uint8_t* sorted) const {
        if (x_.stride == 2) {  // of a constant stride compilers make vectors
            for (int64_t i = 0; i < phase_; ++i) sorted[i] = row[2 * i], sorted[phase_ + i] = row[2 * i + 1];
            return;
        }
        for (int64_t i = 0; i < phase_; ++i)
            for (int64_t r = 0; r < x_.stride; ++r) sorted[r * phase_ + i] = row[i * x_.stride + r];
    }

    Edge edge_;
    const PointwiseKernels& kernels_;
    int64_t channels_;
    Axis y_, x_;
    int64_t phase_, row_;  // columns of one remainder; bytes of a row
};

class AveragePool final : public Step {
public:
    AveragePool(const AveragePoolOp& op, const Tensor& in, const Tensor& out, const Kernels& kernels)
        : edge_(op),
          pointwise_(*kernels.pointwise),
          linear_(*kernels.linear),
          channels_(in.shape[0]),
          y_(axis_of(in, out, 1, op.kernel[0], op.stride[0], 1, op.pads[0])),
          x_(axis_of(in, out, 2, op.kernel[1], op.stride[1], 1, op.pads[1])),
          x_zero_(op.x_zero),
          count_padding_(op.count_padding != 0),
          global_(y_.kernel == y_.in && x_.kernel == x_.in && y_.out * x_.out == 1 && y_.pad + x_.pad == 0),
          row_(std::max((x_.out - 1) * x_.stride + x_.kernel, x_.pad + x_.in)),
          room_((x_.out + 63) / 64 * 64),
          multipliers_(op.requantise.multiplier.data, op.requantise.multiplier.data + op.requantise.multiplier.count),
          table_(op.requantise.table.data, op.requantise.table.data + op.requantise.table.count),
          zero_(op.requantise.zero),
          low_(op.requantise.low),
          high_(op.requantise.high) {
        for (int64_t o = 0; o < x_.out; ++o)
            wide_.push_back((int32_t)(std::min(x_.start(o) + x_.kernel, x_.in) - std::max<int64_t>(x_.start(o), 0)));
    }

    const char* label() const override { return global_ ? "average pool, global" : "average pool"; }
    size_t scratch(int, int parts) const override { return (size_t)parts * own(); }
    void run(int, const Work& work) const noexcept override {
        each_plane(work, edge_, channels_, y_, x_, own(), [&](const uint8_t* in, uint8_t* out, uint8_t* scratch) {
            if (global_) return whole(in, out);
            auto* const sums = reinterpret_cast<int32_t*>(scratch);
            for (int64_t o = 0; o < y_.out; ++o) windows(in, o, sums, out + o * x_.out);
        });
    }

private:
    // What the kernel of codes reads: a row's accumulators and multipliers; then sums of a window's rows, with padding.
    size_t own() const { return global_ ? 0 : (size_t)(2 * room_ + row_ + 15) / 16 * 64; }

    float multiplier(int64_t elements) const {
        return multipliers_[count_padding_ ? multipliers_.size() - 1 : (size_t)elements - 1];
    }

    void whole(const uint8_t* in, uint8_t* out) const {
        const int64_t n = y_.in * x_.in, acc = pointwise_.total(in, (size_t)n) - n * x_zero_;
        const int64_t code = std::llrint((float)acc * multiplier(n)) + zero_;
        out[0] = (uint8_t)std::clamp<int64_t>(code, low_, high_);
        if (!table_.empty()) out[0] = table_[out[0]];
    }

    // The windows of output row o.
    void windows(const uint8_t* in, int64_t o, int32_t* acc, uint8_t* out) const {
        auto* const multipliers = reinterpret_cast<float*>(acc + room_);
        int32_t* const sums = acc + 2 * room_;
        const int64_t first = std::max<int64_t>(y_.start(o), 0), end = std::min(y_.start(o) + y_.kernel, y_.in);
        std::fill(sums, sums + row_, 0);
        for (int64_t y = first; y < end; ++y)
            for (int64_t x = 0; x < x_.in; ++x) sums[x_.pad + x] += in[y * x_.in + x];
        const auto high = (int32_t)(end - first), zeros = high * x_zero_;
        for (int64_t i = 0; i < x_.out; ++i) acc[i] = -zeros * wide_[(size_t)i];
        for (int64_t i = 0; i < x_.out; ++i) multipliers[i] = multiplier(high * wide_[(size_t)i]);
        for (int64_t k = 0; k < x_.kernel; ++k) add(sums + k, acc);
        linear_.codes(acc, multipliers, out, (size_t)x_.out, zero_, low_, high_);
        if (!table_.empty()) pointwise_.table(out, out, (size_t)x_.out, table_.data());
    }

    void add(const int32_t* sums, int32_t* acc) const {
        if (x_.stride == 1)  // of a constant stride compilers make vectors
            for (int64_t i = 0; i < x_.out; ++i) acc[i] += sums[i];
        else
            for (int64_t i = 0; i < x_.out; ++i) acc[i] += sums[i * x_.stride];
    }

    Edge edge_;
    const PointwiseKernels& pointwise_;
    const LinearKernels& linear_;
    int64_t channels_;
    Axis y_, x_;
    int32_t x_zero_;
    bool count_padding_, global_;
    std::vector<int32_t> wide_;  // elements of each window of a row that are inside the picture
    int64_t row_, room_;         // sums of a row with its padding; accumulators, so many that whole vectors can be read
    std::vector<float> multipliers_;
    std::vector<uint8_t> table_;
    int32_t zero_, low_, high_;
};

// Along the middle of three axes.
class Highest final : public Step {
public:
    Highest(const HighestOp& op, const PointwiseKernels& kernels) : op_(op), kernels_(kernels) {}
    const char* label() const override { return "max pool, rows"; }
    void run(int, const Work& work) const noexcept override {
        // Few windows: each is shared, along its rows.
        const int64_t windows = op_.outer * work.images, inner = op_.inner;
        const bool shared = windows < 4 * work.parts;
        const Range mine = shared ? Range{0, windows} : share(windows, work.part, work.parts);
        const Range part = shared ? share(inner, work.part, work.parts, 64) : Range{0, inner};
        if (part.begin >= part.end) return;
        for (int64_t i = mine.begin; i < mine.end; ++i)
            kernels_.highest(work.tensor(op_.input) + i * op_.length * inner + part.begin, (size_t)op_.length,
                             (size_t)inner, work.tensor(op_.output) + i * inner + part.begin,
                             (size_t)(part.end - part.begin));
    }

private:
    HighestOp op_;
    const PointwiseKernels& kernels_;
};

}  // namespace

std::unique_ptr<Step> make_pool(const HighestOp& op, const Program&, const Kernels& kernels) {
    return std::make_unique<Highest>(op, *kernels.pointwise);
}

std::unique_ptr<Step> make_pool(const MaxPoolOp& op, const Program& program, const Kernels& kernels) {
    return std::make_unique<MaxPool>(op, program.tensors[(size_t)op.input], program.tensors[(size_t)op.output],
                                     *kernels.pointwise);
}

std::unique_ptr<Step> make_pool(const AveragePoolOp& op, const Program& program, const Kernels& kernels) {
    return std::make_unique<AveragePool>(op, program.tensors[(size_t)op.input], program.tensors[(size_t)op.output],
                                         kernels);
}

}  // namespace shoestring
