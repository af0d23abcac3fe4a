#include "peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "conv_packing.h"

namespace shoestring {

double peak_gmacs(const Kernels& kernels) {
    constexpr int64_t kPixels = 64, kQuads = 64, kBlocks = 16, kRounds = 100, kTries = 10;
    PackedConv packed({1, 0, 0, 255}, true, *kernels.conv);
    for (int64_t b = 0; b < kBlocks; ++b) {
        std::vector<Quad> quads;
        for (int64_t q = 0; q < kQuads; ++q) {
            quads.push_back({(int32_t)(q * 4 * kPixels), {}});
            for (int i = 0; i < 16; ++i) quads.back().weights[i] = (int8_t)((q + i) % 7 - 3);
        }
        const int32_t bias[4] = {};
        const float multipliers[4] = {1e-3f, 1e-3f, 1e-3f, 1e-3f};
        packed.add_quads(quads, bias, multipliers);
    }
    std::vector<uint8_t> input(4 * kPixels * kQuads + 128, 7), output(4 * kPixels);
    uint8_t* const out[4] = {&output[0], &output[kPixels], &output[2 * kPixels], &output[3 * kPixels]};
    std::vector<ConvBlock> blocks(packed.size(), packed.empty());
    for (size_t b = 0; b < blocks.size(); ++b) packed.fill(b, blocks[b]);
    double best = 1e9;
    for (int64_t t = 0; t < kTries; ++t) {
        const auto start = std::chrono::steady_clock::now();
        for (int64_t r = 0; r < kRounds; ++r)
            for (const ConvBlock& block : blocks) kernels.conv->interleaved(block, input.data(), kPixels, out);
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return 16.0 * (double)(kQuads * kBlocks * kPixels * kRounds) / best / 1e9;
}

}  // namespace shoestring
