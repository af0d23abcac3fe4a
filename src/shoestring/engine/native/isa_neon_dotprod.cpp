// Compiled for AArch64 with the dot product of ARMv8.2.
#define SHOESTRING_DOTPROD
#include "vec_neon.h"
#define SHOESTRING_ISA neon_dotprod
#include "isa.inl"
