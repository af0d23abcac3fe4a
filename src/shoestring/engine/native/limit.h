// When a run is to end early: ShoestringLimit (abi.h), looked at by the thread that runs.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "abi.h"

namespace shoestring {

class Limit {
public:
    explicit Limit(const ShoestringLimit* given)
        : stop_(given ? given->stop : nullptr),
          timed_(given && given->nanoseconds > 0),
          gap_(given ? std::clamp<int64_t>(given->gap, 0, kMost) : 0) {
        if (timed_) end_ = Clock::now() + std::chrono::nanoseconds(std::min(given->nanoseconds, kMost));
    }
    // What was waited for other runs is no time between two looks.
    void begin() {
        if (timed_) last_ = Clock::now();
    }
    // Looks once.
    bool over() noexcept {
        if (stop_ && __atomic_load_n(stop_, __ATOMIC_RELAXED)) return true;  // C++17 has no std::atomic_ref
        if (!timed_) return false;
        const auto now = Clock::now();
        gap_ = std::max<std::chrono::nanoseconds>(gap_, now - last_);
        last_ = now;
        return end_ - now <= gap_;
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr int64_t kMost = int64_t(1) << 61;  // sums of two of these and the clock stay in range
    const int32_t* stop_;
    bool timed_;
    std::chrono::nanoseconds gap_;
    Clock::time_point end_, last_;
};

}  // namespace shoestring
