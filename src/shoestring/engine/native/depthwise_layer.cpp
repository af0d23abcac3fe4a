#include "depthwise_layer.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace shoestring {
namespace {

// Of the first-level cache, for the scratch of the pictures in hand.
constexpr int64_t kHot = 20 << 10;
constexpr int64_t kMostPictures = 16;
// The widest vector: how far behind a row its last one may reach.
constexpr int64_t kVector = 64;
// Zeros around a row of taps: more than a chunk of them, shifted and moved, reaches.
constexpr int64_t kMargin = 8;

int64_t up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

// Whether products of bytes with these four weights may be added in twos in 16 bits.
bool fits(const int8_t* w) {
    for (int i = 0; i < 4; i += 2)
        if ((w[i] < 0) == (w[i + 1] < 0) && (w[i] + w[i + 1] > 128 || w[i] + w[i + 1] < -128)) return false;
    return true;
}

// For each task, rows of n bytes, `apart` bytes from one to the next, to be one behind the other. A row's last piece
// overlaps the one before, so that nothing is written beyond the row; `two`: there are just these.
template <size_t piece, bool two>
void pack_rows(const DepthwiseTask* tasks, int64_t many, int64_t apart, int64_t rows, size_t n) {
    for (const DepthwiseTask* task = tasks; task < tasks + many; ++task) {
        const auto* from = (const uint8_t*)task->outputs;
        auto* to = (uint8_t*)task->out;
        for (int64_t y = 0; y < rows; ++y, from += apart, to += n) {
            for (size_t x = 0; two ? x == 0 : x + piece < n; x += piece) std::memcpy(to + x, from + x, piece);
            std::memcpy(to + n - piece, from + n - piece, piece);
        }
    }
}

// The same of elements of which one in `every` is wanted.
template <class T>
void pick_rows(const DepthwiseTask& task, int64_t apart, int64_t rows, int64_t wanted, int64_t every) {
    const T* from = (const T*)task.outputs;
    T* to = (T*)task.out;
    for (int64_t y = 0; y < rows; ++y, from += apart)
        for (int64_t x = 0; x < wanted; ++x) *to++ = from[x * every];
}

}  // namespace

Depthwise::Depthwise(const ConvOp& op, const Program& program, const Kernels& kernels)
    : kernels_(*kernels.depthwise),
      floats_(program.tensors[(size_t)op.output].dtype == DType::f32),
      kernel_{op.kernel[0], op.kernel[1]},
      stride_{op.stride[0], op.stride[1]},
      dilation_{op.dilation[0], op.dilation[1]},
      zero_(op.requantise.zero),
      low_(op.requantise.low),
      high_(op.requantise.high) {
    const Tensor &in = program.tensors[(size_t)op.input], &out = program.tensors[(size_t)op.output];
    out_height_ = out.shape[1], out_width_ = out.shape[2];
    place(op, in.shape[1], in.shape[2]);
    pack(op);
}

// Chooses what lies where. In a plane the zero points to the right of a row are those to the left of the next.
void Depthwise::place(const ConvOp& op, int64_t height, int64_t width) {
    const int64_t wide = this->wide(), high = (kernel_[0] - 1) * dilation_[0] + 1;
    const int64_t left = op.pads[1], reach = (out_width_ - 1) * stride_[1];
    const int64_t right = std::max<int64_t>(0, reach + wide - left - width);
    apart_ = stride_[1] % 2 == 0 ? 2 : 1, every_ = stride_[1] / apart_;
    top_ = op.pads[0];
    plane_.height = height, plane_.width = width, plane_.zero = (uint8_t)op.x_zero, plane_.phases = stride_[0];
    plane_.left = left + 1;  // add_row may move a step by a pixel
    plane_.row = up(std::max(width + std::max(left, right), reach + 1), apart_);

    // As many output rows at once as stay hot, in even bands; or several pictures, where whole ones are small.
    const int64_t touched = kernels_.outputs * apart_ + wide + 2 * kVector;  // behind the last row, by the last vectors
    const int64_t element = floats_ ? 4 : 1, a_row = (2 * plane_.phases + element) * plane_.row;
    const auto take = [&](int64_t rows) {
        band_ = rows;
        plane_.phase = plane_.left + (rows + (high - 1) / stride_[0]) * plane_.row + kVector;
        outputs_at_ = up(2 * (plane_.phase * plane_.phases + touched), kVector);
        slot_ = outputs_at_ + up(rows * plane_.row / apart_, kernels_.outputs) * element;
    };
    take(1);
    const int64_t fitting = std::clamp<int64_t>(1 + (kHot - slot_) / a_row, 1, out_height_);
    const int64_t bands = (out_height_ + fitting - 1) / fitting;
    take((out_height_ + bands - 1) / bands);
    group_ = bands > 1 ? 1 : std::clamp<int64_t>(kHot / slot_, 1, kMostPictures);
    if (plane_.phase * plane_.phases > INT32_MAX / 4)
        throw BadProgram("a depthwise convolution's rows are too long: " + std::to_string(plane_.row) + " pixels");
}

// Appends the steps of the row of the kernel in `steps.taps`; `first`: where in the plane its first tap finds its pixel
// for the first output. False where that would not be exact.
bool Depthwise::add_row(const DepthwiseForm& form, bool exact, int64_t first, Steps& steps) const {
    const int64_t shifts = apart_ == 1 ? form.shifts : 1;
    const size_t offsets = steps.offsets.size(), weights = steps.weights.size();
    // Moved by a pixel, other taps are neighbours.
    for (int64_t move = 0; move < (exact ? 1 : 2); ++move) {
        bool good = true;
        for (int64_t at = -move; at + 1 - shifts < wide() && good; at += form.taps) {
            int8_t packed[32];
            bool any = false;
            for (int64_t shift = 0; shift < shifts; ++shift) {
                const int8_t* chunk = &steps.taps[(size_t)(kMargin + at - shift)];
                for (int64_t k = 0; k < form.taps; ++k) any |= chunk[k] != 0;
                good = good && (exact || fits(chunk));
                form.pack(chunk, packed + shift * form.weight_bytes);
            }
            if (!any) continue;
            steps.offsets.push_back((int32_t)(first + at));
            steps.weights.insert(steps.weights.end(), packed, packed + shifts * form.weight_bytes);
        }
        if (good) return true;
        steps.offsets.resize(offsets), steps.weights.resize(weights);
    }
    return false;
}

bool Depthwise::add_all(const DepthwiseForm& form, bool exact, const int8_t* weight, Steps& steps) const {
    steps.offsets.clear(), steps.weights.clear();
    steps.taps.resize((size_t)(wide() + 2 * kMargin));
    for (int64_t y = 0; y < kernel_[0]; ++y) {
        const int64_t row = y * dilation_[0];
        const int64_t first = 1 + row % plane_.phases * plane_.phase + row / plane_.phases * plane_.row;
        for (int64_t x = 0; x < kernel_[1]; ++x)
            steps.taps[(size_t)(kMargin + x * dilation_[1])] = weight[y * kernel_[1] + x];
        if (!add_row(form, exact, first, steps)) return false;
    }
    return true;
}

// Each channel in the form that takes fewer instructions: a step of quads is three where `widens`, one of pairs two.
void Depthwise::pack(const ConvOp& op) {
    const int64_t taps = kernel_[0] * kernel_[1], channels = op.groups;
    Steps pairs, quads;
    channels_.reserve((size_t)channels), starts_.reserve((size_t)channels);
    for (int64_t c = 0; c < channels; ++c) {
        const int8_t* weight = op.weight.data + c * taps;
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
        channels_.push_back({(int32_t)(own + (input_offset - op.x_zero) * sum), op.requantise.multiplier.data[c]});
        if (c == 0) weights_.reserve((size_t)channels * steps.weights.size());  // most channels are alike
        // Offsets are mostly those of the channel before.
        const size_t count = steps.offsets.size();
        const bool again =
            c > 0 && starts_.back().steps == count &&
            std::equal(steps.offsets.begin(), steps.offsets.end(), offsets_.begin() + (int64_t)starts_.back().offset);
        const size_t offset = again ? starts_.back().offset : offsets_.size();
        if (!again) offsets_.insert(offsets_.end(), steps.offsets.begin(), steps.offsets.end());
        if (count > INT32_MAX || offset > UINT32_MAX || weights_.size() > UINT32_MAX) throw std::bad_alloc();
        starts_.push_back({(uint32_t)offset, (uint32_t)weights_.size(), (uint32_t)count, use_quads});
        weights_.insert(weights_.end(), steps.weights.begin(), steps.weights.end());
    }
    offsets_.shrink_to_fit();
}

void Depthwise::share(const Depthwise& base) {
    const auto bytes = [&](const Start& start) {
        return start.steps * step_bytes(start.quads ? kernels_.quads : kernels_.pairs);
    };
    if (base.packed_ != &base || base.channels() < channels() || base.apart_ != apart_) return;
    for (size_t c = 0; c < starts_.size(); ++c) {
        const Start &mine = starts_[c], &theirs = base.starts_[c];
        const int32_t* offsets = offsets_.data() + mine.offset;
        const int8_t* weights = weights_.data() + mine.weight;
        const bool same = mine.steps == theirs.steps && mine.quads == theirs.quads &&
                          std::equal(offsets, offsets + mine.steps, base.offsets_.data() + theirs.offset) &&
                          std::equal(weights, weights + bytes(mine), base.weights_.data() + theirs.weight);
        if (!same) return;
    }
    packed_ = &base;
    starts_ = {}, offsets_ = {}, weights_ = {};
}

size_t Depthwise::weights() const {
    return channels_.size() * sizeof(Channel) + starts_.size() * sizeof(Start) + offsets_.size() * sizeof(int32_t) +
           weights_.size();
}

void Depthwise::copy_out(const DepthwiseTask* tasks, int64_t many, int64_t rows) const {
    const int64_t row = plane_.row / apart_, element = floats_ ? 4 : 1;
    if (every_ > 1) {
        for (int64_t i = 0; i < many; ++i)
            (floats_ ? pick_rows<float> : pick_rows<uint8_t>)(tasks[i], row, rows, out_width_, every_);
        return;
    }
    const size_t n = (size_t)(out_width_ * element);
    const auto pack = n > 32    ? pack_rows<32, false>
                      : n >= 16 ? pack_rows<16, true>
                      : n >= 8  ? pack_rows<8, true>
                      : n >= 4  ? pack_rows<4, true>
                                : pack_rows<1, false>;
    pack(tasks, many, row * element, rows, n);
}

void Depthwise::rows(const uint8_t* input, Range pictures, Range rows, void* out, int64_t distance,
                     uint8_t* scratch) const {
    const int64_t count = rows.end - rows.begin, picture = plane_.height * plane_.width;
    const int64_t filled = (count - 1) * stride_[0] + (kernel_[0] - 1) * dilation_[0] + 1;
    const int64_t computed = (count - 1) * (plane_.row / apart_) + (out_width_ - 1) * every_ + 1;
    // Those of one form one behind the other. One kind of work is done to all before the next, so that what one
    // picture's stores left in flight has landed when it is read.
    DepthwiseTask tasks[kMostPictures];
    DepthwiseChannel made[kMostPictures];
    const int64_t n = pictures.end - pictures.begin;
    int64_t quads = 0, pairs = n, channel = pictures.begin % channels();
    for (int64_t i = 0; i < n; ++i) {
        const Start& start = packed_->starts_[(size_t)channel];
        const Channel& own = channels_[(size_t)channel];
        made[i] = {packed_->offsets_.data() + start.offset,
                   packed_->weights_.data() + start.weight,
                   (int32_t)start.steps,
                   own.bias,
                   {own.multiplier, zero_, low_, high_}};
        const bool quad = start.quads;
        const int64_t at = quad ? quads : pairs - 1;
        uint8_t* slot = scratch + at * slot_;
        tasks[at] = {input + (pictures.begin + i) * picture, &made[i], slot, slot + outputs_at_,
                     (uint8_t*)out + i * distance * (floats_ ? 4 : 1)};
        quads += quad, pairs -= !quad;
        channel = channel + 1 < channels() ? channel + 1 : 0;
    }
    const auto compute = [&](const DepthwiseForm& form, const DepthwiseTask* first, int64_t many) {
        if (many == 0) return;
        form.fill(first, many, plane_, rows.begin * stride_[0] - top_, filled);
        (floats_ ? form.floats : form.codes)[apart_ - 1](first, many, computed);
    };
    compute(kernels_.quads, tasks, quads);
    compute(kernels_.pairs, tasks + quads, n - quads);
    copy_out(tasks, n, count);
}

}  // namespace shoestring
