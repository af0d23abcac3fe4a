// In the place of isa.cpp: the emulated instruction sets, without a word to the processor.
#include <cstring>
#include <initializer_list>

#include "kernels.h"

namespace shoestring {

extern const Kernels kernels_avx512_vnni, kernels_avx_vnni;

const Kernels* kernels_named(const char* name) {
    for (const Kernels* kernels : {&kernels_avx512_vnni, &kernels_avx_vnni})
        if (!std::strcmp(name, kernels->name)) return kernels;
    return nullptr;
}

const Kernels* kernels_here() {
    return &kernels_avx512_vnni;
}

}  // namespace shoestring
