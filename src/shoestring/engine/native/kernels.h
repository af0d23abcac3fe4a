// The inner loops, one table of functions for each instruction set, chosen by cpuid when a network is loaded.
//
// A file of kernels (isa_*.cpp) is compiled for its instruction set and includes the .inl files, which are written over
// the vector type that the file brings (vec_*.h). Such files use no C++ library: an inline function of the library that
// was compiled here with AVX2 could be the one that the linker keeps for everybody.
//
// All of them compute the same bytes: integers exactly; floats in the order that program.py states, fused only where it
// says fma (-ffp-contract=off).
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoestring {

// How the accumulators of one output channel become codes (program.py: requantised). A table and a sum, where there are
// any, are applied by the step to what was just written, with the pointwise kernels.
struct Codes {
    float multiplier;
    int32_t zero, low, high;
};

struct ConvKernels;       // conv.h
struct DepthwiseKernels;  // depthwise.h
struct LinearKernels;     // linear.h
struct PointwiseKernels;  // pointwise.h: add, mul, table, quantise, dequantise, pools
struct NearnessKernels;   // nearness.h: sampling and neighbours of points

struct Kernels {
    const char* name;  // "avx512_vnni", "avx_vnni", "avx2", "neon_dotprod", "neon", "portable"
    const ConvKernels* conv;
    const DepthwiseKernels* depthwise;
    const LinearKernels* linear;
    const PointwiseKernels* pointwise;
    const NearnessKernels* nearness;
};

// nullptr where the file was not compiled in or the processor lacks the instructions (isa.cpp).
const Kernels* kernels_named(const char* name);
// The best there is; the environment's SHOESTRING_ISA names another.
const Kernels* kernels_here();

}  // namespace shoestring
