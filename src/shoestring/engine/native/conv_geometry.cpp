#include "conv_geometry.h"

#include <algorithm>
#include <cstring>

namespace shoestring {
namespace {

// Every `stride`-th byte. A stride that is known makes a loop that compilers turn into vectors.
void take(const uint8_t* __restrict from, uint8_t* __restrict to, int64_t n, int64_t stride) {
    if (stride == 1)
        std::memcpy(to, from, (size_t)n);
    else if (stride == 2)
        for (int64_t i = 0; i < n; ++i) to[i] = from[2 * i];
    else
        for (int64_t i = 0; i < n; ++i) to[i] = from[stride * i];
}

}  // namespace

ConvGeometry::ConvGeometry(const ConvOp& op, const Program& program) {
    const auto &in = program.tensors[(size_t)op.input].shape, &out = program.tensors[(size_t)op.output].shape;
    channels = in[0], height = in[1], width = in[2];
    outputs = out[0], out_height = out[1], out_width = out[2];
    groups = op.groups, group_inputs = channels / groups, group_outputs = outputs / groups;
    taps_high = op.kernel[0], taps_wide = op.kernel[1];
    for (int i = 0; i < 2; ++i) stride[i] = op.stride[i], dilation[i] = op.dilation[i];
    top = op.pads[0], left = op.pads[1];
    const int64_t right = op.pads[3];
    direct = taps_high == 1 && taps_wide == 1 && stride[0] == 1 && stride[1] == 1 && top == 0 && left == 0 &&
             op.pads[2] == 0 && right == 0;
    if (direct) {
        row = width, rows = height, plane = height * width, phases = 1, flat = plane, gapless = true;
        return;
    }
    const int64_t reach_y = (taps_high - 1) * dilation[0] / stride[0],
                  reach_x = (taps_wide - 1) * dilation[1] / stride[1];
    phases =
        std::min(stride[0], (taps_high - 1) * dilation[0] + 1) * std::min(stride[1], (taps_wide - 1) * dilation[1] + 1);
    // With stride 1 the padding on the right of a row is also that on the left of the next.
    row = stride[1] == 1 ? width + std::max(left, right) : out_width + reach_x;
    rows = out_height + reach_y;
    flat = (out_height - 1) * row + out_width;
    gapless = row == out_width;
    plane = rows * row + (stride[1] == 1 ? left + right : 0);
}

int64_t ConvGeometry::shift(int64_t tap_y, int64_t tap_x) const {
    if (direct) return 0;
    const int64_t y = tap_y * dilation[0], x = tap_x * dilation[1];
    const int64_t phases_wide = std::min(stride[1], (taps_wide - 1) * dilation[1] + 1);
    const int64_t phase = y % stride[0] * phases_wide + x % stride[1];
    return phase * plane + y / stride[0] * row + x / stride[1];
}

void ConvGeometry::spread(const uint8_t* image, uint8_t pad, uint8_t* planes) const {
    std::memset(planes, pad, (size_t)channel());
    const int64_t high = std::min(stride[0], (taps_high - 1) * dilation[0] + 1);
    const int64_t wide = std::min(stride[1], (taps_wide - 1) * dilation[1] + 1);
    for (int64_t py = 0; py < high; ++py)
        for (int64_t px = 0; px < wide; ++px, planes += plane)
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t y = r * stride[0] + py - top;
                if (y < 0 || y >= height) continue;
                const uint8_t* from = image + y * width;
                // Column c of the plane is column c * stride + px - left of the picture.
                const int64_t first = px >= left ? 0 : (left - px + stride[1] - 1) / stride[1];
                const int64_t x = first * stride[1] + px - left;
                if (x >= width) continue;
                const int64_t n = std::min((width - x + stride[1] - 1) / stride[1], row - first);
                take(from + x, planes + r * row + first, n, stride[1]);
            }
}

}  // namespace shoestring
