// The threads of one network. Between the phases of a run they spin, between runs they soon sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace shoestring {

class Threads {
public:
    // `count` >= 1, the caller of `run` among them. Throws std::system_error when the system gives no more.
    explicit Threads(int count);
    ~Threads();
    Threads(const Threads&) = delete;

    int count() const { return int(workers_.size()) + 1; }

    // Calls job(part) for every part below `count` at once, part 0 here, and returns when all have: what they wrote is
    // visible. By one caller at a time; `job` must not throw.
    template <class Job>
    void run(const Job& job) noexcept {
        if (workers_.empty()) return job(0);
        start([](const void* context, int part) { (*static_cast<const Job*>(context))(part); }, &job);
        job(0);
        finish();
    }

private:
    using Function = void (*)(const void* context, int part);
    void start(Function function, const void* context) noexcept;
    void finish() noexcept;
    void work(int part) noexcept;
    void stop() noexcept;
    template <class Condition>
    bool wait_until(Condition condition) noexcept;
    void wake() noexcept;
    void part_from_others(int part) noexcept;

    // What `start` publishes by raising `round_`.
    Function function_ = nullptr;
    const void* context_ = nullptr;
    // Each on a line of its own, so that those who spin on one are not disturbed by writes to another.
    alignas(64) std::atomic<uint32_t> round_{0};  // one more with each job
    alignas(64) std::atomic<int> busy_{0};        // workers that have not finished it
    alignas(64) std::atomic<int> asleep_{0};      // threads that must be woken
    std::vector<std::atomic<int>> processors_;    // where each part was last seen
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::thread> workers_;
};

}  // namespace shoestring
