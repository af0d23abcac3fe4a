// A depthwise convolution made ready: where its pictures lie in scratch, its weights packed for the processor at hand.
#pragma once

#include <cstdint>
#include <vector>

#include "depthwise.h"
#include "step.h"

namespace shoestring {

class Depthwise {
public:
    Depthwise(const Depthwise&) = delete;
    Depthwise(const ConvOp& op, const Program& program, const Kernels& kernels);

    // Reads its steps in `base` and no longer keeps them, if the first channels there have the same. `base` must
    // outlive this and share nothing itself.
    void share(const Depthwise& base);

    int64_t channels() const { return (int64_t)channels_.size(); }
    int64_t height() const { return out_height_; }
    int64_t width() const { return out_width_; }
    // What one call of `rows` may be asked for, and the bytes of scratch that it takes.
    int64_t most_pictures() const { return group_; }
    int64_t most_rows() const { return band_; }
    size_t scratch() const { return (size_t)(group_ * slot_); }
    size_t weights() const;  // bytes, not what is shared

    // Output rows `rows` of `pictures` (counted through the batch: image * channels() + channel), before any table or
    // sum. `input`: the whole tensor. `out`: where the first of these rows of the first picture goes, `distance`
    // elements before that of the next. Elements are u8, or f32 if the output is.
    void rows(const uint8_t* input, Range pictures, Range rows, void* out, int64_t distance, uint8_t* scratch) const;

private:
    // Of a channel: where its steps begin, how many there are, and whether they are quads, else pairs.
    struct Start {
        uint32_t offset, weight;
        uint32_t steps : 31, quads : 1;
    };
    struct Channel {
        int32_t bias;
        float multiplier;
    };
    // The steps of one channel (depthwise.h).
    struct Steps {
        std::vector<int32_t> offsets;
        std::vector<int8_t> weights;
        std::vector<int8_t> taps;  // of one row, as far apart as their pixels, zeros around
    };
    void place(const ConvOp& op, int64_t height, int64_t width);
    void pack(const ConvOp& op);
    bool add_row(const DepthwiseForm& form, bool exact, int64_t first, Steps& steps) const;
    bool add_all(const DepthwiseForm& form, bool exact, const int8_t* weight, Steps& steps) const;
    // Pixels from the first tap of a row to the last, both included.
    int64_t wide() const { return (kernel_[1] - 1) * dilation_[1] + 1; }
    size_t step_bytes(const DepthwiseForm& form) const {
        return (size_t)(form.weight_bytes * (apart_ == 1 ? form.shifts : 1));
    }
    // From long rows of outputs to rows without the columns between.
    void copy_out(const DepthwiseTask* tasks, int64_t many, int64_t rows) const;

    const DepthwiseKernels& kernels_;
    bool floats_;
    int64_t out_height_ = 0, out_width_ = 0;
    int64_t kernel_[2], stride_[2], dilation_[2];
    int64_t top_ = 0;
    DepthwisePlane plane_{};
    int64_t apart_ = 0;  // pixels between the outputs that are computed: the horizontal stride, or a divisor of it
    int64_t every_ = 0;  // of the outputs computed, one in so many is wanted
    int64_t band_ = 0, group_ = 0;
    int64_t slot_ = 0, outputs_at_ = 0;  // bytes of scratch for a picture; where in it the outputs begin
    int zero_, low_, high_;              // as in Codes
    std::vector<Channel> channels_;
    std::vector<Start> starts_;
    std::vector<int32_t> offsets_;
    std::vector<int8_t> weights_;
    const Depthwise* packed_ = this;  // whose starts, offsets and weights are read
};

}  // namespace shoestring
