#pragma once

#include "kernels.h"

namespace shoestring {

// Multiply-adds a second, in 1e9, of the convolution kernel on one core when nothing leaves the first-level cache: the
// roof that a profile is held against. Takes about 30 ms.
double peak_gmacs(const Kernels& kernels);

}  // namespace shoestring
