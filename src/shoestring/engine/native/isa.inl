// The kernels of one instruction set: included by isa_*.cpp after its vector type, with SHOESTRING_ISA its name.
#include "conv.inl"
#include "depthwise.inl"
#include "kernels.h"
#include "linear.inl"
#include "nearness.inl"
#include "pointwise.inl"

#define SHOESTRING_JOIN_(a, b) a##b
#define SHOESTRING_JOIN(a, b) SHOESTRING_JOIN_(a, b)
#define SHOESTRING_TEXT_(a) #a
#define SHOESTRING_TEXT(a) SHOESTRING_TEXT_(a)

namespace shoestring {

extern const Kernels SHOESTRING_JOIN(kernels_, SHOESTRING_ISA);
const Kernels SHOESTRING_JOIN(kernels_, SHOESTRING_ISA) = {SHOESTRING_TEXT(SHOESTRING_ISA), &conv_kernels,
                                                           &depthwise_kernels,              &linear_kernels,
                                                           &pointwise_kernels,              &nearness_kernels};

}  // namespace shoestring
