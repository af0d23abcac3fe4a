// Steps that compute each element of their output from the elements at the same place.
#include "pointwise.h"

#include <algorithm>
#include <vector>

#include "step.h"

namespace shoestring {
namespace {

constexpr int64_t kGrain = 64;    // elements: threads share no cache line of an output of bytes
constexpr int64_t kChunk = 8192;  // elements that a second kernel finds in the first-level cache

template <class T>
std::vector<T> copy_of(const Const<T>& constant) {
    return {constant.data, constant.data + constant.count};
}

int64_t elements(const Program& program, int32_t tensor) {
    return (int64_t)program.tensors[(size_t)tensor].elements;
}

// A step over all elements of a batch, `act(work, first, n)` for each chunk of a thread's share.
template <class Act>
class Elementwise final : public Step {
public:
    Elementwise(const char* label, int64_t elements, Act act)
        : label_(label), elements_(elements), act_(std::move(act)) {}
    const char* label() const override { return label_; }
    void run(int, const Work& work) const noexcept override {
        const Range mine = share(elements_ * work.images, work.part, work.parts, kGrain);
        for (int64_t at = mine.begin; at < mine.end; at += kChunk)
            act_(work, at, (size_t)std::min(kChunk, mine.end - at));
    }

private:
    const char* label_;
    int64_t elements_;
    Act act_;
};

template <class Act>
std::unique_ptr<Step> elementwise(const char* label, int64_t elements, Act act) {
    return std::make_unique<Elementwise<Act>>(label, elements, std::move(act));
}

// One factor a channel.
class Gate final : public Step {
public:
    Gate(const MulOp& op, const Program& program, const PointwiseKernels& kernels, Codes codes)
        : op_(op),
          kernels_(kernels),
          codes_(codes),
          table_(copy_of(op.requantise.table)),
          channels_(elements(program, op.other)),
          plane_(elements(program, op.input) / channels_) {}

    const char* label() const override { return "mul, one a channel"; }
    void run(int, const Work& work) const noexcept override {
        const Range mine = share(channels_ * work.images, work.part, work.parts);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
            uint8_t* out = work.tensor(op_.output) + i * plane_;
            kernels_.scaled(work.tensor(op_.input) + i * plane_, work.tensor(op_.other)[i] - op_.zero_b, out,
                            (size_t)plane_, op_.zero_a, codes_);
            if (!table_.empty()) kernels_.table(out, out, (size_t)plane_, table_.data());
        }
    }

private:
    MulOp op_;
    const PointwiseKernels& kernels_;
    Codes codes_;
    std::vector<uint8_t> table_;
    int64_t channels_, plane_;
};

}  // namespace

std::unique_ptr<Step> make_pointwise(const QuantiseOp& op, const Program& program, const Kernels& kernels) {
    return elementwise("quantise", elements(program, op.output),
                       [in = op.input, out = op.output, zero = op.zero, scale = op.scale.data[0],
                        run = kernels.pointwise->quantise](const Work& work, int64_t at, size_t n) {
                           run(work.tensor<float>(in) + at, work.tensor(out) + at, n, scale, zero);
                       });
}

std::unique_ptr<Step> make_pointwise(const DequantiseOp& op, const Program& program, const Kernels& kernels) {
    return elementwise("dequantise", elements(program, op.output),
                       [in = op.input, out = op.output, table = copy_of(op.table), run = kernels.pointwise->dequantise](
                           const Work& work, int64_t at, size_t n) {
                           run(work.tensor(in) + at, work.tensor<float>(out) + at, n, table.data());
                       });
}

std::unique_ptr<Step> make_pointwise(const TableOp& op, const Program& program, const Kernels& kernels) {
    return elementwise("table", elements(program, op.output),
                       [in = op.input, out = op.output, table = copy_of(op.table), run = kernels.pointwise->table](
                           const Work& work, int64_t at, size_t n) {
                           run(work.tensor(in) + at, work.tensor(out) + at, n, table.data());
                       });
}

std::unique_ptr<Step> make_pointwise(const AddOp& op, const Program& program, const Kernels& kernels) {
    const Sum& sum = op.sum;
    return elementwise("add", elements(program, op.output),
                       [a = sum.swapped ? sum.tensor : op.input, b = sum.swapped ? op.input : sum.tensor,
                        out = op.output, scales = copy_of(sum.scales), low = sum.low, high = sum.high,
                        table = copy_of(sum.table), &run = *kernels.pointwise](const Work& work, int64_t at, size_t n) {
                           uint8_t* to = work.tensor(out) + at;
                           run.sum(work.tensor(a) + at, work.tensor(b) + at, to, n, scales.data(), low, high);
                           if (!table.empty()) run.table(to, to, n, table.data());
                       });
}

std::unique_ptr<Step> make_pointwise(const MulOp& op, const Program& program, const Kernels& kernels) {
    const Requantise& r = op.requantise;
    const Codes codes{r.multiplier.data[0], r.zero, r.low, r.high};
    const int64_t all = elements(program, op.output);
    if (elements(program, op.other) != all) return std::make_unique<Gate>(op, program, *kernels.pointwise, codes);
    return elementwise("mul", all,
                       [a = op.input, b = op.other, out = op.output, zero_a = op.zero_a, zero_b = op.zero_b, codes,
                        table = copy_of(r.table), &run = *kernels.pointwise](const Work& work, int64_t at, size_t n) {
                           uint8_t* to = work.tensor(out) + at;
                           run.product(work.tensor(a) + at, work.tensor(b) + at, to, n, zero_a, zero_b, codes);
                           if (!table.empty()) run.table(to, to, n, table.data());
                       });
}

}  // namespace shoestring
