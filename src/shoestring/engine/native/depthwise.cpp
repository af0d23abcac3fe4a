#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "depthwise_layer.h"
#include "pointwise.h"

namespace shoestring {
namespace {

template <class T>
std::vector<T> copy_of(const Const<T>& constant) {
    return {constant.data, constant.data + constant.count};
}

// Threads share the pictures of the batch: planes of one channel of one image.
class DepthwiseStep : public Step {
public:
    DepthwiseStep(const ConvOp& op, const Program& program, const Kernels& kernels, const DepthwiseStep* like)
        : layer_(op, program, kernels),
          pointwise_(*kernels.pointwise),
          input_(op.input),
          output_(op.output),
          floats_(program.tensors[(size_t)op.output].dtype == DType::f32),
          table_(copy_of(op.requantise.table)),
          sum_table_(copy_of(op.sum.table)),
          scales_(copy_of(op.sum.scales)),
          sum_(op.sum),
          taps_((int64_t)op.kernel[0] * op.kernel[1]) {
        if (like) layer_.share(like->layer_);
        std::snprintf(label_, sizeof label_, "depthwise %dx%d", (int)op.kernel[0], (int)op.kernel[1]);
    }

    size_t scratch(int, int parts) const override { return (size_t)parts * part_bytes(); }
    const char* label() const override { return label_; }
    int64_t multiplies() const override { return layer_.channels() * layer_.height() * layer_.width() * taps_; }
    size_t weights() const override { return layer_.weights(); }

    void run(int, const Work& work) const noexcept override {
        const Range mine = share(work.images * layer_.channels(), work.part, work.parts);
        uint8_t* scratch = work.scratch + (size_t)work.part * part_bytes();
        const int64_t picture = layer_.height() * layer_.width();
        for (int64_t p = mine.begin; p < mine.end; p += layer_.most_pictures())
            for (int64_t y = 0; y < layer_.height(); y += layer_.most_rows()) {
                const Range pictures = {p, std::min(p + layer_.most_pictures(), mine.end)};
                const Range rows = {y, std::min(y + layer_.most_rows(), layer_.height())};
                const int64_t first = p * picture + y * layer_.width();
                uint8_t* out = work.tensor(output_) + first * (floats_ ? 4 : 1);
                layer_.rows(work.tensor(input_), pictures, rows, out, picture, scratch);
                // Several pictures only ever come whole, so that all that was written is one piece.
                const int64_t n = (pictures.end - p) * (rows.end - y) * layer_.width();
                if (!floats_) finish(work, first, (size_t)n);
            }
    }

private:
    size_t part_bytes() const { return (layer_.scratch() + kSlack + 63) / 64 * 64; }

    // The table and the sum, while what was written is in the cache.
    void finish(const Work& work, int64_t first, size_t n) const {
        uint8_t* out = work.tensor(output_) + first;
        if (!table_.empty()) pointwise_.table(out, out, n, table_.data());
        if (sum_.tensor < 0) return;
        const uint8_t *a = out, *b = work.tensor(sum_.tensor) + first;
        if (sum_.swapped) std::swap(a, b);
        pointwise_.sum(a, b, out, n, scales_.data(), sum_.low, sum_.high);
        if (!sum_table_.empty()) pointwise_.table(out, out, n, sum_table_.data());
    }

    Depthwise layer_;
    const PointwiseKernels& pointwise_;
    int32_t input_, output_;
    bool floats_;
    std::vector<uint8_t> table_, sum_table_;
    std::vector<float> scales_;
    Sum sum_;  // its constants are those above
    int64_t taps_;
    char label_[32];
};

}  // namespace

std::unique_ptr<Step> make_depthwise(const ConvOp& op, const Program& program, const Kernels& kernels,
                                     const Step* like) {
    return std::make_unique<DepthwiseStep>(op, program, kernels, dynamic_cast<const DepthwiseStep*>(like));
}

}  // namespace shoestring
