// A program made ready: a step for each op, memory for what flows between them, threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "abi.h"
#include "arena.h"
#include "program.h"
#include "step.h"
#include "threads.h"

namespace shoestring {

class Network {
public:
    // Throws BadProgram where a step cannot be made, std::bad_alloc, and std::system_error for want of threads.
    Network(Program program, const Kernels& kernels, int threads);

    const char* isa() const { return isa_; }
    const std::vector<Tensor>& inputs() const { return inputs_; }
    const std::vector<Tensor>& outputs() const { return outputs_; }
    const std::vector<std::unique_ptr<Step>>& steps() const { return steps_; }  // one an op
    size_t weight_bytes() const;
    size_t arena_bytes() const;  // as it is now: for the number of images of the last run, 1 before the first

    // `inputs` and `outputs`: an array each, image after image. One run at a time: others wait. Throws std::bad_alloc,
    // only when `images` is not what it was in the run before.
    void run(const ShoestringArray* inputs, const ShoestringArray* outputs, int images);
    // The same `runs` times. `nanoseconds` [runs][steps]: how long each step took.
    void profile(const ShoestringArray* inputs, const ShoestringArray* outputs, int images, int runs,
                 int64_t* nanoseconds);

private:
    // Of a tensor: its bytes for one image, and the steps between which it is needed.
    struct Use {
        size_t bytes, first, last;
    };
    struct alignas(64) Line {
        uint8_t bytes[64];
    };
    void find_uses(const Program& program);
    void plan(int images);
    void begin(const ShoestringArray* inputs, int images);
    void step(size_t index) noexcept;
    void end(const ShoestringArray* outputs) const noexcept;

    const char* isa_;
    std::vector<Tensor> inputs_, outputs_;
    std::vector<int32_t> input_tensors_, output_tensors_;
    std::vector<bool> bound_;  // inputs that are read where the caller has them
    std::vector<std::unique_ptr<Step>> steps_;
    std::vector<Use> uses_;  // of each tensor
    Threads threads_;

    mutable std::mutex mutex_;  // for what follows
    int images_ = 0;
    std::vector<Line> arena_;
    std::vector<uint8_t*> tensors_, scratch_;  // addresses: of tensors, and by step
};

}  // namespace shoestring
