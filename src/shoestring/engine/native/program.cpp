// Reads the bytes of a program. Every read is bounded; what the values mean is checked in program_checks.cpp.
#include "program.h"

#include <cstring>
#include <utility>

#include "program_checks.h"

namespace shoestring {
namespace {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "programs are little-endian, and so must be the processor"
#endif

constexpr char kMagic[8] = {'S', 'H', 'O', 'E', 'S', 'T', 'R', '1'};
constexpr int64_t kAlignment = 64, kMostTensors = 65536, kMostOps = 65536, kMostElements = int64_t{1} << 30;
constexpr int32_t kMostAxes = 6;

int64_t aligned(int64_t size) {
    return (size + kAlignment - 1) / kAlignment * kAlignment;
}

// The bytes from front to back, and the fields of ops as the words that they were written as.
class Reader {
public:
    Reader(const uint8_t* bytes, size_t size) : begin_(bytes), at_(bytes), left_(size) {}

    template <class T>
    T next() {
        if (left_ < sizeof(T)) throw BadProgram("the program ends in the middle of its description");
        T value;
        std::memcpy(&value, at_, sizeof(T));
        at_ += sizeof(T), left_ -= sizeof(T);
        return value;
    }
    int64_t position() const { return at_ - begin_; }
    void pool(const uint8_t* data, int64_t size) { pool_ = data, pool_size_ = size; }

    template <class... T>
    void fields(T&... values) {
        (take(values), ...);
    }

private:
    void take(int32_t& value) { value = next<int32_t>(); }
    template <size_t N>
    void take(int32_t (&values)[N]) {
        for (int32_t& value : values) take(value);
    }
    template <class T>
    void take(Const<T>& constant) {
        const int64_t offset = next<int32_t>() * kAlignment, count = next<int32_t>();
        if (count == 0) return;
        if (offset < 0 || count < 0 || offset > pool_size_ || count > (pool_size_ - offset) / int64_t{sizeof(T)})
            throw BadProgram("a constant of " + std::to_string(count) + " elements at byte " + std::to_string(offset) +
                             " is not within the pool of " + std::to_string(pool_size_) + " bytes");
        constant = {reinterpret_cast<const T*>(pool_ + offset), static_cast<size_t>(count)};
    }
    void take(Requantise& r) { fields(r.bias, r.multiplier, r.zero, r.low, r.high, r.table); }
    void take(Sum& s) { fields(s.tensor, s.swapped, s.scales, s.low, s.high, s.table); }

    const uint8_t *begin_, *at_, *pool_ = nullptr;
    size_t left_;
    int64_t pool_size_ = 0;
};

// The fields of each op, in the order of program.py.
void read(Reader& r, QuantiseOp& op) {
    r.fields(op.scale, op.zero);
}
void read(Reader& r, DequantiseOp& op) {
    r.fields(op.table);
}
void read(Reader& r, ConvOp& op) {
    r.fields(op.weight, op.x_zero, op.groups, op.kernel, op.stride, op.dilation, op.pads, op.requantise, op.sum);
}
void read(Reader& r, LinearOp& op) {
    r.fields(op.weight, op.x_zero, op.bits, op.requantise, op.sum);
}
void read(Reader& r, AddOp& op) {
    r.fields(op.sum);
}
void read(Reader& r, MulOp& op) {
    r.fields(op.other, op.zero_a, op.zero_b, op.requantise);
}
void read(Reader& r, MaxPoolOp& op) {
    r.fields(op.kernel, op.stride, op.dilation, op.pads);
}
void read(Reader& r, AveragePoolOp& op) {
    r.fields(op.x_zero, op.count_padding, op.kernel, op.stride, op.pads, op.requantise);
}
void read(Reader& r, TableOp& op) {
    r.fields(op.table);
}
void read(Reader& r, CopyOp& op) {
    r.fields(op.start, op.to, op.extents, op.strides, op.to_strides, op.table);
}
void read(Reader& r, SoftmaxOp& op) {
    r.fields(op.outer, op.length, op.inner);
}
void read(Reader&, FarthestOp&) {}
void read(Reader& r, NearestOp& op) {
    r.fields(op.other, op.radius);
}
void read(Reader& r, TakeOp& op) {
    r.fields(op.index);
}
void read(Reader& r, RelativeOp& op) {
    r.fields(op.index, op.other, op.factors, op.scale, op.zero);
}
void read(Reader& r, HighestOp& op) {
    r.fields(op.outer, op.length, op.inner);
}

// An op of the given kind, which counts from 1 in the order of the variant.
template <size_t... Index>
Op blank(int32_t kind, std::index_sequence<Index...>) {
    Op op;
    if (!((kind == int32_t{Index} + 1 && (op.emplace<Index>(), true)) || ...))
        throw BadProgram("there is no op of kind " + std::to_string(kind));
    return op;
}

Op read_op(Reader& reader) {
    const int32_t kind = reader.next<int32_t>(), words = reader.next<int32_t>();
    Op op = blank(kind, std::make_index_sequence<std::variant_size_v<Op>>{});
    const int64_t start = reader.position();
    std::visit([&](auto& o) { reader.fields(o.input, o.output), read(reader, o); }, op);
    const int64_t expected = (reader.position() - start) / int64_t{sizeof(int32_t)};
    if (words != expected)
        throw BadProgram("it has " + std::to_string(words) + " words, " + std::to_string(expected) + " expected");
    return op;
}

Tensor read_tensor(Reader& reader) {
    const int32_t dtype = reader.next<int32_t>(), rank = reader.next<int32_t>();
    if (dtype < int32_t(DType::u8) || dtype > int32_t(DType::i32))
        throw BadProgram("its type is " + std::to_string(dtype) + ", none of 0 (u8), 1 (f32) and 2 (i32)");
    if (rank < 1 || rank > kMostAxes)
        throw BadProgram("it has " + std::to_string(rank) + " axes, 1 to " + std::to_string(kMostAxes) + " expected");
    Tensor tensor{DType(dtype), std::vector<int32_t>(rank), 1, 0};
    for (int32_t& extent : tensor.shape) {
        extent = reader.next<int32_t>();
        if (extent < 1 || extent > kMostElements / int64_t(tensor.elements))
            throw BadProgram("an extent is " + std::to_string(extent) + ", or there are more than 2^30 elements");
        tensor.elements *= size_t(extent);
    }
    tensor.bytes = tensor.elements * (tensor.dtype == DType::u8 ? 1 : sizeof(float));
    return tensor;
}

// Reads `count` things; an error says which of them it was.
template <class T, class F>
void read_all(std::vector<T>& out, int32_t count, const char* noun, F read_one) {
    for (int32_t i = 0; i < count; ++i) {
        try {
            out.push_back(read_one());
        } catch (const BadProgram& error) {
            throw BadProgram(noun + (" " + std::to_string(i)) + ": " + error.what());
        }
    }
}

}  // namespace

Program parse(const uint8_t* bytes, size_t size) {
    Reader reader(bytes, size);
    if (size < sizeof kMagic || std::memcmp(bytes, kMagic, sizeof kMagic) != 0)
        throw BadProgram("these bytes are not a program: they do not begin with SHOESTR1");
    reader.next<int64_t>();
    int32_t counts[4];
    for (int32_t& count : counts) count = reader.next<int32_t>();
    const auto [tensors, ops, inputs, outputs] = counts;
    const int64_t pool_size = reader.next<int64_t>();
    if (tensors < 1 || tensors > kMostTensors || ops < 0 || ops > kMostOps || inputs < 1 || inputs > tensors ||
        outputs < 1 || outputs > tensors)
        throw BadProgram("the numbers of tensors, ops, inputs and outputs are not possible");
    if (pool_size < 0 || uint64_t(pool_size) > size || (size - pool_size) % kAlignment != 0)
        throw BadProgram("the pool of " + std::to_string(pool_size) + " bytes is not where it should be");

    Program program;
    const int64_t pool_start = int64_t(size) - pool_size;
    const uint8_t* pool = bytes + pool_start;
    if (reinterpret_cast<uintptr_t>(pool) % alignof(float) != 0) {
        program.storage.assign(pool, bytes + size);
        pool = program.storage.data();
    }
    reader.pool(pool, pool_size);

    read_all(program.tensors, tensors, "tensor", [&] { return read_tensor(reader); });
    read_all(program.inputs, inputs, "input", [&] { return reader.next<int32_t>(); });
    read_all(program.outputs, outputs, "output", [&] { return reader.next<int32_t>(); });
    read_all(program.ops, ops, "op", [&] { return read_op(reader); });
    if (aligned(reader.position()) != pool_start)
        throw BadProgram("the description ends at byte " + std::to_string(reader.position()) +
                         ", the pool begins at byte " + std::to_string(pool_start));
    check(program);
    return program;
}

}  // namespace shoestring
