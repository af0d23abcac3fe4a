// Kernels over contiguous elements, and what pools need. See program.py for the arithmetic.
#pragma once

#include "kernels.h"

namespace shoestring {

struct PointwiseKernels {
    // out[i] = table[in[i]]; in place is allowed.
    void (*table)(const uint8_t* in, uint8_t* out, size_t n, const uint8_t* table);
    // out[i] = clip(rne(fma(a[i], scales[0], fma(b[i], scales[1], scales[2]))), low, high); in place is allowed.
    void (*sum)(const uint8_t* a, const uint8_t* b, uint8_t* out, size_t n, const float scales[3], int low, int high);
    // out[i] = requantised((a[i] - zero_a) * (b[i] - zero_b)), without the table.
    void (*product)(const uint8_t* a, const uint8_t* b, uint8_t* out, size_t n, int zero_a, int zero_b, Codes codes);
    // out[i] = requantised((a[i] - zero_a) * b): a gate; b is its code less its zero point.
    void (*scaled)(const uint8_t* a, int32_t b, uint8_t* out, size_t n, int zero_a, Codes codes);
    // out[i] = clip(rne(in[i] / scale) + zero, 0, 255)
    void (*quantise)(const float* in, uint8_t* out, size_t n, float scale, int zero);
    // out[i] = table[in[i]]
    void (*dequantise)(const uint8_t* in, float* out, size_t n, const float* table);
    // The sum of n bytes.
    int64_t (*total)(const uint8_t* in, size_t n);
    // out[i] = max(out[i], in[i])
    void (*maximum)(const uint8_t* in, uint8_t* out, size_t n);
    // out[i] = the greatest of in[r * stride + i] over r < rows
    void (*highest)(const uint8_t* in, size_t rows, size_t stride, uint8_t* out, size_t n);
};

}  // namespace shoestring
