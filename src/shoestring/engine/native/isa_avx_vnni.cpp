// Compiled for AVX2, FMA and AVX-VNNI (the dot product of AVX-512 on shorter vectors).
#define SHOESTRING_AVX_VNNI
#include "vec_avx2.h"
#define SHOESTRING_ISA avx_vnni
#include "isa.inl"
