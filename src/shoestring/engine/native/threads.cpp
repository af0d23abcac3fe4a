#include "threads.h"

#include <algorithm>
#include <chrono>
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace shoestring {
namespace {

// Longer than the shares of a step differ and than the next run of a loop takes to come; too short to warm a processor.
constexpr std::chrono::microseconds kSpin{50};

int processor() {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

}  // namespace

Threads::Threads(int count) : processors_(size_t(count)) {
    for (std::atomic<int>& at : processors_) at.store(-1);
    workers_.reserve(size_t(count - 1));
    try {
        for (int part = 1; part < count; ++part) workers_.emplace_back([this, part] { work(part); });
    } catch (...) {
        stop();
        throw;
    }
}

Threads::~Threads() {
    stop();
}

// Spins, then sleeps; returns whether it slept. Whoever makes the condition true looks at `asleep_` next and wakes us.
// No wake-up is lost: both sides write (we `asleep_`, they `round_` or `busy_`) before they read, in one total order,
// so that they see us asleep or we see the condition true.
template <class Condition>
bool Threads::wait_until(Condition condition) noexcept {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 32; ++i) {
            if (condition()) return false;
            pause();
        }
    } while (std::chrono::steady_clock::now() < deadline);
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.fetch_add(1);
    changed_.wait(lock, condition);
    asleep_.fetch_sub(1);
    return true;
}

// Where processors are few, Linux often wakes a thread on the processor of its waker and leaves both there for long,
// one waiting for the other, while another processor idles. Whoever finds itself on the processor of an earlier part
// moves to one that no other part is on, if there is any it may use.
void Threads::part_from_others(int part) noexcept {
    const int here = processor();
    processors_[size_t(part)].store(here, std::memory_order_relaxed);
#if defined(__linux__)
    const auto mine = processors_.begin() + part;
    if (here < 0 || std::find(processors_.begin(), mine, here) == mine) return;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    cpu_set_t others = allowed;
    for (const std::atomic<int>& at : processors_) {
        const int taken = at.load(std::memory_order_relaxed);
        if (taken >= 0 && taken < CPU_SETSIZE) CPU_CLR(taken, &others);
    }
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
    mine->store(processor(), std::memory_order_relaxed);
    sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

void Threads::wake() noexcept {
    std::lock_guard<std::mutex> lock(mutex_);  // whoever is about to sleep does before we notify
    changed_.notify_all();
}

void Threads::start(Function function, const void* context) noexcept {
    function_ = function, context_ = context;
    busy_.store(int(workers_.size()));
    round_.fetch_add(1);
    if (asleep_.load() == 0) return;
    processors_[0].store(processor(), std::memory_order_relaxed);
    wake();
}

void Threads::finish() noexcept {
    wait_until([this] { return busy_.load() == 0; });
}

void Threads::work(int part) noexcept {
    for (uint32_t seen = 0;;) {
        if (wait_until([this, seen] { return round_.load() != seen; })) part_from_others(part);
        ++seen;
        const Function function = function_;
        if (function == nullptr) return;  // see stop
        function(context_, part);
        if (busy_.fetch_sub(1) == 1 && asleep_.load() != 0) wake();
    }
}

void Threads::stop() noexcept {
    start(nullptr, nullptr);
    for (std::thread& worker : workers_) worker.join();
}

}  // namespace shoestring
