// What the fields of a program must satisfy, so that steps need not look again.
#pragma once

#include "program.h"

namespace shoestring {

// "conv", "max pool", ...
const char* kind_of(const Op& op);

// Throws BadProgram, naming the op. Everything that `parse` promises beyond the bounds of the bytes.
void check(const Program& program);

}  // namespace shoestring
