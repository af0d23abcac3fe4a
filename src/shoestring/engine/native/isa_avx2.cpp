// Compiled for AVX2 and FMA.
#include "vec_avx2.h"
#define SHOESTRING_ISA avx2
#include "isa.inl"
