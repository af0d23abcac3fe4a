// A program as engine/program.py writes it: the same ops, fields and order. Read and checked by program.cpp, which is
// the only file that sees bytes from outside; whatever it lets through is in bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace shoestring {

// A program that cannot be executed; the message is one line for the user.
struct BadProgram : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum class DType : int32_t { u8 = 0, f32 = 1, i32 = 2 };

struct Tensor {
    DType dtype;
    std::vector<int32_t> shape;  // of one image; every extent >= 1
    size_t elements;             // their product, at most 2^30
    size_t bytes;
};

// Constants inside the pool, aligned as their type. nullptr: absent.
template <class T>
struct Const {
    const T* data = nullptr;
    size_t count = 0;
    explicit operator bool() const { return data != nullptr; }
};

struct Requantise {
    Const<int32_t> bias;
    Const<float> multiplier;
    int32_t zero, low, high;
    Const<uint8_t> table;
};

struct Sum {
    int32_t tensor;   // -1: none
    int32_t swapped;  // 0: a is what the layer writes, b the tensor; 1: the other way round
    Const<float> scales;
    int32_t low, high;
    Const<uint8_t> table;
};

struct Edge {
    int32_t input, output;
};

struct QuantiseOp : Edge {
    Const<float> scale;
    int32_t zero;
};
struct DequantiseOp : Edge {
    Const<float> table;
};
struct ConvOp : Edge {
    Const<int8_t> weight;
    int32_t x_zero, groups;
    int32_t kernel[2], stride[2], dilation[2], pads[4];
    Requantise requantise;
    Sum sum;
};
struct LinearOp : Edge {
    Const<int8_t> weight;
    int32_t x_zero, bits;
    Requantise requantise;
    Sum sum;
};
struct AddOp : Edge {
    Sum sum;
};
struct MulOp : Edge {
    int32_t other, zero_a, zero_b;
    Requantise requantise;
};
struct MaxPoolOp : Edge {
    int32_t kernel[2], stride[2], dilation[2], pads[4];
};
struct AveragePoolOp : Edge {
    int32_t x_zero, count_padding;
    int32_t kernel[2], stride[2], pads[4];
    Requantise requantise;
};
struct TableOp : Edge {
    Const<uint8_t> table;
};
struct CopyOp : Edge {
    int32_t start, to;
    int32_t extents[6], strides[6], to_strides[6];
    Const<uint8_t> table;
};
struct SoftmaxOp : Edge {
    int32_t outer, length, inner;
};

struct FarthestOp : Edge {};
struct NearestOp : Edge {
    int32_t other;
    Const<float> radius;
};
struct TakeOp : Edge {
    int32_t index;
};
struct RelativeOp : Edge {
    int32_t index, other;
    Const<float> factors, scale;
    int32_t zero;
};
struct HighestOp : Edge {
    int32_t outer, length, inner;
};

using Op = std::variant<QuantiseOp, DequantiseOp, ConvOp, LinearOp, AddOp, MulOp, MaxPoolOp, AveragePoolOp, TableOp,
                        CopyOp, SoftmaxOp, FarthestOp, NearestOp, TakeOp, RelativeOp, HighestOp>;

struct Program {
    std::vector<Tensor> tensors;
    std::vector<int32_t> inputs, outputs;
    std::vector<Op> ops;
    std::vector<uint8_t> storage;  // the pool, where constants could not point into the bytes
};

// Parses and checks: sizes, counts, indices, shapes that fit together, every tensor written (once, or by copies) before
// it is read, finite positive multipliers, codes in 0..255, |acc| * multiplier below 2^31, indices made for tensors of
// at most as many rows as they are taken from. Throws BadProgram. The program is of no use without the bytes.
Program parse(const uint8_t* bytes, size_t size);

}  // namespace shoestring
