// Bytes that claim to be a program: either they are refused with a word, or what they ask for stays within its bounds.
#include <cstdlib>
#include <vector>

#include "abi.h"
#include "program.h"

using namespace shoestring;

namespace {

struct Arrays {
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<ShoestringArray> all;

    Arrays(const Program& program, const std::vector<int32_t>& indices, size_t images) {
        for (int32_t index : indices) {
            const Tensor& tensor = program.tensors[(size_t)index];
            bytes.emplace_back(images * tensor.bytes, (uint8_t)63);  // as floats: 0.7
            all.push_back({bytes.back().data(), images * tensor.bytes});
        }
    }
};

// Small enough to be run some hundred times a second.
bool small(const Program& program, const void* network) {
    size_t bytes = 0;
    for (const Tensor& tensor : program.tensors) bytes += tensor.bytes;
    std::vector<ShoestringStep> steps(shoestring_steps(network, nullptr, 0));
    shoestring_steps(network, steps.data(), steps.size());
    int64_t multiplies = 0;
    for (const ShoestringStep& step : steps) multiplies += step.multiplies;
    const auto rows = [&](int32_t tensor) { return (int64_t)program.tensors[(size_t)tensor].shape[0]; };
    for (const Op& op : program.ops) {  // distances
        if (const auto* farthest = std::get_if<FarthestOp>(&op))
            multiplies += rows(farthest->input) * rows(farthest->output);
        if (const auto* nearest = std::get_if<NearestOp>(&op))
            multiplies += rows(nearest->input) * rows(nearest->other);
    }
    return bytes < 1 << 20 && multiplies < 1 << 22;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Program program;
    try {
        program = parse(data, size);
    } catch (const BadProgram& error) {
        if (!*error.what()) std::abort();
        return 0;
    }
    char text[400];
    // The data's length chooses, so that a failure repeats.
    size_t isas = 0;
    while (shoestring_isa(isas)) ++isas;
    const char* isa = shoestring_isa(size / 64 % isas);
    void* network = shoestring_load(data, size, (int32_t)(1 + size % 2), isa, text, sizeof text);
    if (!network) return 0;
    if (small(program, network)) {
        const int32_t images = 1 + (int32_t)(size / 2 % 2);
        const Arrays inputs(program, program.inputs, (size_t)images), outputs(program, program.outputs, (size_t)images);
        const ShoestringLimit over{nullptr, 1, 0};
        if (!program.ops.empty() &&
            shoestring_run(network, inputs.all.data(), inputs.all.size(), outputs.all.data(), outputs.all.size(),
                           images, &over, text, sizeof text) != SHOESTRING_GIVEN_UP)
            std::abort();
        if (shoestring_run(network, inputs.all.data(), inputs.all.size(), outputs.all.data(), outputs.all.size(),
                           images, nullptr, text, sizeof text) != 0)
            std::abort();
    }
    shoestring_free(network);
    return 0;
}
