#include "network.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
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
    const Step* like;

    std::unique_ptr<Step> operator()(const ConvOp& op) const {
        const bool depthwise = program.tensors[size_t(op.input)].shape[0] == op.groups &&
                               program.tensors[size_t(op.output)].shape[0] == op.groups;
        return depthwise ? make_depthwise(op, program, kernels, like) : make_conv(op, program, kernels, like);
    }
    std::unique_ptr<Step> operator()(const LinearOp& op) const { return make_linear(op, program, kernels, like); }
    std::unique_ptr<Step> operator()(const MaxPoolOp& op) const { return make_pool(op, program, kernels); }
    std::unique_ptr<Step> operator()(const AveragePoolOp& op) const { return make_pool(op, program, kernels); }
    std::unique_ptr<Step> operator()(const CopyOp& op) const { return make_copy(op, program, kernels); }
    std::unique_ptr<Step> operator()(const SoftmaxOp& op) const { return make_softmax(op, program, kernels); }
    std::unique_ptr<Step> operator()(const FarthestOp& op) const { return make_points(op, program, kernels); }
    std::unique_ptr<Step> operator()(const NearestOp& op) const { return make_points(op, program, kernels); }
    std::unique_ptr<Step> operator()(const TakeOp& op) const { return make_points(op, program, kernels); }
    std::unique_ptr<Step> operator()(const RelativeOp& op) const { return make_points(op, program, kernels); }
    std::unique_ptr<Step> operator()(const HighestOp& op) const { return make_pool(op, program, kernels); }
    template <class Pointwise>
    std::unique_ptr<Step> operator()(const Pointwise& op) const {
        return make_pointwise(op, program, kernels);
    }
};

// The tensors that an op reads; -1 for none.
using Reads = std::array<int32_t, 3>;
template <class AnyOp>
Reads reads(const AnyOp& op) {
    if constexpr (std::is_same_v<AnyOp, MulOp> || std::is_same_v<AnyOp, NearestOp>)
        return {op.input, op.other, -1};
    else if constexpr (std::is_same_v<AnyOp, ConvOp> || std::is_same_v<AnyOp, LinearOp> || std::is_same_v<AnyOp, AddOp>)
        return {op.input, op.sum.tensor, -1};
    else if constexpr (std::is_same_v<AnyOp, TakeOp>)
        return {op.input, op.index, -1};
    else if constexpr (std::is_same_v<AnyOp, RelativeOp>)
        return {op.input, op.index, op.other};
    else
        return {op.input, -1, -1};
}

std::unique_ptr<Step> make(const Program& program, const Kernels& kernels, size_t index, const Step* like) {
    try {
        return std::visit(Maker{program, kernels, like}, program.ops[index]);
    } catch (const BadProgram& error) {
        throw BadProgram("op " + std::to_string(index) + " (" + kind_of(program.ops[index]) + "): " + error.what());
    }
}

}  // namespace

Network::Network(Program program, const Kernels& kernels, int threads)
    : Network(program, kernels, std::make_shared<Common>(threads), nullptr, {}) {}

Network::Network(Program program, const Network& base, const std::vector<int32_t>& like)
    : Network(program, base.kernels_, base.common_, base.steps_, like) {
    if (base.base_steps_) throw BadProgram("the network to share with shares with another");
}

Network::Network(const Program& program, const Kernels& kernels, std::shared_ptr<Common> common,
                 std::shared_ptr<const Steps> base_steps, const std::vector<int32_t>& like)
    : kernels_(kernels),
      common_(std::move(common)),
      base_steps_(std::move(base_steps)),
      input_tensors_(program.inputs),
      output_tensors_(program.outputs),
      tensors_(program.tensors.size()) {
    if (base_steps_ && like.size() != program.ops.size())
        throw BadProgram(std::to_string(like.size()) + " steps to share with, " + std::to_string(program.ops.size()) +
                         " expected");
    Steps steps;
    for (size_t i = 0; i < program.ops.size(); ++i) {
        const int32_t at = base_steps_ ? like[i] : -1;
        if (at >= 0 && size_t(at) >= base_steps_->size())
            throw BadProgram("the network to share with has no step " + std::to_string(at));
        steps.push_back(make(program, kernels_, i, at >= 0 ? (*base_steps_)[size_t(at)].get() : nullptr));
    }
    steps_ = std::make_shared<const Steps>(std::move(steps));
    find_uses(program);
    for (const int32_t input : input_tensors_) inputs_.push_back(program.tensors[size_t(input)]);
    for (const int32_t output : output_tensors_) outputs_.push_back(program.tensors[size_t(output)]);
    std::lock_guard<std::mutex> lock(common_->mutex);
    common_->needs.emplace_back(this, 0);
    try {
        plan(1);
    } catch (...) {
        common_->needs.pop_back();
        throw;
    }
}

Network::~Network() {
    std::lock_guard<std::mutex> lock(common_->mutex);
    auto& needs = common_->needs;
    needs.erase(std::find_if(needs.begin(), needs.end(), [this](const auto& one) { return one.first == this; }));
}

// From the first step that writes a tensor to the last that reads it.
void Network::find_uses(const Program& program) {
    for (const Tensor& tensor : program.tensors) uses_.push_back({tensor.bytes, kNever, 0});
    // Inputs need no copy where all that reads them is the quantiser, which never reads beyond their end.
    std::vector<bool> quantised(program.tensors.size(), true);
    for (const int32_t input : program.inputs) uses_[size_t(input)].first = 0;
    for (size_t i = 0; i < program.ops.size(); ++i) {
        const bool quantises = std::holds_alternative<QuantiseOp>(program.ops[i]);
        for (const int32_t read : std::visit([](const auto& op) { return reads(op); }, program.ops[i])) {
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

size_t& Network::need() const {
    for (auto& [network, lines] : common_->needs)
        if (network == this) return lines;
    std::abort();  // each has one
}

void Network::plan(int images) {
    images_ = 0, places_.clear(), need() = 0;  // until it is done
    std::vector<Block> blocks;
    const auto add = [&](size_t bytes, size_t first, size_t last, uint8_t*& owner) {
        blocks.push_back({bytes + kSlack, first, last}), places_.emplace_back(&owner, 0);
    };
    scratch_.assign(steps().size(), nullptr);
    for (size_t i = 0; i < uses_.size(); ++i)
        if (uses_[i].first != kNever) add(uses_[i].bytes * size_t(images), uses_[i].first, uses_[i].last, tensors_[i]);
    for (size_t i = 0; i < steps().size(); ++i)
        if (const size_t bytes = steps()[i]->scratch(images, common_->threads.count())) add(bytes, i, i, scratch_[i]);

    need() = place(blocks) / sizeof(Line);
    for (size_t i = 0; i < blocks.size(); ++i) places_[i].second = blocks[i].offset;
    placed_in_ = nullptr;
    try {
        find_room();
    } catch (...) {
        need() = 0;
        throw;
    }
    images_ = images;
}

// Makes the arena as large as the one that needs most, and gives what is ours its address in it.
void Network::find_room() {
    size_t lines = 0;
    for (const auto& [network, needed] : common_->needs) lines = std::max(lines, needed);
    auto& arena = common_->arena;
    if (lines != arena.size()) {
        std::vector<Line>().swap(arena);  // before there is a second one
        arena = std::vector<Line>(lines);
    }
    if (placed_in_ == arena.data()) return;
    for (const auto& [owner, offset] : places_) *owner = reinterpret_cast<uint8_t*>(arena.data()) + offset;
    placed_in_ = arena.data();
}

size_t Network::arena_bytes() const {
    if (base_steps_) return 0;
    std::lock_guard<std::mutex> lock(common_->mutex);
    return common_->arena.size() * sizeof(Line);
}

size_t Network::weight_bytes() const {
    size_t total = 0;
    for (const auto& step : steps()) total += step->weights();
    return total;
}

void Network::begin(const ShoestringArray* inputs, int images) {
    if (images != images_)
        plan(images);
    else
        find_room();
    for (size_t i = 0; i < inputs_.size(); ++i) {
        uint8_t*& tensor = tensors_[size_t(input_tensors_[i])];
        if (bound_[i])
            tensor = static_cast<uint8_t*>(inputs[i].data);  // which no step writes to
        else
            std::memcpy(tensor, inputs[i].data, inputs_[i].bytes * size_t(images));
    }
}

// False when it was given up. A phase in which threads work is never cut short: they would have to agree on that.
bool Network::step(size_t index, Limit& limit) noexcept {
    const Step& step = *steps()[index];
    Threads& threads = common_->threads;
    for (int phase = 0; phase < step.phases(); ++phase) {
        if (limit.over()) return false;
        threads.run(
            [&](int part) { step.run(phase, {tensors_.data(), images_, scratch_[index], part, threads.count()}); });
    }
    return true;
}

void Network::end(const ShoestringArray* outputs) const noexcept {
    for (size_t i = 0; i < outputs_.size(); ++i)
        std::memcpy(outputs[i].data, tensors_[size_t(output_tensors_[i])], outputs_[i].bytes * size_t(images_));
}

bool Network::run(const ShoestringArray* inputs, const ShoestringArray* outputs, int images, Limit& limit) {
    std::lock_guard<std::mutex> lock(common_->mutex);
    limit.begin();
    begin(inputs, images);
    for (size_t i = 0; i < steps().size(); ++i)
        if (!step(i, limit)) return false;
    end(outputs);
    return true;
}

void Network::profile(const ShoestringArray* inputs, const ShoestringArray* outputs, int images, int runs,
                      int64_t* nanoseconds) {
    std::lock_guard<std::mutex> lock(common_->mutex);
    Limit none(nullptr);
    for (int run = 0; run < runs; ++run) {
        begin(inputs, images);
        for (size_t i = 0; i < steps().size(); ++i) {
            const auto start = std::chrono::steady_clock::now();
            step(i, none);
            const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - start;
            *nanoseconds++ = int64_t(took.count());
        }
        end(outputs);
    }
}

}  // namespace shoestring
