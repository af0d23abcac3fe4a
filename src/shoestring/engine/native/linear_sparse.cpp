// Linear layers over many rows with most blocks of four outputs and one input zero: a 1x1 convolution, whose kernels
// gather just the inputs that a block has, of the rows as pixels. Both sides are transposed for it.
#include "linear_sparse.h"

#include "pointwise.h"
#include "transpose.h"

namespace shoestring {
namespace {

constexpr int64_t kLeastRows = 64;  // a vector of pixels and more
// Fractions of the dense layer's time, fitted to measurements (AVX2): all blocks here, and transposing both sides where
// each of their elements takes part in one product; above the last one the dense layer is kept.
constexpr double kBlock = 1.1, kSides = 44, kWorthwhile = 0.8;
// How much more a layer may cost for being what the one is whose weights it shares.
constexpr double kAlike = 1.1;

size_t up(size_t n) {
    return (n + 63) / 64 * 64;
}

// The time it takes, in the dense layer's.
double cost(const LinearOp& op, int64_t outputs, int64_t inputs) {
    int64_t filled = 0;
    for (int64_t o = 0; o < outputs; o += 4)
        for (int64_t i = 0; i < inputs; ++i)
            for (int64_t k = o; k < std::min(o + 4, outputs); ++k)
                if (op.weight.data[k * inputs + i] != 0) {
                    ++filled;
                    break;
                }
    const auto blocks = (double)((outputs + 3) / 4 * inputs), products = (double)(outputs * inputs);
    return kBlock * (double)filled / blocks + kSides * (double)(outputs + inputs) / products;
}

class SparseLinear final : public Step {
public:
    SparseLinear(const LinearOp& op, int64_t rows, const Kernels& kernels, const SparseLinear* like)
        : pointwise_(*kernels.pointwise),
          input_(op.input),
          output_(op.output),
          rows_(rows),
          outputs_((int64_t)op.requantise.multiplier.count),
          inputs_((int64_t)op.weight.count / outputs_),
          sum_(op.sum),
          scales_(op.sum.scales.data, op.sum.scales.data + op.sum.scales.count),
          table_(op.sum.table.data, op.sum.table.data + op.sum.table.count) {
        Program pictures;
        for (const int64_t channels : {inputs_, outputs_}) {
            const auto elements = (size_t)(channels * rows);
            pictures.tensors.push_back({DType::u8, {(int32_t)channels, 1, (int32_t)rows}, elements, elements});
        }
        ConvOp conv{};
        conv.input = 0, conv.output = 1, conv.weight = op.weight, conv.x_zero = op.x_zero, conv.groups = 1;
        for (int axis = 0; axis < 2; ++axis) conv.kernel[axis] = conv.stride[axis] = conv.dilation[axis] = 1;
        conv.requantise = op.requantise;
        conv.sum.tensor = -1;
        conv_ = make_conv(conv, pictures, kernels, like ? like->conv_.get() : nullptr);
    }

    int phases() const override { return conv_->phases() + 2; }
    size_t scratch(int images, int parts) const override {
        return picture(images, inputs_) + picture(images, outputs_) + conv_->scratch(images, parts);
    }
    const char* label() const override { return "linear 4x1"; }
    int64_t multiplies() const override { return conv_->multiplies(); }
    size_t weights() const override { return conv_->weights(); }

    void run(int phase, const Work& work) const noexcept override {
        uint8_t* const pictures[2] = {work.scratch, work.scratch + picture(work.images, inputs_)};
        if (phase == 0) return enter(work, pictures[0]);
        if (phase == phases() - 1) return leave(work, pictures[1]);
        uint8_t* const rest = pictures[1] + picture(work.images, outputs_);
        conv_->run(phase - 1, {pictures, work.images, rest, work.part, work.parts});
    }

private:
    size_t picture(int images, int64_t channels) const { return up((size_t)(images * channels * rows_) + kSlack); }

    // [rows][inputs] to [inputs][rows]
    void enter(const Work& work, uint8_t* to) const {
        const Range mine = share(inputs_, work.part, work.parts, 64);
        for (int64_t i = 0; i < work.images; ++i)
            transpose(work.tensor(input_) + i * rows_ * inputs_ + mine.begin,
                      to + i * rows_ * inputs_ + mine.begin * rows_, {mine.end - mine.begin, 1, rows_},
                      {rows_, inputs_, 1});
    }

    // [outputs][rows] to [rows][outputs], and the sum.
    void leave(const Work& work, const uint8_t* from) const {
        const Range mine = share(rows_, work.part, work.parts, 16);
        const int64_t rows = mine.end - mine.begin;
        for (int64_t i = 0; i < work.images; ++i) {
            const int64_t at = (i * rows_ + mine.begin) * outputs_;
            uint8_t* out = work.tensor(output_) + at;
            transpose(from + i * rows_ * outputs_ + mine.begin, out, {rows, 1, outputs_}, {outputs_, rows_, 1});
            if (sum_.tensor < 0) continue;
            const auto n = (size_t)(rows * outputs_);
            const uint8_t* other = work.tensor(sum_.tensor) + at;
            pointwise_.sum(sum_.swapped ? other : out, sum_.swapped ? out : other, out, n, scales_.data(), sum_.low,
                           sum_.high);
            if (!table_.empty()) pointwise_.table(out, out, n, table_.data());
        }
    }

    const PointwiseKernels& pointwise_;
    int32_t input_, output_;
    int64_t rows_, outputs_, inputs_;
    Sum sum_;
    std::vector<float> scales_;
    std::vector<uint8_t> table_;
    std::unique_ptr<Step> conv_;
};

}  // namespace

std::unique_ptr<Step> make_sparse_linear(const LinearOp& op, const Program& program, const Kernels& kernels,
                                         const Step* like) {
    const auto outputs = (int64_t)op.requantise.multiplier.count, inputs = (int64_t)op.weight.count / outputs;
    const int64_t rows = (int64_t)program.tensors[(size_t)op.input].elements / inputs;
    const bool floats = program.tensors[(size_t)op.output].dtype == DType::f32;
    const auto* sparse = dynamic_cast<const SparseLinear*>(like);
    const double most = kWorthwhile * (!like ? 1 : sparse ? kAlike : 1 / kAlike);
    if (floats || rows < kLeastRows || cost(op, outputs, inputs) > most) return nullptr;
    return std::make_unique<SparseLinear>(op, rows, kernels, sparse);
}

}  // namespace shoestring
