// The words in which program_checks.cpp says what it wants: each throws BadProgram where it does not have it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "program.h"

namespace shoestring {

constexpr int64_t kHuge = int64_t{1} << 60;

template <class... Part>
[[noreturn]] void refuse(const Part&... parts) {
    std::string text;
    const auto append = [&](const auto& part) {
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>)
            text += std::to_string(part);
        else
            text += part;
    };
    (append(parts), ...);
    throw BadProgram(text);
}

// The product of numbers >= 0, or kHuge where it is larger.
inline int64_t product(std::initializer_list<int64_t> factors) {
    int64_t result = 1;
    for (const int64_t factor : factors) {
        if (factor == 0) return 0;
        result = result > kHuge / factor ? kHuge : result * factor;
    }
    return result;
}

inline void equal(const char* what, int64_t got, int64_t expected) {
    if (got != expected) refuse(what, " has ", got, " elements, ", expected, " expected");
}

inline void within(const char* what, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) refuse(what, " is ", value, ", not in ", low, " to ", high);
}

inline void code(const char* what, int32_t value) {
    within(what, value, 0, 255);
}

template <class T>
void absent(const char* what, const Const<T>& constant) {
    if (constant) refuse(what, " has no meaning here");
}

inline void limits(int32_t low, int32_t high) {
    code("low", low), code("high", high);
    if (low > high) refuse("low is ", low, ", above high, ", high);
}

inline void table(const Const<uint8_t>& constant) {
    if (constant) equal("table", int64_t(constant.count), 256);
}

inline void shape(const Tensor& tensor, std::initializer_list<int64_t> expected, const char* what = "the output") {
    if (!std::equal(tensor.shape.begin(), tensor.shape.end(), expected.begin(), expected.end())) {
        std::string text;
        for (const int64_t extent : expected) text += (text.empty() ? "" : ", ") + std::to_string(extent);
        refuse("the shape of ", what, " is not (", text, ")");
    }
}

}  // namespace shoestring
