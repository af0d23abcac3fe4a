// Linear layers. Weights are packed into panels (linear.h) in the form that has the fewest bytes to read: with one row
// of inputs reading them is what takes the time. All images' rows are taken together, as many as fit into registers.
#include "linear.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "linear_sparse.h"
#include "pointwise.h"
#include "step.h"

namespace shoestring {
namespace {

template <class T>
std::vector<T> copy_of(const Const<T>& constant) {
    return {constant.data, constant.data + constant.count};
}

struct alignas(64) Line {
    int8_t bytes[64];
};

// Panels one after another, each from a multiple of 64 bytes on.
class Panels {
public:
    Panels(const LinearOp& op, int64_t outputs, const LinearKernels& kernels)
        : weight_(op.weight.data),
          outputs_(outputs),
          inputs_((int64_t)op.weight.count / outputs),
          lanes_(kernels.lanes) {
        const int64_t panels = (outputs + lanes_ - 1) / lanes_;
        lines_.reserve((size_t)(panels * packed_size(8)) / sizeof(Line));
        for (int64_t p = 0; p < panels; ++p) pack_bytes(p, kernels.pairs);
        const int64_t packed = panels * packed_size(op.bits);
        if (op.bits == 8 || packed > (int64_t)bytes()) return;
        bits_ = op.bits;
        starts_.clear(), quads_.clear(), lines_.clear();
        for (int64_t p = 0; p < panels; ++p) pack_bits(p);
    }

    int bits() const { return bits_; }
    bool listed() const { return listed_; }
    size_t size() const { return starts_.size(); }
    size_t bytes() const { return lines_.size() * sizeof(Line) + quads_.size() * sizeof(uint32_t); }
    // Blocks that are executed, counted in weights.
    int64_t multiplies() const {
        int64_t blocks = 0;
        for (const Start& s : starts_) blocks += (int64_t)(s.dense * (bits_ < 8 ? 4 : 1) + s.listed);
        return blocks * lanes_ * 4;
    }
    Panel operator[](size_t i) const {
        const Start& s = starts_[i];
        return {lines_[s.line].bytes, s.dense, quads_.data() + s.quad, s.listed};
    }

private:
    struct Start {
        size_t line, dense, quad, listed;
    };
    int64_t packed_size(int bits) const { return (inputs_ + 15) / 16 * lanes_ * 2 * bits; }
    size_t block_bytes() const { return (size_t)lanes_ * 4; }

    // The weights of a panel's outputs for quad q, [lanes][4]; `block` is left as it is where there is no such weight.
    void gather(int64_t panel, int64_t q, int8_t* block) const {
        const int8_t* from = weight_ + panel * lanes_ * inputs_ + 4 * q;
        const int64_t outputs = std::min(lanes_, outputs_ - panel * lanes_),
                      left = std::min<int64_t>(4, inputs_ - 4 * q);
        for (int64_t l = 0; l < outputs; ++l, from += inputs_, block += 4) {
            if (left == 4)
                std::memcpy(block, from, 4);
            else
                std::copy_n(from, std::max<int64_t>(left, 0), block);
        }
    }

    // Moves to `rest` what keeps pairs of products from fitting into 16 bits. False where all fit.
    bool move_excess(int8_t* block, int8_t* rest) const {
        constexpr int16_t most = 128;  // 255 * 128 < 2^15
        bool any = false;
        for (size_t i = 0; i < block_bytes(); i += 2) {
            const auto sum = (int16_t)(block[i] + block[i + 1]);
            any |= sum > most || sum < -most;
        }
        for (size_t i = 0; any && i < block_bytes(); i += 2) {
            const int sum = block[i] + block[i + 1];
            rest[i] = 0, rest[i + 1] = (int8_t)(sum - std::clamp<int>(sum, -most, most));
            block[i + 1] = (int8_t)(block[i + 1] - rest[i + 1]);
        }
        return any;
    }

    bool zero(const int8_t* block) const {
        return std::all_of(block, block + block_bytes(), [](int8_t w) { return w == 0; });
    }

    int8_t* room(size_t size) {
        const size_t at = lines_.size();
        lines_.resize(at + (size + sizeof(Line) - 1) / sizeof(Line));
        return lines_[at].bytes;
    }

    void pack_bytes(int64_t panel, bool pairs) {
        const auto quads = (size_t)(inputs_ + 3) / 4;
        const size_t quad = quads_.size(), line = lines_.size();
        blocks_.assign(quads * block_bytes(), 0), extra_.clear(), extra_quads_.clear();
        std::vector<int8_t> rest(block_bytes());
        for (size_t q = 0; q < quads; ++q) {
            int8_t* block = &blocks_[q * block_bytes()];
            gather(panel, (int64_t)q, block);
            if (pairs && move_excess(block, rest.data())) {
                extra_.insert(extra_.end(), rest.begin(), rest.end());
                extra_quads_.push_back((uint32_t)q);
            }
            if (!zero(block)) quads_.push_back((uint32_t)q);
        }
        const size_t filled = quads_.size() - quad;
        const bool list = filled * (block_bytes() + sizeof(uint32_t)) < quads * block_bytes();
        listed_ |= list;
        const size_t own = list ? filled : quads;
        int8_t* to = room(std::max<size_t>(own + extra_quads_.size(), 1) * block_bytes());
        for (size_t i = 0; i < own; ++i, to += block_bytes())
            std::memcpy(to, &blocks_[(list ? quads_[quad + i] : i) * block_bytes()], block_bytes());
        if (!list) quads_.resize(quad);
        quads_.insert(quads_.end(), extra_quads_.begin(), extra_quads_.end());
        std::copy(extra_.begin(), extra_.end(), to);
        starts_.push_back({line, list ? 0 : quads, quad, quads_.size() - quad});
    }

    // Codes are weight + offset, and 0 where there is no weight: what a row has behind its end does not count.
    void pack_bits(int64_t panel) {
        const auto offset = (int8_t)(1 << (bits_ - 1));
        const int64_t steps = (inputs_ + 15) / 16;
        const int in_vector = 8 / bits_;
        const size_t line = lines_.size();
        int8_t* to = room((size_t)packed_size(bits_));
        std::vector<int8_t> codes(block_bytes());
        for (int64_t q = 0; q < 4 * steps; ++q) {
            std::fill(codes.begin(), codes.end(), (int8_t)-offset);
            gather(panel, q, codes.data());
            int8_t* vector = to + (size_t)(q / in_vector) * block_bytes();
            for (size_t i = 0; i < codes.size(); ++i)
                vector[i] = (int8_t)(vector[i] | (codes[i] + offset) << (q % in_vector * bits_));
        }
        starts_.push_back({line, (size_t)steps, 0, 0});
    }

    const int8_t* weight_;  // only while packing
    int64_t outputs_, inputs_, lanes_;
    int bits_ = 8;
    bool listed_ = false;
    std::vector<Start> starts_;
    std::vector<uint32_t> quads_;
    std::vector<Line> lines_;
    std::vector<int8_t> blocks_, extra_;  // of the panel being packed: all, and what did not fit
    std::vector<uint32_t> extra_quads_;
};

class LinearStep final : public Step {
public:
    LinearStep(const LinearOp& op, const Program& program, const Kernels& kernels);

    const char* label() const override {
        if (panels_.bits() < 8) return panels_.bits() == 4 ? "linear 4-bit" : "linear 2-bit";
        return panels_.listed() ? "linear blocks" : "linear";
    }
    int64_t multiplies() const override { return rows_ * panels_.multiplies(); }
    size_t weights() const override { return panels_.bytes(); }
    void run(int phase, const Work& work) const noexcept override;

private:
    static constexpr int kPanels = 4;  // panels whose outputs make one vector of codes
    static constexpr int kMostLanes = 16;

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

LinearStep::LinearStep(const LinearOp& op, const Program& program, const Kernels& kernels)
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
    const Range mine = by_rows ? Range{0, groups} : share(groups, work.part, work.parts);
    // A group's weights stay in the cache while all rows meet them.
    for (int64_t group = mine.begin; group < mine.end; ++group)
        for (int64_t row = these.begin; row < these.end; row += most)
            compute(work, row, (int)std::min<int64_t>(most, these.end - row), group);
    finish(work, these, {mine.begin * group_, std::min(mine.end * group_, outputs_)});
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
    const auto n = (size_t)(outputs.end - outputs.begin);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
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

std::unique_ptr<Step> make_linear(const LinearOp& op, const Program& program, const Kernels& kernels) {
    if (auto sparse = make_sparse_linear(op, program, kernels)) return sparse;
    return std::make_unique<LinearStep>(op, program, kernels);
}

}  // namespace shoestring
