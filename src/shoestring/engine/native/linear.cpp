// Linear layers. All images' rows are taken together, as many as fit into registers.

#include <algorithm>
#include <vector>

#include "linear_panels.h"
#include "linear_sparse.h"
#include "pointwise.h"
#include "step.h"

namespace shoestring {
namespace {

template <class T>
std::vector<T> copy_of(const Const<T>& constant) {
    return {constant.data, constant.data + constant.count};
}

class LinearStep final : public Step {
public:
    LinearStep(const LinearOp& op, const Program& program, const Kernels& kernels, const LinearStep* like);

    const char* label() const override {
        if (panels_.bits() < 8) return panels_.bits() == 4 ? "linear 4-bit" : "linear 2-bit";
        return panels_.listed() ? "linear blocks" : "linear";
    }
    int64_t multiplies() const override { return rows_ * panels_.multiplies(); }
    size_t weights() const override { return panels_.bytes() + bias_.size() * (sizeof(int32_t) + sizeof(float)); }
    void run(int phase, const Work& work) const noexcept override;

private:
    static constexpr int kPanels = 4;  // panels whose outputs make one vector of codes
    static constexpr int kMostLanes = 16;
    static constexpr int64_t kLeastRows = 8;         // for which blocks of rows pay
    static constexpr int64_t kTileBytes = 48 << 10;  // what a tile reads and writes: the nearest caches hold it

    bool tiled() const { return !floats_ && panels_.bits() == 8 && rows_ >= kLeastRows; }
    void tile(const Work& work, Range rows) const;
    void compute(const Work& work, int64_t row, int count, int64_t group) const;
    void finish(const Work& work, Range rows, Range outputs) const;

    int32_t input_, output_;
    int64_t outputs_, inputs_, rows_;
    bool floats_;
    Panels panels_;
    const LinearKernels& linear_;
    const PointwiseKernels& pointwise_;
    decltype(LinearKernels::bytes) dot_;
    int64_t group_;                   // outputs of kPanels panels
    std::vector<int32_t> bias_;       // with the input's zero point; whole groups
    std::vector<float> multipliers_;  // whole groups
    int32_t zero_, low_, high_;
    std::vector<uint8_t> table_, sum_table_;
    Sum sum_;
    std::vector<float> sum_scales_;
};

LinearStep::LinearStep(const LinearOp& op, const Program& program, const Kernels& kernels, const LinearStep* like)
    : input_(op.input),
      output_(op.output),
      outputs_((int64_t)op.requantise.multiplier.count),
      inputs_((int64_t)op.weight.count / outputs_),
      rows_((int64_t)program.tensors[(size_t)op.input].elements / inputs_),
      floats_(program.tensors[(size_t)op.output].dtype == DType::f32),
      panels_(op, outputs_, *kernels.linear),
      linear_(*kernels.linear),
      pointwise_(*kernels.pointwise),
      dot_(panels_.bits() == 4   ? linear_.packed4
           : panels_.bits() == 2 ? linear_.packed2
                                 : linear_.bytes),
      group_((int64_t)kPanels * linear_.lanes),
      bias_((size_t)((outputs_ + group_ - 1) / group_ * group_)),
      multipliers_(bias_.size()),
      zero_(op.requantise.zero),
      low_(op.requantise.low),
      high_(op.requantise.high),
      table_(copy_of(op.requantise.table)),
      sum_table_(copy_of(op.sum.table)),
      sum_(op.sum),
      sum_scales_(copy_of(op.sum.scales)) {
    if (like) panels_.share(like->panels_);
    std::copy_n(op.requantise.multiplier.data, outputs_, multipliers_.begin());
    for (int64_t o = 0; o < outputs_; ++o) {
        uint32_t sum = 0;  // wraps, as accumulators do
        for (int64_t i = 0; i < inputs_; ++i) sum += (uint32_t)op.weight.data[o * inputs_ + i];
        const int32_t own = op.requantise.bias ? op.requantise.bias.data[o] : 0;
        bias_[(size_t)o] = (int32_t)((uint32_t)own - (uint32_t)op.x_zero * sum);
    }
}

void LinearStep::run(int, const Work& work) const noexcept {
    constexpr int most = LinearKernels::most_rows;
    const int64_t rows = rows_ * work.images, groups = (int64_t)bias_.size() / group_;
    const bool by_rows = rows >= most * work.parts;
    const Range these = by_rows ? share(rows, work.part, work.parts, most) : Range{0, rows};
    if (by_rows && tiled()) {
        const int64_t most_rows = std::max<int64_t>(kTileBytes / (inputs_ + 2 * outputs_) / 48 * 48, 48);
        for (int64_t row = these.begin; row < these.end; row += most_rows)
            tile(work, {row, std::min(row + most_rows, these.end)});
        return;
    }
    const Range mine = by_rows ? Range{0, groups} : share(groups, work.part, work.parts);
    // A group's weights stay in the cache while all rows meet them.
    for (int64_t group = mine.begin; group < mine.end; ++group)
        for (int64_t row = these.begin; row < these.end; row += most)
            compute(work, row, (int)std::min<int64_t>(most, these.end - row), group);
    finish(work, these, {mine.begin * group_, std::min(mine.end * group_, outputs_)});
}

// All outputs of some rows.
void LinearStep::tile(const Work& work, Range rows) const {
    for (size_t begin = 0, count; begin < panels_.size(); begin += count) {
        Panel panels[2];  // with as many dense blocks each
        for (count = 0; count < std::min<size_t>(2, panels_.size() - begin); ++count) {
            panels[count] = panels_[begin + count];
            if (panels[count].dense != panels[0].dense) break;
        }
        const auto first = (int64_t)begin * linear_.lanes;
        const Tile tile{panels,
                        (int)count,
                        bias_.data() + first,
                        multipliers_.data() + first,
                        zero_,
                        low_,
                        high_,
                        (size_t)std::min((int64_t)count * linear_.lanes, outputs_ - first)};
        linear_.tile(tile, work.tensor(input_) + rows.begin * inputs_, (size_t)inputs_,
                     (size_t)(rows.end - rows.begin), work.tensor(output_) + rows.begin * outputs_ + first,
                     (size_t)outputs_);
    }
    finish(work, rows, {0, outputs_});
}

// `count` rows, one group of outputs.
void LinearStep::compute(const Work& work, int64_t row, int count, int64_t group) const {
    alignas(64) int32_t acc[LinearKernels::most_rows * kPanels * kMostLanes];
    const uint8_t* x = work.tensor(input_) + row * inputs_;
    const int64_t first = group * group_;
    for (int r = 0; r < count; ++r) {
        // Packed weights count as weight + offset.
        const int64_t more =
            panels_.bits() == 8 ? 0 : pointwise_.total(x + r * inputs_, (size_t)inputs_) << (panels_.bits() - 1);
        for (int64_t i = 0; i < group_; ++i)
            acc[r * group_ + i] = (int32_t)((uint32_t)bias_[(size_t)(first + i)] - (uint32_t)more);
    }
    const size_t begin = (size_t)(group * kPanels), end = std::min(begin + kPanels, panels_.size());
    for (size_t p = begin; p < end; ++p)
        dot_(panels_[p], {x, (size_t)inputs_, acc + (int64_t)(p - begin) * linear_.lanes, (size_t)group_}, count);
    const auto n = (size_t)std::min(group_, outputs_ - first);
    const float* multiplier = multipliers_.data() + first;
    for (int r = 0; r < count; ++r) {
        const int64_t at = (row + r) * outputs_ + first;
        if (floats_)
            linear_.values(acc + r * group_, multiplier, work.tensor<float>(output_) + at, n);
        else
            linear_.codes(acc + r * group_, multiplier, work.tensor(output_) + at, n, zero_, low_, high_);
    }
}

// The tables and the sum.
void LinearStep::finish(const Work& work, Range rows, Range outputs) const {
    if (outputs.begin >= outputs.end || (table_.empty() && sum_.tensor < 0)) return;
    // All outputs of all rows are one row.
    const bool whole = outputs.begin == 0 && outputs.end == outputs_;
    const auto n = (size_t)((outputs.end - outputs.begin) * (whole ? rows.end - rows.begin : 1));
    for (int64_t row = rows.begin; row < (whole ? rows.begin + 1 : rows.end); ++row) {
        uint8_t* out = work.tensor(output_) + row * outputs_ + outputs.begin;
        if (!table_.empty()) pointwise_.table(out, out, n, table_.data());
        if (sum_.tensor < 0) continue;
        const uint8_t* other = work.tensor(sum_.tensor) + row * outputs_ + outputs.begin;
        pointwise_.sum(sum_.swapped ? other : out, sum_.swapped ? out : other, out, n, sum_scales_.data(), sum_.low,
                       sum_.high);
        if (!sum_table_.empty()) pointwise_.table(out, out, n, sum_table_.data());
    }
}

}  // namespace

std::unique_ptr<Step> make_linear(const LinearOp& op, const Program& program, const Kernels& kernels,
                                  const Step* like) {
    if (auto sparse = make_sparse_linear(op, program, kernels, like)) return sparse;
    return std::make_unique<LinearStep>(op, program, kernels, dynamic_cast<const LinearStep*>(like));
}

}  // namespace shoestring
