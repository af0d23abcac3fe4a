#include "conv_rows.h"

#include <cstring>

namespace shoestring {

void rows_of(const Columns& w, const ConvGeometry& g, std::vector<Row>& rows) {
    rows.clear();
    for (int64_t c = 0; c < g.group_inputs; ++c)
        for (int64_t t = 0; t < w.taps; ++t) {
            const int64_t offset = c * g.channel() + g.shift(t / g.taps_wide, t % g.taps_wide);
            const Row row{(int32_t)offset, {w.at(0, c, t), w.at(1, c, t), w.at(2, c, t), w.at(3, c, t)}};
            if (row.weights[0] | row.weights[1] | row.weights[2] | row.weights[3]) rows.push_back(row);
        }
}

void tile_quads_of(const Columns& w, int64_t row, std::vector<Quad>& quads) {
    const int64_t rows = w.inputs * w.taps;
    quads.resize((size_t)(rows + 3) / 4);
    Quad* quad = quads.data();
    for (int64_t r = 0; r < rows; r += 4) {
        *quad = {(int32_t)(r * row), {}};
        uint32_t any = 0;
        for (int64_t k = 0; k < 4 && w.of[k]; ++k) {
            uint32_t four = 0;
            if (rows - r >= 4)
                std::memcpy(&four, w.of[k] + r, 4);
            else
                std::memcpy(&four, w.of[k] + r, (size_t)(rows - r));
            std::memcpy(quad->weights + 4 * k, &four, 4);
            any |= four;
        }
        quad += any != 0;
    }
    quads.resize((size_t)(quad - quads.data()));
}

void plane_quads_of(const Columns& w, const ConvGeometry& g, std::vector<Quad>& quads) {
    quads.clear();
    for (int64_t c = 0; c < g.group_inputs; c += 4)
        for (int64_t t = 0; t < w.taps; ++t) {
            const int64_t offset = c * g.channel() + 4 * g.shift(t / g.taps_wide, t % g.taps_wide);
            Quad quad{(int32_t)offset, {}};
            int8_t any = 0;
            for (int64_t k = 0; k < 16; ++k) any |= quad.weights[k] = w.at(k / 4, c + k % 4, t);
            if (any) quads.push_back(quad);
        }
}

}  // namespace shoestring
