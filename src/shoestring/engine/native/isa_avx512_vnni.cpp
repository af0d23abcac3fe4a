// Compiled for AVX-512 F, BW, VL, DQ and VNNI.
#include "vec_avx512.h"
#define SHOESTRING_ISA avx512_vnni
#include "isa.inl"
