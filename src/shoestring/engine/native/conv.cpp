// Convolutions with more than one input a group: dense, 4x4 and 4x1 blocks, any kernel, stride, dilation and groups.
//
// Phase 0 (not for 1x1 kernels, which read their input as it is) spreads the input into padded planes. Phase 1 goes
// through tiles of pixels that fit into the cache; for each, all blocks of four outputs. A layer with few pixels is
// divided by outputs instead, so that each thread reads a part of the weights only.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "conv.h"
#include "conv_geometry.h"
#include "conv_packing.h"
#include "conv_rows.h"
#include "pointwise.h"
#include "step.h"

namespace shoestring {
namespace {

// Of input. Of 1x1 kernels a tenth of the second-level cache: more pixels for each block's weights, measured 1 to 3 %
// quicker than what fits into the first. Shifted planes are read once a tap, and stay in the first.
constexpr int64_t kTileBytes = 100 << 10, kShiftedTileBytes = 20 << 10;
constexpr int64_t kLeastTile = 64;  // pixels
// Costs, in quads that a block reads interleaved (measured on AVX2): a gathered quad of whole planes, one of planes
// shifted by taps, whose loads straddle cache lines, and interleaving a quad's rows.
constexpr double kGathering = 1.05, kShifting = 1.4, kInterleaving = 0.25;
// How much more a layer may cost for reading its input as the one does whose weights it shares. Where more is at stake
// than the models of costs can tell there are few outputs, and little to share.
constexpr double kAlike = 1.01;

int64_t up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

class ConvStep final : public Step {
public:
    ConvStep(const ConvOp& op, const Program& program, const Kernels& kernels, const ConvStep* like);

    int phases() const override { return geometry_.direct ? 1 : 2; }
    size_t scratch(int images, int parts) const override;
    void run(int phase, const Work& work) const noexcept override;
    const char* label() const override { return label_; }
    int64_t multiplies() const override { return 16 * packed_->quads() * geometry_.flat; }
    size_t weights() const override { return packed_->bytes() + tile_rows_.size() * sizeof(int32_t); }

private:
    struct Tile {
        int64_t image, begin, pixels;
    };
    // Rows gathered one by one; or interleaved in fours, those of a tile or whole planes beforehand.
    enum class Read { gathered, by_tile, by_plane };
    void choose(const ConvOp& op, const ConvStep* like);
    void pack(const ConvOp& op);
    int64_t rows_in() const { return geometry_.channels * geometry_.taps_high * geometry_.taps_wide; }
    int64_t blocks_in_group() const { return (geometry_.group_outputs + 3) / 4; }
    void spread(const Work& work) const;
    void compute(const Work& work, const Tile& tile, Range blocks) const;
    const uint8_t* input_of(const Work& work, const Tile& tile) const;
    void write(const Work& work, const Tile& tile, int64_t channel, const uint8_t* row) const;
    void write(const Work& work, const Tile& tile, int64_t channel, const int32_t* row, float multiplier) const;
    void finish(const Work& work, int64_t element, int64_t n) const;
    // Scratch: each image's planes, then each thread's own: its rows of output, then what it interleaves.
    int64_t staged_bytes() const { return geometry_.direct ? 0 : up(quads_in_ * 4 * geometry_.channel() + kSlack, 64); }
    int64_t rows_bytes() const { return 4 * (up(tile_, 64) + 64) * (floats_ ? 4 : 1); }
    int64_t own_bytes() const;
    uint8_t* own(const Work& work) const {
        return work.scratch + work.images * staged_bytes() + work.part * own_bytes();
    }

    ConvGeometry geometry_;
    const ConvKernels& conv_;
    const PointwiseKernels& pointwise_;
    int32_t input_, output_;
    int64_t in_elements_, out_elements_;
    uint8_t x_zero_;
    Read read_ = Read::gathered;
    bool floats_;
    int64_t quads_in_;  // input channels in fours
    int64_t tile_;
    bool dense_ = false;
    std::vector<int32_t> tile_rows_;  // by_tile, unless direct: where each row of a tile begins
    std::vector<uint8_t> table_, sum_table_;
    int32_t sum_tensor_, sum_swapped_, sum_low_, sum_high_;
    float sum_scales_[3]{};
    std::unique_ptr<PackedConv> packed_;
    char label_[32];
};

template <class T>
std::vector<T> copy_of(const Const<T>& constant) {
    return {constant.data, constant.data + constant.count};
}

ConvStep::ConvStep(const ConvOp& op, const Program& program, const Kernels& kernels, const ConvStep* like)
    : geometry_(op, program),
      conv_(*kernels.conv),
      pointwise_(*kernels.pointwise),
      input_(op.input),
      output_(op.output),
      in_elements_((int64_t)program.tensors[(size_t)op.input].elements),
      out_elements_((int64_t)program.tensors[(size_t)op.output].elements),
      x_zero_((uint8_t)op.x_zero),
      floats_(program.tensors[(size_t)op.output].dtype == DType::f32),
      quads_in_((geometry_.channels + 3) / 4),
      table_(copy_of(op.requantise.table)),
      sum_table_(copy_of(op.sum.table)),
      sum_tensor_(op.sum.tensor),
      sum_swapped_(op.sum.swapped),
      sum_low_(op.sum.low),
      sum_high_(op.sum.high) {
    if (quads_in_ * 4 * geometry_.channel() >= INT32_MAX - 4096)
        throw BadProgram("a convolution's padded input has more than 2^31 elements");
    if (op.sum.scales) std::memcpy(sum_scales_, op.sum.scales.data, sizeof sum_scales_);
    choose(op, like);
    // What a tile reads: its rows; or, of shifted planes, the pixels that all taps share.
    const int64_t rows = read_ == Read::by_tile ? rows_in() : geometry_.channels;
    const int64_t fitting = (geometry_.direct ? kTileBytes : kShiftedTileBytes) / rows / kLeastTile * kLeastTile;
    tile_ = std::min(up(geometry_.flat, 16), std::clamp<int64_t>(fitting, kLeastTile, 512));
    // Offsets in a tile depend on its size. A dense layer has few, the same for each block.
    if (like && read_ == Read::by_tile && like->read_ == read_ && !dense_) tile_ = std::min(tile_, like->tile_);
    pack(op);
    if (like && like->read_ == read_ && like->geometry_.groups == geometry_.groups)
        packed_->share(*like->packed_, (size_t)blocks_in_group(), (size_t)like->blocks_in_group());
}

// How the input is read: whichever executes least, by the weights that are there, or as `like` does where that is
// hardly more. Costs are in interleaved quads of one block, which is what interleaving four rows costs a quarter of.
void ConvStep::choose(const ConvOp& op, const ConvStep* like) {
    const int8_t* const weight = op.weight.data;
    const auto& g = geometry_;
    const int64_t taps = g.taps_high * g.taps_wide, per_output = g.group_inputs * taps;
    int64_t rows = 0, quads = 0, tile_quads = 0, blocks = 0;
    std::vector<uint8_t> whole((size_t)up(per_output, 4));
    uint8_t* const used = whole.data();  // not 0: the block has this row
    for (int64_t group = 0; group < g.groups; ++group)
        for (int64_t o = 0; o < g.group_outputs; o += 4, ++blocks) {
            std::fill(whole.begin(), whole.end(), 0);
            for (int64_t k = o; k < std::min(o + 4, g.group_outputs); ++k) {
                const int8_t* w = weight + (group * g.group_outputs + k) * per_output;
                for (int64_t i = 0; i < per_output; ++i) used[i] |= (uint8_t)w[i];
            }
            rows += (per_output - std::count(used, used + per_output, 0) + 3) / 4;
            for (int64_t i = 0; i < per_output; i += 4)
                tile_quads += (used[i] | used[i + 1] | used[i + 2] | used[i + 3]) != 0;
            for (int64_t c = 0; c < g.group_inputs && !g.direct; c += 4)
                for (int64_t t = 0; t < taps; ++t) {
                    uint8_t any = 0;
                    for (int64_t i = c; i < std::min(c + 4, g.group_inputs); ++i) any |= used[i * taps + t];
                    quads += any != 0;
                }
        }
    const double gathered = floats_ ? HUGE_VAL : (g.direct ? kGathering : kShifting) * (double)rows;
    const bool one_group = g.groups == 1;
    const double by_tile = one_group ? (double)tile_quads + kInterleaving * (double)(per_output + 3) / 4 : HUGE_VAL;
    const double by_plane = !g.direct && (one_group || g.group_inputs % 4 == 0)
                                ? (double)quads + kInterleaving * (double)(quads_in_ * g.channel()) / (double)g.flat
                                : HUGE_VAL;
    const double costs[] = {gathered, by_tile, by_plane}, least = std::min({gathered, by_tile, by_plane});
    read_ = gathered < std::min(by_tile, by_plane) ? Read::gathered
            : by_tile <= by_plane                  ? Read::by_tile
                                                   : Read::by_plane;
    if (like && costs[(int)like->read_] <= kAlike * least) read_ = like->read_;
    if (floats_ && !one_group && g.group_inputs % 4)
        throw BadProgram("a grouped convolution with float outputs needs a multiple of 4 inputs");
    const int64_t executed = read_ == Read::gathered ? rows : read_ == Read::by_tile ? tile_quads : quads;
    const auto& r = op.requantise;
    packed_ = std::make_unique<PackedConv>(Codes{0, r.zero, r.low, r.high}, read_ != Read::gathered, conv_);
    packed_->reserve((size_t)blocks, (size_t)executed);
    const int64_t possible =
        blocks * (read_ == Read::by_plane ? (g.group_inputs + 3) / 4 * taps : (per_output + 3) / 4);
    dense_ = executed * 10 >= possible * 9;
    const char* form = dense_ ? "dense" : read_ == Read::gathered ? "4x1" : "4x4";
    std::snprintf(label_, sizeof label_, "conv %dx%d %s", (int)g.taps_high, (int)g.taps_wide, form);
}

void ConvStep::pack(const ConvOp& op) {
    const auto& g = geometry_;
    const int64_t taps = g.taps_high * g.taps_wide, per_output = g.group_inputs * taps;
    const bool listed = read_ == Read::by_tile && !g.direct;
    if (listed) tile_rows_.reserve((size_t)per_output);
    for (int64_t c = 0; listed && c < g.group_inputs; ++c)
        for (int64_t t = 0; t < taps; ++t)
            tile_rows_.push_back((int32_t)(c * g.channel() + g.shift(t / g.taps_wide, t % g.taps_wide)));
    std::vector<Row> rows;
    std::vector<Quad> quads;
    for (int64_t group = 0; group < g.groups; ++group)
        for (int64_t first = 0; first < g.group_outputs; first += 4) {
            const int64_t at = group * g.group_outputs + first;
            Columns columns{{}, taps, g.group_inputs};
            int32_t bias[4] = {};
            float multipliers[4] = {};
            for (int64_t k = 0; k < std::min<int64_t>(4, g.group_outputs - first); ++k) {
                const int8_t* w = columns.of[k] = op.weight.data + (at + k) * per_output;
                uint32_t sum = 0;  // wraps, as accumulators do
                for (int64_t i = 0; i < per_output; ++i) sum += (uint32_t)w[i];
                const int32_t own = op.requantise.bias ? op.requantise.bias.data[at + k] : 0;
                bias[k] = (int32_t)((uint32_t)own + (uint32_t)(conv_.input_offset - op.x_zero) * sum);
                multipliers[k] = op.requantise.multiplier.data[at + k];
            }
            if (read_ == Read::gathered) {
                rows_of(columns, g, rows);
                packed_->add_rows(rows, bias, multipliers);
            } else {
                if (read_ == Read::by_tile)
                    tile_quads_of(columns, up(tile_, 16), quads);
                else
                    plane_quads_of(columns, g, quads);
                packed_->add_quads(quads, bias, multipliers);
            }
        }
}

int64_t ConvStep::own_bytes() const {
    const int64_t interleaved = read_ == Read::by_plane  ? 4 * geometry_.channel()
                                : read_ == Read::by_tile ? up(rows_in(), 4) * up(tile_, 16)
                                                         : 0;
    return up(rows_bytes() + interleaved + kSlack, 64);
}

size_t ConvStep::scratch(int images, int parts) const {
    return (size_t)(images * staged_bytes() + parts * own_bytes());
}

void ConvStep::run(int phase, const Work& work) const noexcept {
    if (phase == 0 && !geometry_.direct) return spread(work);
    const int64_t tiles = (geometry_.flat + tile_ - 1) / tile_, all = tiles * work.images;
    const int64_t blocks = (int64_t)packed_->size();
    const bool by_outputs = work.parts > 1 && all < 4 * work.parts && blocks >= work.parts;
    const Range mine = by_outputs ? Range{0, all} : share(all, work.part, work.parts);
    const Range these = by_outputs ? share(blocks, work.part, work.parts) : Range{0, blocks};
    for (int64_t i = mine.begin; i < mine.end; ++i) {
        const int64_t begin = i % tiles * tile_;
        compute(work, {i / tiles, begin, std::min(tile_, geometry_.flat - begin)}, these);
    }
}

void ConvStep::spread(const Work& work) const {
    const auto& g = geometry_;
    const Range mine = share(work.images * quads_in_, work.part, work.parts);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
        const int64_t image = i / quads_in_, first = i % quads_in_ * 4;
        uint8_t* planes = work.scratch + image * staged_bytes() + first * g.channel();
        uint8_t* to = read_ == Read::by_plane ? own(work) + rows_bytes() : planes;
        const uint8_t* rows[4];
        for (int64_t c = 0; c < 4; ++c) {
            const bool there = first + c < g.channels;
            rows[c] = there ? to + c * g.channel() : to;  // a channel that is not there has no weight
            if (there)
                g.spread(work.tensor(input_) + image * in_elements_ + (first + c) * g.height * g.width, x_zero_,
                         to + c * g.channel());
        }
        if (read_ == Read::by_plane) conv_.interleave(rows, g.channel(), planes);
    }
}

// Where the kernel reads the tile's first pixel.
const uint8_t* ConvStep::input_of(const Work& work, const Tile& tile) const {
    const uint8_t* from =
        geometry_.direct ? work.tensor(input_) + tile.image * in_elements_ : work.scratch + tile.image * staged_bytes();
    if (read_ == Read::by_plane) return from + 4 * tile.begin;
    if (read_ == Read::gathered) return from + tile.begin;
    uint8_t* const to = own(work) + rows_bytes();
    const int64_t n = rows_in();
    for (int64_t r = 0; r < n; r += 4) {
        const uint8_t* rows[4];
        for (int64_t i = 0; i < 4; ++i) {
            const int64_t row = std::min(r + i, n - 1);  // those behind the last have no weight
            rows[i] = from + tile.begin + (geometry_.direct ? row * geometry_.plane : tile_rows_[(size_t)row]);
        }
        conv_.interleave(rows, tile.pixels, to + r * up(tile_, 16));
    }
    return to;
}

void ConvStep::compute(const Work& work, const Tile& tile, Range blocks) const {
    const auto& g = geometry_;
    const uint8_t* input = input_of(work, tile);
    const int64_t a_group = blocks_in_group(), stride = (up(tile_, 64) + 64) * (floats_ ? 4 : 1);
    const int64_t plane = g.out_height * g.out_width;
    uint8_t* const rows = own(work);
    ConvBlock block = packed_->empty();
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        packed_->fill((size_t)b, block);
        const int64_t first = b % a_group * 4, channel = b / a_group * g.group_outputs + first;
        const uint8_t* from = input + b / a_group * g.group_inputs * g.channel();
        const int64_t outputs = std::min<int64_t>(4, g.group_outputs - first);
        uint8_t* const image = work.tensor(output_) + tile.image * out_elements_;
        if (floats_) {
            int32_t* out[4];
            for (int64_t k = 0; k < 4; ++k) out[k] = reinterpret_cast<int32_t*>(rows + k * stride);
            conv_.accumulated(block, from, tile.pixels, out);
            for (int64_t k = 0; k < outputs; ++k) write(work, tile, channel + k, out[k], block.multipliers[k]);
            continue;
        }
        uint8_t* out[4];
        for (int64_t k = 0; k < 4; ++k)
            out[k] = g.gapless && k < outputs ? image + (channel + k) * plane + tile.begin : rows + k * stride;
        (read_ == Read::gathered ? conv_.gathered : conv_.interleaved)(block, from, tile.pixels, out);
        for (int64_t k = 0; k < outputs; ++k)
            if (g.gapless)
                finish(work, tile.image * out_elements_ + (channel + k) * plane + tile.begin, tile.pixels);
            else
                write(work, tile, channel + k, out[k]);
    }
}

// Calls `each(element, column, n)` for every run of wanted pixels of a tile: `element` of the output, from the start of
// the batch, and `column` of the tile.
template <class Each>
void runs(const ConvGeometry& g, int64_t first, int64_t begin, int64_t pixels, Each each) {
    for (int64_t y = begin / g.row, at = begin; at < begin + pixels; ++y, at = y * g.row) {
        const int64_t x = at - y * g.row, n = std::min(g.out_width - x, begin + pixels - at);
        if (n > 0) each(first + y * g.out_width + x, at - begin, n);
    }
}

void ConvStep::write(const Work& work, const Tile& tile, int64_t channel, const uint8_t* row) const {
    const int64_t first = tile.image * out_elements_ + channel * geometry_.out_height * geometry_.out_width;
    runs(geometry_, first, tile.begin, tile.pixels, [&](int64_t element, int64_t column, int64_t n) {
        std::memcpy(work.tensor(output_) + element, row + column, (size_t)n);
        finish(work, element, n);
    });
}

void ConvStep::write(const Work& work, const Tile& tile, int64_t channel, const int32_t* row, float multiplier) const {
    const int64_t first = tile.image * out_elements_ + channel * geometry_.out_height * geometry_.out_width;
    runs(geometry_, first, tile.begin, tile.pixels, [&](int64_t element, int64_t column, int64_t n) {
        float* out = work.tensor<float>(output_) + element;
        for (int64_t i = 0; i < n; ++i) out[i] = (float)row[column + i] * multiplier;
    });
}

// The table and the sum, while what was written is in the cache.
void ConvStep::finish(const Work& work, int64_t element, int64_t n) const {
    uint8_t* out = work.tensor(output_) + element;
    if (!table_.empty()) pointwise_.table(out, out, (size_t)n, table_.data());
    if (sum_tensor_ < 0) return;
    const uint8_t* other = work.tensor(sum_tensor_) + element;
    pointwise_.sum(sum_swapped_ ? other : out, sum_swapped_ ? out : other, out, (size_t)n, sum_scales_, sum_low_,
                   sum_high_);
    if (!sum_table_.empty()) pointwise_.table(out, out, (size_t)n, sum_table_.data());
}

}  // namespace

std::unique_ptr<Step> make_conv(const ConvOp& op, const Program& program, const Kernels& kernels, const Step* like) {
    return std::make_unique<ConvStep>(op, program, kernels, dynamic_cast<const ConvStep*>(like));
}

}  // namespace shoestring
