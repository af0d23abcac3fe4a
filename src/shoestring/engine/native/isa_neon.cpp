// Compiled for the vectors that every AArch64 processor has.
#include "vec_neon.h"
#define SHOESTRING_ISA neon
#include "isa.inl"
