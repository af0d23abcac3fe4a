// One step of a network: an op made ready to run (weights packed for the processor at hand).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels.h"
#include "program.h"

namespace shoestring {

// Tensors and scratch are followed by this many bytes that may be read (never written, and their values must not
// count).
constexpr size_t kSlack = 128;

// What a step sees while it runs. Several threads run the same step at once, each with its own `part`; a phase ends
// when all parts have returned, and the next sees what it wrote.
struct Work {
    uint8_t* const* tensors;  // address of each tensor, image after image; nullptr where it is not in use now
    int images;
    uint8_t* scratch;  // 64-byte aligned, as large as Step::scratch said
    int part, parts;   // this thread, of so many

    template <class T = uint8_t>
    T* tensor(int32_t index) const {
        return reinterpret_cast<T*>(tensors[index]);
    }
};

class Step {
public:
    virtual ~Step() = default;
    virtual int phases() const { return 1; }
    virtual size_t scratch(int images, int parts) const { return (void)images, (void)parts, 0; }
    virtual void run(int phase, const Work& work) const noexcept = 0;
    // For the profile: what the kernel is called ("conv 4x1", "depthwise 3x3") and the multiply-adds it executes for an
    // image (zeros that it skips not counted).
    virtual const char* label() const = 0;
    virtual int64_t multiplies() const { return 0; }
    // Bytes of packed weights, for the memory figure; not those that another network keeps.
    virtual size_t weights() const { return 0; }
};

// The share of [0, total) that `part` of `parts` does, in multiples of `grain`.
struct Range {
    int64_t begin, end;
};
inline Range share(int64_t total, int part, int parts, int64_t grain = 1) {
    const int64_t units = (total + grain - 1) / grain;
    const int64_t begin = units * part / parts * grain, end = units * (part + 1) / parts * grain;
    return {begin < total ? begin : total, end < total ? end : total};
}

// `like`: of another network, for the same kernels, or nullptr. Weights that are found there as well are read there, so
// that it must outlive the new step; it must not have been made like another itself.
std::unique_ptr<Step> make_conv(const ConvOp&, const Program&, const Kernels&,
                                const Step* like);  // conv.cpp: groups with > 1 input
std::unique_ptr<Step> make_depthwise(const ConvOp&, const Program&, const Kernels&,
                                     const Step* like);  // depthwise.cpp: one input a group
std::unique_ptr<Step> make_linear(const LinearOp&, const Program&, const Kernels&, const Step* like);  // linear.cpp
std::unique_ptr<Step> make_pool(const MaxPoolOp&, const Program&, const Kernels&);                     // pool.cpp
std::unique_ptr<Step> make_pool(const AveragePoolOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_pointwise(const QuantiseOp&, const Program&, const Kernels&);  // pointwise.cpp
std::unique_ptr<Step> make_pointwise(const DequantiseOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_pointwise(const AddOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_pointwise(const MulOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_pointwise(const TableOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_copy(const CopyOp&, const Program&, const Kernels&);        // copy.cpp
std::unique_ptr<Step> make_pool(const HighestOp&, const Program&, const Kernels&);     // pool.cpp
std::unique_ptr<Step> make_points(const FarthestOp&, const Program&, const Kernels&);  // neighbours.cpp
std::unique_ptr<Step> make_points(const NearestOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_points(const TakeOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_points(const RelativeOp&, const Program&, const Kernels&);
std::unique_ptr<Step> make_softmax(const SoftmaxOp&, const Program&, const Kernels&);  // copy.cpp

}  // namespace shoestring
