#include "program_checks.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "program_terms.h"

namespace shoestring {
namespace {

constexpr int64_t kLargestKernel = 65536;  // with its dilation: coordinates stay far within int32
// Below 2^31 by what rounding to float and adding a zero point may add.
constexpr double kLargestCode = 2147483000.0;

const char* const kKinds[] = {"quantise", "dequantise",   "conv",     "linear",  "add",  "mul",
                              "max pool", "average pool", "table",    "copy",    "softmax", "farthest",
                              "nearest",  "take",         "relative", "highest"};

// acc * multiplier must fit into int32 before the zero point is added. `acc`: the largest magnitude.
void multiplier(float value, double acc, DType out) {
    if (!std::isfinite(value) || !(value > 0)) refuse("a multiplier is ", value, ", not a positive number");
    // Accumulators wrap at 32 bits, as everywhere: a channel without weights may have a bias close to that.
    acc = std::min(acc, 2147483648.0);
    if (out == DType::u8 && acc * double(value) >= kLargestCode)
        refuse("an accumulator times its multiplier may reach ", acc * double(value), ", beyond 2^31");
}

// `weight` [outputs][inputs]: the accumulators of each output, whatever the codes of its input are and in whatever
// order they are summed, with the zero point of the input as a correction of the bias.
void accumulators(const Const<int8_t>& weight, int64_t outputs, int32_t x_zero, const Requantise& r, DType out) {
    const int64_t inputs = int64_t(weight.count) / outputs;
    for (int64_t o = 0; o < outputs; ++o) {
        const int8_t* row = weight.data + o * inputs;
        int64_t sum = 0, magnitude = 0;
        for (int64_t begin = 0; begin < inputs; begin += 65536) {  // in parts whose sums fit into int32: vectors
            int32_t part = 0, part_magnitude = 0;
            for (int64_t i = begin; i < std::min(inputs, begin + 65536); ++i)
                part += row[i], part_magnitude += std::abs(int32_t{row[i]});
            sum += part, magnitude += part_magnitude;
        }
        const double bias = r.bias ? std::abs(double(r.bias.data[o])) : 0;
        const double correction = std::abs(double(x_zero) * double(sum));
        multiplier(r.multiplier.data[o], 255.0 * double(magnitude) + bias + correction, out);
    }
}

void requantise(const Requantise& r, int64_t outputs, DType out) {
    if (r.bias) equal("bias", int64_t(r.bias.count), outputs);
    equal("multiplier", int64_t(r.multiplier.count), outputs);
    code("zero", r.zero), limits(r.low, r.high), table(r.table);
    if (out == DType::f32) absent("a table before an output of f32", r.table);
}

// One axis of a convolution or a pool: what its output extent must be.
int64_t windows(int64_t extent, int64_t kernel, int64_t stride, int64_t dilation, int64_t before, int64_t after) {
    within("a kernel", kernel, 1, kLargestKernel), within("a stride", stride, 1, kLargestKernel);
    within("a dilation", dilation, 1, kLargestKernel);
    const int64_t reach = (kernel - 1) * dilation + 1;
    within("a kernel with its dilation", reach, 1, kLargestKernel);
    within("a pad", before, 0, reach - 1), within("a pad", after, 0, reach - 1);
    if (extent + before + after < reach) refuse("the kernel is larger than the input with its padding");
    return (extent + before + after - reach) / stride + 1;
}

// Both axes: the output [channels, windows, windows] of the input [C, H, W].
void picture(const Tensor& in, const Tensor& out, int64_t channels, const int32_t kernel[2], const int32_t stride[2],
             const int32_t dilation[2], const int32_t pads[4]) {
    if (in.shape.size() != 3) refuse("the input has ", in.shape.size(), " axes, 3 expected");
    int64_t extents[2];
    for (int axis = 0; axis < 2; ++axis)
        extents[axis] =
            windows(in.shape[axis + 1], kernel[axis], stride[axis], dilation[axis], pads[axis], pads[axis + 2]);
    shape(out, {channels, extents[0], extents[1]});
}

// Marks what a copy writes in `taken`, a byte for each element of the output. Rows of neighbours at once.
void mark(const CopyOp& op, std::vector<uint8_t>& taken) {
    int64_t extents[6], strides[6], at[6] = {};
    int axes = 0;
    for (int i = 0; i < 6; ++i) {
        if (op.extents[i] == 1) continue;
        if (axes > 0 && strides[axes - 1] == int64_t{op.extents[i]} * op.to_strides[i]) {  // one axis in two
            extents[axes - 1] *= op.extents[i], strides[axes - 1] = op.to_strides[i];
            continue;
        }
        extents[axes] = op.extents[i], strides[axes++] = op.to_strides[i];
    }
    const int64_t row = axes > 0 && strides[axes - 1] == 1 ? extents[--axes] : 1;
    uint8_t* to = taken.data() + op.to;
    for (;;) {
        if (std::memchr(to, 1, size_t(row))) refuse("an element of the output is written twice");
        std::memset(to, 1, size_t(row));
        int axis = axes - 1;
        for (; axis >= 0 && ++at[axis] == extents[axis]; --axis)
            to -= (extents[axis] - 1) * strides[axis], at[axis] = 0;
        if (axis < 0) return;
        to += strides[axis];
    }
}

class Checks {
public:
    explicit Checks(const Program& program)
        : program_(program), written_(program.tensors.size()), points_(program.tensors.size()) {}

    void all() {
        for (const int32_t input : program_.inputs) {
            if (fresh(input, "an input").dtype == DType::i32) refuse("an input, tensor ", input, ", is i32");
            written(input) = tensor(input, "an input").elements;
        }
        for (size_t i = 0; i < program_.ops.size(); ++i)
            at(i, [&](const auto& op) { (*this)(op), written(op.output) += amount(op); });
        for (const int32_t output : program_.outputs) known(output, "an output");
        copies();
    }

private:
    template <class F>
    void at(size_t index, F&& act) const {
        try {
            std::visit(act, program_.ops[index]);
        } catch (const BadProgram& error) {
            refuse("op ", index, " (", kind_of(program_.ops[index]), "): ", error.what());
        }
    }

    static const char* name_of(DType dtype) {
        return dtype == DType::u8 ? "u8" : dtype == DType::f32 ? "f32" : "i32";
    }
    size_t& written(int32_t index) { return written_[size_t(index)]; }
    const Tensor& tensor(int32_t index, const char* what) const {
        if (index < 0 || size_t(index) >= program_.tensors.size())
            refuse(what, " is tensor ", index, ", there are ", program_.tensors.size());
        return program_.tensors[size_t(index)];
    }
    // How many elements an op writes.
    size_t amount(const Edge& op) const { return program_.tensors[size_t(op.output)].elements; }
    static size_t amount(const CopyOp& op) {
        size_t elements = 1;
        for (const int32_t extent : op.extents) elements *= size_t(extent);
        return elements;
    }
    const Tensor& fresh(int32_t index, const char* what) {
        const Tensor& made = tensor(index, what);
        if (written(index) != 0) refuse(what, ", tensor ", index, ", has been written before");
        return made;
    }
    const Tensor& known(int32_t index, const char* what) {
        const Tensor& read = tensor(index, what);
        if (written(index) != read.elements) refuse(what, ", tensor ", index, ", is read before all of it is written");
        return read;
    }
    const Tensor& known(int32_t index, const char* what, DType dtype) {
        const Tensor& read = known(index, what);
        if (read.dtype != dtype) refuse(what, " is not ", name_of(dtype));
        return read;
    }
    const Tensor& out(int32_t index) { return fresh(index, "the output"); }
    const Tensor& out(int32_t index, DType dtype) {
        const Tensor& made = out(index);
        if (made.dtype != dtype) refuse("the output is not ", name_of(dtype));
        return made;
    }
    void pointwise(const Edge& edge, DType from, DType to) {
        const Tensor& in = known(edge.input, "the input", from);
        equal("the output", int64_t(out(edge.output, to).elements), int64_t(in.elements));
    }

    void sum(const Sum& s, const Tensor& result) {
        if (s.tensor == -1) {
            absent("the scales of no sum", s.scales), absent("the table of no sum", s.table);
            return;
        }
        if (known(s.tensor, "the tensor to add", DType::u8).shape != result.shape)
            refuse("the tensor to add has another shape than the output");
        if (result.dtype != DType::u8) refuse("a sum with an output of f32");
        equal("scales", int64_t(s.scales.count), 3);
        within("swapped", s.swapped, 0, 1), limits(s.low, s.high), table(s.table);
        const float* f = s.scales.data;
        const double largest = 255 * (std::abs(double(f[0])) + std::abs(double(f[1]))) + std::abs(double(f[2]));
        if (!(largest < kLargestCode)) refuse("a sum may reach ", largest, ", beyond 2^31, or is not a number");
    }

    void operator()(const QuantiseOp& op) {
        pointwise(op, DType::f32, DType::u8);
        quantiser(op.scale, op.zero);
    }
    static void quantiser(const Const<float>& scale, int32_t zero) {
        equal("scale", int64_t(scale.count), 1), code("zero", zero);
        const float one = scale.data[0];
        if (!std::isfinite(one) || !(one > 0)) refuse("the scale is ", one, ", not a positive number");
    }
    void operator()(const DequantiseOp& op) {
        pointwise(op, DType::u8, DType::f32);
        equal("table", int64_t(op.table.count), 256);
    }
    void operator()(const ConvOp& op) {
        const Tensor& in = known(op.input, "the input", DType::u8);
        const Tensor& result = out(op.output);
        if (in.shape.size() != 3 || result.shape.size() != 3) refuse("the input and the output must have 3 axes");
        const int64_t inputs = in.shape[0], outputs = result.shape[0];
        if (op.groups < 1 || inputs % op.groups != 0 || outputs % op.groups != 0)
            refuse(op.groups, " groups do not divide ", inputs, " inputs and ", outputs, " outputs");
        picture(in, result, outputs, op.kernel, op.stride, op.dilation, op.pads);
        equal("weight", int64_t(op.weight.count), product({outputs, inputs / op.groups, op.kernel[0], op.kernel[1]}));
        layer(op, outputs, result);
    }
    void operator()(const LinearOp& op) {
        const Tensor& in = known(op.input, "the input", DType::u8);
        const Tensor& result = out(op.output);
        if (in.shape.size() != result.shape.size() ||
            !std::equal(in.shape.begin(), in.shape.end() - 1, result.shape.begin()))
            refuse("the input and the output differ in more than the last axis");
        const int64_t inputs = in.shape.back(), outputs = result.shape.back();
        equal("weight", int64_t(op.weight.count), inputs * outputs);
        if (op.bits != 8 && op.bits != 4 && op.bits != 2) refuse("weights have ", op.bits, " bits, not 8, 4 or 2");
        const int32_t largest = (1 << (op.bits - 1)) - 1;
        for (size_t i = 0; op.bits < 8 && i < op.weight.count; ++i)
            if (op.weight.data[i] > largest || op.weight.data[i] < -largest - 1)
                refuse("a weight of ", int32_t{op.weight.data[i]}, " does not fit into ", op.bits, " bits");
        layer(op, outputs, result);
    }
    template <class Layer>
    void layer(const Layer& op, int64_t outputs, const Tensor& result) {
        code("the zero point of the input", op.x_zero);
        requantise(op.requantise, outputs, result.dtype);
        accumulators(op.weight, outputs, op.x_zero, op.requantise, result.dtype);
        sum(op.sum, result);
    }
    void operator()(const AddOp& op) {
        pointwise(op, DType::u8, DType::u8);
        if (op.sum.tensor == -1) refuse("there is nothing to add");
        if (program_.tensors[size_t(op.input)].shape != program_.tensors[size_t(op.output)].shape)
            refuse("the output has another shape than the input");
        sum(op.sum, program_.tensors[size_t(op.output)]);
    }
    void operator()(const MulOp& op) {
        const Tensor& in = known(op.input, "the input", DType::u8);
        const Tensor& other = known(op.other, "the other input", DType::u8);
        if (out(op.output, DType::u8).shape != in.shape) refuse("the output has another shape than the input");
        if (other.shape != in.shape) equal("the other input", int64_t(other.elements), in.shape[0]);
        code("zero_a", op.zero_a), code("zero_b", op.zero_b);
        requantise(op.requantise, 1, DType::u8), absent("bias", op.requantise.bias);
        multiplier(op.requantise.multiplier.data[0], 255.0 * 255.0, DType::u8);
    }
    void operator()(const MaxPoolOp& op) {
        const Tensor& in = known(op.input, "the input", DType::u8);
        picture(in, out(op.output, DType::u8), in.shape[0], op.kernel, op.stride, op.dilation, op.pads);
        for (int axis = 0; axis < 2; ++axis)  // otherwise a window may step over the whole input
            if (op.dilation[axis] > in.shape[axis + 1] && (op.pads[axis] > 0 || op.pads[axis + 2] > 0))
                refuse("a dilation is larger than the input, with padding");
    }
    void operator()(const AveragePoolOp& op) {
        const Tensor& in = known(op.input, "the input", DType::u8);
        const int32_t dilation[2] = {1, 1};
        picture(in, out(op.output, DType::u8), in.shape[0], op.kernel, op.stride, dilation, op.pads);
        const int64_t elements = product({op.kernel[0], op.kernel[1]});
        code("the zero point of the input", op.x_zero), within("count_padding", op.count_padding, 0, 1);
        requantise(op.requantise, elements, DType::u8), absent("bias", op.requantise.bias);
        const float* multipliers = op.requantise.multiplier.data;
        for (int64_t n = 1; n <= elements; ++n)
            multiplier(multipliers[n - 1], 255.0 * double(op.count_padding ? elements : n), DType::u8);
    }
    void operator()(const TableOp& op) {
        pointwise(op, DType::u8, DType::u8);
        equal("table", int64_t(op.table.count), 256);
    }
    void operator()(const SoftmaxOp& op) {
        pointwise(op, DType::f32, DType::f32);
        if (op.outer < 1 || op.length < 1 || op.inner < 1) refuse("an extent is not positive");
        equal("the input", int64_t(program_.tensors[size_t(op.input)].elements),
              product({op.outer, op.length, op.inner}));
    }
    void operator()(const CopyOp& op) {
        const Tensor &in = known(op.input, "the input"), &result = tensor(op.output, "the output");
        if (in.dtype != result.dtype) refuse("the input and the output are of two types");
        if (in.dtype == DType::f32) absent("a table of f32", op.table);
        if (in.dtype == DType::i32) refuse("indices are not copied");
        table(op.table);
        size_t room = result.elements - written(op.output);
        for (const int32_t extent : op.extents) {
            if (extent < 1 || size_t(extent) > room) refuse("the extents are larger than what is left of the output");
            room /= size_t(extent);
        }
        reach("the input", in, op.start, op.extents, op.strides);
        reach("the output", result, op.to, op.extents, op.to_strides);
        for (int i = 0; i < 6; ++i)
            if (op.extents[i] > 1 && op.to_strides[i] < 1) refuse("a stride of the output is ", op.to_strides[i]);
    }
    // Points [n, 3].
    const Tensor& points(int32_t index, const char* what) {
        const Tensor& given = known(index, what, DType::f32);
        shape(given, {given.shape[0], 3}, what);
        return given;
    }
    // Indices of as many points as `of` has rows, or fewer.
    const Tensor& indices(int32_t index, const Tensor& of) {
        const Tensor& given = known(index, "the index", DType::i32);
        if (points_[size_t(index)] > of.shape[0])
            refuse("the index is of ", points_[size_t(index)], " rows, the input has ", of.shape[0]);
        return given;
    }
    void operator()(const FarthestOp& op) {
        const int32_t all = points(op.input, "the input").shape[0];
        const Tensor& result = out(op.output, DType::i32);
        shape(result, {result.shape[0]}), within("the count", result.shape[0], 1, all);
        points_[size_t(op.output)] = all;
    }
    void operator()(const NearestOp& op) {
        const int32_t centres = points(op.input, "the input").shape[0], all = points(op.other, "other").shape[0];
        const Tensor& result = out(op.output, DType::i32);
        shape(result, {centres, result.shape.back()}), within("the count", result.shape.back(), 1, all);
        if (op.radius) {
            equal("the radius", int64_t(op.radius.count), 1);
            if (const float r = op.radius.data[0]; !std::isfinite(r) || !(r > 0))
                refuse("the radius is ", r, ", not a positive number");
        }
        points_[size_t(op.output)] = all;
    }
    void operator()(const TakeOp& op) {
        const Tensor& in = known(op.input, "the input");
        if (in.dtype == DType::i32) refuse("indices are not taken");
        shape(in, {in.shape[0], in.shape.back()}, "the input");
        const int64_t rows = int64_t(indices(op.index, in).elements);
        shape(out(op.output, in.dtype), {rows, in.shape[1]});
    }
    void operator()(const RelativeOp& op) {
        const Tensor& in = known(op.input, "the input", DType::f32);
        shape(in, {in.shape[0], in.shape.back()}, "the input");
        const Tensor& index = indices(op.index, in);
        if (op.other != -1) {
            const Tensor& other = known(op.other, "other", DType::f32);
            shape(index, {index.shape[0], index.shape.back()}, "the index");
            shape(other, {index.shape[0], in.shape[1]}, "other");
        }
        for (size_t i = 0; i < op.factors.count; ++i)
            if (!std::isfinite(op.factors.data[i])) refuse("a factor is ", op.factors.data[i]);
        const Tensor& result = out(op.output);
        shape(result, {int64_t(index.elements), in.shape[1]});
        if (result.dtype == DType::f32) return absent("the scale of an output of f32", op.scale);
        if (result.dtype != DType::u8) refuse("the output is not u8 or f32");
        quantiser(op.scale, op.zero);
    }
    void operator()(const HighestOp& op) {
        const Tensor& in = known(op.input, "the input", DType::u8);
        if (op.outer < 1 || op.length < 1 || op.inner < 1) refuse("an extent is not positive");
        equal("the input", int64_t(in.elements), product({op.outer, op.length, op.inner}));
        equal("the output", int64_t(out(op.output, DType::u8).elements), product({op.outer, op.inner}));
    }
    // Every element that is visited is one of the tensor.
    static void reach(const char* what, const Tensor& tensor, int64_t first, const int32_t extents[6],
                      const int32_t strides[6]) {
        int64_t low = first, high = first;
        for (int i = 0; i < 6; ++i) {
            const int64_t span = (int64_t{extents[i]} - 1) * strides[i];
            (span < 0 ? low : high) += span;
            if (low < 0 || high >= int64_t(tensor.elements)) refuse("it reaches outside of ", what);
        }
    }
    // The copies into one output write each of its elements once: as many as there are (counted above), none twice.
    void copies() const {
        std::vector<std::vector<size_t>> into(program_.tensors.size());
        for (size_t i = 0; i < program_.ops.size(); ++i)
            if (const auto* copy = std::get_if<CopyOp>(&program_.ops[i])) into[size_t(copy->output)].push_back(i);
        for (size_t index = 0; index < into.size(); ++index) {
            if (into[index].empty()) continue;
            const size_t elements = program_.tensors[index].elements;
            if (written_[index] != elements)
                refuse("tensor ", index, " is filled to ", written_[index], " of its ", elements, " elements");
            std::vector<uint8_t> taken(elements);
            for (const size_t i : into[index])
                at(i, [&](const auto& op) {
                    if constexpr (std::is_same_v<std::decay_t<decltype(op)>, CopyOp>) mark(op, taken);
                });
        }
    }

    const Program& program_;
    std::vector<size_t> written_;  // elements of each tensor
    std::vector<int32_t> points_;  // of indices: below what they all are
};

}  // namespace

const char* kind_of(const Op& op) {
    return kKinds[op.index()];
}

void check(const Program& program) {
    Checks(program).all();
}

}  // namespace shoestring
