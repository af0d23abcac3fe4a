// A program made ready: a step for each op, memory for what flows between them, threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "abi.h"
#include "arena.h"
#include "limit.h"
#include "program.h"
#include "step.h"
#include "threads.h"

namespace shoestring {

class Network {
public:
    // Throws BadProgram where a step cannot be made, std::bad_alloc, and std::system_error for want of threads.
    Network(Program program, const Kernels& kernels, int threads);
    // Shares with `base`, which shares with no other itself, the threads, the memory that a run needs (one of them runs
    // at a time) and those weights of step like[i], for op i, that the program has too; like[i] is -1 where none is
    // like it. What is shared lives as long as any of them: `base` may go first.
    Network(Program program, const Network& base, const std::vector<int32_t>& like);
    ~Network();

    const char* isa() const { return kernels_.name; }
    const std::vector<Tensor>& inputs() const { return inputs_; }
    const std::vector<Tensor>& outputs() const { return outputs_; }
    const std::vector<std::unique_ptr<Step>>& steps() const { return *steps_; }  // one an op
    size_t weight_bytes() const;                                                 // not those of `base`
    // As it is now: for the number of images of the last run, 1 before the first. 0 with a `base`, whose it is.
    size_t arena_bytes() const;

    // `inputs` and `outputs`: an array each, image after image. One run at a time: others wait. Ends early, with nothing
    // in `outputs`, and returns false where `limit` is over. Throws std::bad_alloc, only when `images` is not what it was
    // in the run before.
    bool run(const ShoestringArray* inputs, const ShoestringArray* outputs, int images, Limit& limit);
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
    // What networks have in common that share.
    struct Common {
        explicit Common(int count) : threads(count) {}
        Threads threads;
        std::mutex mutex;  // for what follows and the plans of all
        std::vector<Line> arena;
        std::vector<std::pair<const Network*, size_t>> needs;  // lines
    };
    using Steps = std::vector<std::unique_ptr<Step>>;
    Network(const Program& program, const Kernels& kernels, std::shared_ptr<Common> common,
            std::shared_ptr<const Steps> base_steps, const std::vector<int32_t>& like);
    void find_uses(const Program& program);
    size_t& need() const;
    void plan(int images);
    void find_room();
    void begin(const ShoestringArray* inputs, int images);
    bool step(size_t index, Limit& limit) noexcept;
    void end(const ShoestringArray* outputs) const noexcept;

    const Kernels& kernels_;
    std::shared_ptr<Common> common_;
    std::shared_ptr<const Steps> base_steps_, steps_;  // the first for as long as the others read their weights
    std::vector<Tensor> inputs_, outputs_;
    std::vector<int32_t> input_tensors_, output_tensors_;
    std::vector<bool> bound_;  // inputs that are read where the caller has them
    std::vector<Use> uses_;    // of each tensor

    // The plan: for so many images, where in the arena what lies, and the addresses that follow from it.
    int images_ = 0;
    std::vector<std::pair<uint8_t**, size_t>> places_;
    const Line* placed_in_ = nullptr;
    std::vector<uint8_t*> tensors_, scratch_;  // addresses: of tensors, and by step
};

}  // namespace shoestring
