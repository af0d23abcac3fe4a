// The step for a linear layer that is better off as a sparse 1x1 convolution.
#pragma once

#include "step.h"

namespace shoestring {

// nullptr where it is not: few rows, few zero blocks, or an output of floats.
std::unique_ptr<Step> make_sparse_linear(const LinearOp& op, const Program& program, const Kernels& kernels,
                                         const Step* like);

}  // namespace shoestring
