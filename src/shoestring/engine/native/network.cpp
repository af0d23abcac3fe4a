#include "network.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <type_traits>

#include "program_checks.h"

namespace shoestring {
namespace {

constexpr size_t kNever = SIZE_MAX;

struct Maker {
    const Program& program;
    const Kernels& kernels;

    std::unique_ptr<Step> operator()(const ConvOp& op) const {
        const bool depthwise = program.tensors[size_t(op.input)].shape[0] == op.groups &&
                               program.tensors[size_t(op.output)].shape[0] == op.groups;
        return depthwise ? make_depthwise(op, program, kernels) : make_conv(op, program, kernels);
    }
    std::unique_ptr<Step> operator()(const LinearOp& op) const { return make_linear(op, program, kernels); }
    std::unique_ptr<Step> operator()(const MaxPoolOp& op) const { return make_pool(op, program, kernels); }
    std::unique_ptr<Step> operator()(const AveragePoolOp& op) const { return make_pool(op, program, kernels); }
    std::unique_ptr<Step> operator()(const CopyOp& op) const { return make_copy(op, program, kernels); }
    std::unique_ptr<Step> operator()(const SoftmaxOp& op) const { return make_softmax(op, program, kernels); }
    template <class Pointwise>
    std::unique_ptr<Step> operator()(const Pointwise& op) const {
        return make_pointwise(op, program, kernels);
    }
};

// The tensors that an op reads; -1 for none.
struct Reads {
    int32_t first, second;
};
template <class AnyOp>
Reads reads(const AnyOp& op) {
    if constexpr (std::is_same_v<AnyOp, MulOp>)
        return {op.input, op.other};
    else if constexpr (std::is_same_v<AnyOp, ConvOp> || std::is_same_v<AnyOp, LinearOp> || std::is_same_v<AnyOp, AddOp>)
        return {op.input, op.sum.tensor};
    else
        return {op.input, -1};
}

std::unique_ptr<Step> make(const Program& program, const Kernels& kernels, size_t index) {
    try {
        return std::visit(Maker{program, kernels}, program.ops[index]);
    } catch (const BadProgram& error) {
        throw BadProgram("op " + std::to_string(index) + " (" + kind_of(program.ops[index]) + "): " + error.what());
    }
}

}  // namespace

Network::Network(Program program, const Kernels& kernels, int threads)
    : isa_(kernels.name),
      input_tensors_(program.inputs),
      output_tensors_(program.outputs),
      threads_(threads),
      tensors_(program.tensors.size()) {
    for (size_t i = 0; i < program.ops.size(); ++i) steps_.push_back(make(program, kernels, i));
    find_uses(program);
    for (const int32_t input : input_tensors_) inputs_.push_back(program.tensors[size_t(input)]);
    for (const int32_t output : output_tensors_) outputs_.push_back(program.tensors[size_t(output)]);
    plan(1);
}

// From the first step that writes a tensor to the last that reads it.
void Network::find_uses(const Program& program) {
    for (const Tensor& tensor : program.tensors) uses_.push_back({tensor.bytes, kNever, 0});
    // Inputs need no copy where all that reads them is the quantiser, which never reads beyond their end.
    std::vector<bool> quantised(program.tensors.size(), true);
    for (const int32_t input : program.inputs) uses_[size_t(input)].first = 0;
    for (size_t i = 0; i < program.ops.size(); ++i) {
        const bool quantises = std::holds_alternative<QuantiseOp>(program.ops[i]);
        const auto [first, second] = std::visit([](const auto& op) { return reads(op); }, program.ops[i]);
        for (const int32_t read : {first, second}) {
            if (read < 0) continue;
            uses_[size_t(read)].last = i;
            quantised[size_t(read)] = quantised[size_t(read)] && quantises;
        }
        Use& written = uses_[size_t(std::visit([](const auto& op) { return op.output; }, program.ops[i]))];
        written.first = std::min(written.first, i), written.last = std::max(written.last, i);
    }
    for (const int32_t output : program.outputs) {
        uses_[size_t(output)].last = program.ops.size();
        quantised[size_t(output)] = false;
    }
    for (const int32_t input : program.inputs) {
        bound_.push_back(quantised[size_t(input)]);
        if (bound_.back()) uses_[size_t(input)].first = kNever;
    }
}

void Network::plan(int images) {
    images_ = 0;  // until it is done
    std::vector<Block> blocks;
    std::vector<uint8_t**> owners;
    const auto add = [&](size_t bytes, size_t first, size_t last, uint8_t*& owner) {
        blocks.push_back({bytes + kSlack, first, last}), owners.push_back(&owner);
    };
    scratch_.assign(steps_.size(), nullptr);
    for (size_t i = 0; i < uses_.size(); ++i)
        if (uses_[i].first != kNever) add(uses_[i].bytes * size_t(images), uses_[i].first, uses_[i].last, tensors_[i]);
    for (size_t i = 0; i < steps_.size(); ++i)
        if (const size_t bytes = steps_[i]->scratch(images, threads_.count())) add(bytes, i, i, scratch_[i]);

    const size_t lines = place(blocks) / sizeof(Line);
    if (lines != arena_.size()) {
        std::vector<Line>().swap(arena_);  // before there is a second one
        arena_ = std::vector<Line>(lines);
    }
    for (size_t i = 0; i < blocks.size(); ++i) *owners[i] = (uint8_t*)arena_.data() + blocks[i].offset;
    images_ = images;
}

size_t Network::arena_bytes() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return arena_.size() * sizeof(Line);
}

size_t Network::weight_bytes() const {
    size_t total = 0;
    for (const auto& step : steps_) total += step->weights();
    return total;
}

void Network::begin(const ShoestringArray* inputs, int images) {
    if (images != images_) plan(images);
    for (size_t i = 0; i < inputs_.size(); ++i) {
        uint8_t*& tensor = tensors_[size_t(input_tensors_[i])];
        if (bound_[i])
            tensor = static_cast<uint8_t*>(inputs[i].data);  // which no step writes to
        else
            std::memcpy(tensor, inputs[i].data, inputs_[i].bytes * size_t(images));
    }
}

void Network::step(size_t index) noexcept {
    const Step& step = *steps_[index];
    for (int phase = 0; phase < step.phases(); ++phase)
        threads_.run([&](int part) {
            step.run(phase, {tensors_.data(), images_, scratch_[index], part, threads_.count()});
        });
}

void Network::end(const ShoestringArray* outputs) const noexcept {
    for (size_t i = 0; i < outputs_.size(); ++i)
        std::memcpy(outputs[i].data, tensors_[size_t(output_tensors_[i])], outputs_[i].bytes * size_t(images_));
}

void Network::run(const ShoestringArray* inputs, const ShoestringArray* outputs, int images) {
    std::lock_guard<std::mutex> lock(mutex_);
    begin(inputs, images);
    for (size_t i = 0; i < steps_.size(); ++i) step(i);
    end(outputs);
}

void Network::profile(const ShoestringArray* inputs, const ShoestringArray* outputs, int images, int runs,
                      int64_t* nanoseconds) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (int run = 0; run < runs; ++run) {
        begin(inputs, images);
        for (size_t i = 0; i < steps_.size(); ++i) {
            const auto start = std::chrono::steady_clock::now();
            step(i);
            const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - start;
            *nanoseconds++ = int64_t(took.count());
        }
        end(outputs);
    }
}

}  // namespace shoestring
