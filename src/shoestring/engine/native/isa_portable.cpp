// Compiled for any processor.
#include "vec_portable.h"
#define SHOESTRING_ISA portable
#include "isa.inl"
