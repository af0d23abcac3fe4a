#include "depthwise_layer.h"

#include <algorithm>
#include <cstring>

namespace shoestring {
namespace {

// Of the first-level cache, for the scratch of the pictures in hand.
constexpr int64_t kHot = 20 << 10;
constexpr int64_t kMostPictures = 16;
// The widest vector: how far behind a row its last one may reach.
constexpr int64_t kVector = 64;

int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Whether products of bytes with these four weights may be added in twos in 16 bits.
bool fits(const int8_t* w) {
    for (int i = 0; i < 4; i += 2)
        if ((w[i] < 0) == (w[i + 1] < 0) && (w[i] + w[i + 1] > 128 || w[i] + w[i + 1] < -128)) return false;
    return true;
}

// Rows of n bytes, `apart` bytes from one to the next, to be one behind the other: two copies of `piece` bytes at most
// overlap, none reaches beyond a row's end.
template <size_t piece>
void pack_rows(const uint8_t* from, int64_t apart, int64_t rows, size_t n, uint8_t* to) {
    for (int64_t y = 0; y < rows; ++y, from += apart, to += n) {
        for (size_t x = 0; x + piece < n; x += piece) std::memcpy(to + x, from + x, piece);
        std::memcpy(to + n - piece, from + n - piece, piece);
    }
}

}  // namespace

Depthwise::Depthwise(const ConvOp& op, const Program& program, const Kernels& kernels)
    : kernels_(*kernels.depthwise),
      floats_(program.tensors[(size_t)op.output].dtype == DType::f32),
      kernel_{op.kernel[0], op.kernel[1]},
      stride_{op.stride[0], op.stride[1]},
      dilation_{op.dilation[0], op.dilation[1]},
      codes_{0, op.requantise.zero, op.requantise.low, op.requantise.high} {
    const std::vector<int32_t>&in = program.tensors[(size_t)op.input].shape,
    &out = program.tensors[(size_t)op.output].shape;
    out_height_ = out[1], out_width_ = out[2];
    place(op, in[1], in[2]);
    pack(op);
}

// Chooses what lies where. In a plane the zero points to the right of a row are those to the left of the next.
void Depthwise::place(const ConvOp& op, int64_t height, int64_t width) {
    const int64_t wide = (kernel_[1] - 1) * dilation_[1] + 1, high = (kernel_[0] - 1) * dilation_[0] + 1;
    const int64_t left = op.pads[1], reach = (out_width_ - 1) * stride_[1];
    const int64_t right = std::max<int64_t>(0, reach + wide - left - width);
    apart_ = stride_[1] % 2 == 0 ? 2 : 1, every_ = stride_[1] / apart_;
    top_ = op.pads[0];
    plane_.height = height, plane_.width = width, plane_.zero = (uint8_t)op.x_zero, plane_.phases = stride_[0];
    plane_.left = left + 1;  // add_row may move a step by a pixel
    plane_.row = up(std::max(width + std::max(left, right), reach + 1), apart_);

    const int64_t touched = kernels_.outputs * apart_ + wide + 2 * kVector;  // behind the last row, by the last vectors
    const auto bytes = [&](int64_t rows) {  // for so many output rows
        plane_.phase = plane_.left + (rows + (high - 1) / stride_[0]) * plane_.row + kVector;
        outputs_at_ = up(2 * (plane_.phase * plane_.phases + touched), kVector);
        slot_ = outputs_at_ + up(rows * plane_.row / apart_, kernels_.outputs) * (floats_ ? 4 : 1);
    };
    band_ = out_height_;
    for (int64_t bands = 2; bytes(band_), slot_ > kHot && band_ > 1; ++bands) band_ = (out_height_ + bands - 1) / bands;
    group_ = band_ < out_height_ ? 1 : std::clamp<int64_t>(kHot / slot_, 1, kMostPictures);
    if (plane_.phase * plane_.phases > INT32_MAX / 4)
        throw BadProgram("a depthwise convolution's rows are too long: " + std::to_string(plane_.row) + " pixels");
}

// Appends the steps of one row of the kernel: `weight` its taps, `first` where in the plane the first finds its pixel
// for the first output. False where that would not be exact.
bool Depthwise::add_row(const DepthwiseForm& form, bool exact, const int8_t* weight, int64_t first, Steps& steps) const {
    const int64_t wide = (kernel_[1] - 1) * dilation_[1] + 1, shifts = apart_ == 1 ? form.shifts : 1;
    // Moved by a pixel, other taps are neighbours.
    for (int64_t move = 0; move < (exact ? 1 : 2); ++move) {
        Steps row;
        bool good = true;
        for (int64_t at = -move; at + 1 - shifts < wide && good; at += form.taps) {
            bool any = false;
            row.offsets.push_back((int32_t)(first + at));
            for (int64_t shift = 0; shift < shifts; ++shift) {
                int8_t chunk[4] = {}, packed[16];
                for (int64_t k = 0; k < form.taps; ++k) {
                    const int64_t x = at + k - shift;
                    if (x >= 0 && x < wide && x % dilation_[1] == 0) chunk[k] = weight[x / dilation_[1]];
                    any |= chunk[k] != 0;
                }
                good = good && (exact || fits(chunk));
                form.pack(chunk, packed);
                row.weights.insert(row.weights.end(), packed, packed + form.weight_bytes);
            }
            if (any) continue;
            row.offsets.pop_back();
            row.weights.resize(row.weights.size() - (size_t)(shifts * form.weight_bytes));
        }
        if (!good) continue;
        steps.offsets.insert(steps.offsets.end(), row.offsets.begin(), row.offsets.end());
        steps.weights.insert(steps.weights.end(), row.weights.begin(), row.weights.end());
        return true;
    }
    return false;
}

bool Depthwise::add_all(const DepthwiseForm& form, bool exact, const int8_t* weight, Steps& steps) const {
    for (int64_t y = 0; y < kernel_[0]; ++y) {
        const int64_t row = y * dilation_[0];
        const int64_t first = 1 + row % plane_.phases * plane_.phase + row / plane_.phases * plane_.row;
        if (!add_row(form, exact, weight + y * kernel_[1], first, steps)) return false;
    }
    return true;
}

// Each channel in the form that takes fewer instructions: a step of quads is three where `widens`, one of pairs two.
void Depthwise::pack(const ConvOp& op) {
    const int64_t taps = kernel_[0] * kernel_[1], channels = op.groups;
    for (int64_t c = 0; c < channels; ++c) {
        const int8_t* weight = op.weight.data + c * taps;
        Steps pairs, quads;
        bool use_quads = add_all(kernels_.quads, !kernels_.widens, weight, quads);
        if (kernels_.widens) {
            add_all(kernels_.pairs, true, weight, pairs);
            use_quads = use_quads && 3 * quads.offsets.size() < 2 * pairs.offsets.size();
        }
        const Steps& steps = use_quads ? quads : pairs;
        const int input_offset = (use_quads ? kernels_.quads : kernels_.pairs).input_offset;
        int64_t sum = 0;
        for (int64_t t = 0; t < taps; ++t) sum += weight[t];
        const int64_t own = op.requantise.bias ? op.requantise.bias.data[c] : 0;
        channels_.push_back({offsets_.size(), weights_.size(), (int32_t)steps.offsets.size(),
                             (int32_t)(own + (input_offset - op.x_zero) * sum), op.requantise.multiplier.data[c],
                             use_quads});
        offsets_.insert(offsets_.end(), steps.offsets.begin(), steps.offsets.end());
        weights_.insert(weights_.end(), steps.weights.begin(), steps.weights.end());
    }
}

// From the long row of outputs to rows without the columns between.
template <class T>
void Depthwise::copy_out(const T* from, int64_t rows, T* to) const {
    const int64_t row = plane_.row / apart_;
    if (every_ > 1) {
        for (int64_t y = 0; y < rows; ++y, from += row)
            for (int64_t x = 0; x < out_width_; ++x) *to++ = from[x * every_];
        return;
    }
    const size_t n = (size_t)out_width_ * sizeof(T);
    const auto pack = n >= 16 ? pack_rows<16> : n >= 8 ? pack_rows<8> : n >= 4 ? pack_rows<4> : pack_rows<1>;
    pack((const uint8_t*)from, row * (int64_t)sizeof(T), rows, n, (uint8_t*)to);
}

void Depthwise::rows(const uint8_t* input, Range pictures, Range rows, void* out, int64_t distance,
                     uint8_t* scratch) const {
    const int64_t count = rows.end - rows.begin, picture = plane_.height * plane_.width;
    const int64_t filled = (count - 1) * stride_[0] + (kernel_[0] - 1) * dilation_[0] + 1;
    const int64_t computed = (count - 1) * (plane_.row / apart_) + (out_width_ - 1) * every_ + 1;
    // One loop behind the other, so that what one picture's stores left in flight has landed when it is read.
    const auto each = [&](auto body) {
        for (int64_t i = 0; i < pictures.end - pictures.begin; ++i)
            body(i, channels_[(size_t)((pictures.begin + i) % channels())], scratch + i * slot_);
    };
    each([&](int64_t i, const Channel& c, uint8_t* slot) {
        form(c).fill(input + (pictures.begin + i) * picture, plane_, rows.begin * stride_[0] - top_, filled, slot);
    });
    each([&](int64_t, const Channel& c, uint8_t* slot) {
        Codes codes = codes_;
        codes.multiplier = c.multiplier;
        const DepthwiseChannel channel = {&offsets_[c.offsets], &weights_[c.weights], c.steps, c.bias, codes};
        if (floats_) form(c).floats[apart_ - 1](slot, channel, computed, (float*)(slot + outputs_at_));
        else form(c).codes[apart_ - 1](slot, channel, computed, slot + outputs_at_);
    });
    each([&](int64_t i, const Channel&, uint8_t* slot) {
        if (floats_) copy_out((const float*)(slot + outputs_at_), count, (float*)out + i * distance);
        else copy_out(slot + outputs_at_, count, (uint8_t*)out + i * distance);
    });
}

}  // namespace shoestring
