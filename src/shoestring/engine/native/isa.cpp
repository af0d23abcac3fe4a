// Which instruction sets were compiled in, and which of them this processor and its operating system can run.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

// The best first, as CMake found them: ISA(avx2)ISA(portable), say.
#ifndef SHOESTRING_ISAS
#define SHOESTRING_ISAS ISA(portable)
#endif

namespace shoestring {

#define ISA(name) extern const Kernels kernels_##name;
SHOESTRING_ISAS
#undef ISA

namespace {

bool runs_portable() {
    return true;
}

#if defined(__x86_64__)
struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
    if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return {};
    return r;
}

// Whether the operating system saves these registers (XCR0): a processor that has them is not enough.
bool saved(unsigned mask) {
    if (!(cpuid(1, 0).c >> 27 & 1)) return false;  // OSXSAVE
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

constexpr unsigned kVectors = 0x06, kMasks = 0xe6;  // XMM and YMM; and the opmasks and ZMM

[[maybe_unused]] bool runs_avx2() {
    constexpr unsigned fma = 1u << 12, avx2 = 1u << 5;
    return saved(kVectors) && (cpuid(1, 0).c & fma) && (cpuid(7, 0).b & avx2);
}
[[maybe_unused]] bool runs_avx_vnni() {
    return runs_avx2() && (cpuid(7, 1).a & 1u << 4);
}
[[maybe_unused]] bool runs_avx512_vnni() {
    constexpr unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, all = f | dq | bw | vl;
    const Registers r = cpuid(7, 0);
    return runs_avx2() && saved(kMasks) && (r.b & all) == all && (r.c & 1u << 11);
}
#elif defined(__aarch64__)
[[maybe_unused]] bool runs_neon() {
    return true;
}
[[maybe_unused]] bool runs_neon_dotprod() {
#ifdef __APPLE__
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has;
#else
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#endif
}
#endif

// The first whose name is asked for (nullptr: any) and that can run here. Asked once: under a hypervisor each cpuid
// takes longer than sampling a small cloud.
const Kernels* first(const char* name) {
#define ISA(isa)                                \
    static const bool can_##isa = runs_##isa(); \
    if (can_##isa && (!name || !std::strcmp(name, #isa))) return &kernels_##isa;
    SHOESTRING_ISAS
#undef ISA
    return nullptr;
}

}  // namespace

const Kernels* kernels_named(const char* name) {
    return name ? first(name) : nullptr;
}

const Kernels* kernels_here() {
    const char* wish = std::getenv("SHOESTRING_ISA");
    return first(wish && *wish ? wish : nullptr);
}

}  // namespace shoestring
