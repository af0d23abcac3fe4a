#include "abi.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "network.h"
#include "peak.h"
#include "points.h"
#include "program.h"

namespace {

using namespace shoestring;

constexpr int32_t kVersion = 4, kMostThreads = 256, kMostImages = 65536;
const char* const kIsas[] = {"avx512_vnni", "avx_vnni", "avx2", "neon_dotprod", "neon", "portable"};

// Where a message goes.
struct Message {
    char* text;
    size_t size;
};

void say(Message message, const char* text) {
    if (message.size == 0) return;
    const size_t length = std::min(std::strlen(text), message.size - 1);
    std::memcpy(message.text, text, length);
    message.text[length] = 0;
}

// Runs `act`; false, and what went wrong in `message`, when it throws.
template <class Act>
bool guarded(Message message, Act&& act) noexcept {
    try {
        act();
        return true;
    } catch (const std::bad_alloc&) {
        say(message, "there is not enough memory");
    } catch (const std::length_error&) {
        say(message, "there is not enough memory");
    } catch (const std::exception& error) {
        say(message, error.what());
    } catch (...) {
        say(message, "unknown error");
    }
    return false;
}

const Kernels& kernels(const char* isa) {
    const Kernels* found = isa ? kernels_named(isa) : kernels_here();
    if (found) return *found;
    std::string names;
    for (size_t i = 0; const char* name = shoestring_isa(i); ++i) names += std::string(i ? ", " : "") + name;
    throw BadProgram("the instruction set " + std::string(isa ? isa : "in SHOESTRING_ISA") +
                     " cannot be used here; there are " + names);
}

// What a run was given.
struct Given {
    const ShoestringArray* arrays;
    size_t count;
};

void check(const char* what, Given given, const std::vector<Tensor>& tensors, int32_t images) {
    if (given.count != tensors.size())
        throw BadProgram(std::to_string(given.count) + " " + what + "s given, " + std::to_string(tensors.size()) +
                         " expected");
    for (size_t i = 0; i < tensors.size(); ++i) {
        const size_t bytes = given.arrays[i].bytes, expected = tensors[i].bytes * size_t(images);
        if (bytes != expected)
            throw BadProgram(std::string(what) + " " + std::to_string(i) + " has " + std::to_string(bytes) +
                             " bytes, " + std::to_string(expected) + " expected");
        if (tensors[i].dtype == DType::f32 && reinterpret_cast<uintptr_t>(given.arrays[i].data) % alignof(float) != 0)
            throw BadProgram(std::string(what) + " " + std::to_string(i) + " is not aligned");
    }
}

void check(const Network& network, Given inputs, Given outputs, int32_t images) {
    if (images < 1 || images > kMostImages)
        throw BadProgram(std::to_string(images) + " images given, 1 to " + std::to_string(kMostImages) + " expected");
    check("input", inputs, network.inputs(), images);
    check("output", outputs, network.outputs(), images);
}

// Memory as steps have it.
class Scratch {
public:
    explicit Scratch(size_t bytes) : memory_(::operator new(bytes, std::align_val_t(64))) {}
    ~Scratch() { ::operator delete(memory_, std::align_val_t(64)); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    template <class T>
    T* as() const {
        return static_cast<T*>(memory_);
    }

private:
    void* memory_;
};

void check_points(int64_t clouds, int64_t n, int64_t count) {
    if (clouds < 0 || n < 1 || n > INT32_MAX / 2 || count < 1 || count > n)
        throw BadProgram(std::to_string(count) + " of " + std::to_string(n) + " points cannot be had");
}

}  // namespace

int32_t shoestring_version() {
    return kVersion;
}

const char* shoestring_isa(size_t index) {
    for (const char* name : kIsas)
        if (kernels_named(name) && index-- == 0) return name;
    return nullptr;
}

double shoestring_peak(const char* isa) {
    double peak = 0;
    guarded({nullptr, 0}, [&] { peak = peak_gmacs(kernels(isa)); });
    return peak;
}

void* shoestring_load(const uint8_t* bytes, size_t size, int32_t threads, const char* isa, char* message,
                      size_t message_size) {
    std::unique_ptr<Network> network;
    guarded({message, message_size}, [&] {
        if (threads < 1 || threads > kMostThreads)
            throw BadProgram(std::to_string(threads) + " threads asked for, 1 to " + std::to_string(kMostThreads) +
                             " expected");
        network = std::make_unique<Network>(parse(bytes, size), kernels(isa), threads);
    });
    return network.release();
}

void* shoestring_load_like(const uint8_t* bytes, size_t size, const void* base, const int32_t* like, size_t count,
                           char* message, size_t message_size) {
    std::unique_ptr<Network> network;
    guarded({message, message_size}, [&] {
        network = std::make_unique<Network>(parse(bytes, size), *static_cast<const Network*>(base),
                                            std::vector<int32_t>(like, like + count));
    });
    return network.release();
}

void shoestring_free(void* network) {
    delete static_cast<Network*>(network);
}

const char* shoestring_network_isa(const void* network) {
    return static_cast<const Network*>(network)->isa();
}
size_t shoestring_arena_bytes(const void* network) {
    return static_cast<const Network*>(network)->arena_bytes();
}
size_t shoestring_weight_bytes(const void* network) {
    return static_cast<const Network*>(network)->weight_bytes();
}

size_t shoestring_steps(const void* network, ShoestringStep* steps, size_t count) {
    const auto& all = static_cast<const Network*>(network)->steps();
    for (size_t i = 0; i < std::min(count, all.size()); ++i)
        steps[i] = {all[i]->label(), all[i]->multiplies(), int64_t(all[i]->weights())};
    return all.size();
}

int32_t shoestring_run(void* network, const ShoestringArray* inputs, size_t input_count, const ShoestringArray* outputs,
                       size_t output_count, int32_t images, const ShoestringLimit* limit, char* message,
                       size_t message_size) {
    auto& net = *static_cast<Network*>(network);
    Limit until(limit);
    bool done = false;
    const bool good = guarded({message, message_size}, [&] {
        check(net, {inputs, input_count}, {outputs, output_count}, images);
        done = net.run(inputs, outputs, images, until);
    });
    return !good ? SHOESTRING_FAILED : done ? SHOESTRING_DONE : SHOESTRING_GIVEN_UP;
}

int32_t shoestring_profile(void* network, const ShoestringArray* inputs, size_t input_count,
                           const ShoestringArray* outputs, size_t output_count, int32_t images, int32_t runs,
                           int64_t* nanoseconds, size_t count, char* message, size_t message_size) {
    auto& net = *static_cast<Network*>(network);
    const bool good = guarded({message, message_size}, [&] {
        check(net, {inputs, input_count}, {outputs, output_count}, images);
        if (runs < 1 || count != size_t(runs) * net.steps().size())
            throw BadProgram("there is no room for what each run and step takes");
        net.profile(inputs, outputs, images, runs, nanoseconds);
    });
    return good ? SHOESTRING_DONE : SHOESTRING_FAILED;
}

int32_t shoestring_farthest(const float* xyz, int64_t clouds, int64_t n, int64_t count, int32_t* index, const char* isa,
                            char* message, size_t message_size) {
    return !guarded({message, message_size}, [&] {
        check_points(clouds, n, count);
        const Scratch scratch(farthest_scratch(n));
        for (int64_t c = 0; c < clouds; ++c)
            farthest_points(xyz + c * n * 3, n, count, index + c * count, scratch.as<float>(), &kernels(isa));
    });
}

int32_t shoestring_nearest(const float* centres, int64_t m, const float* xyz, int64_t clouds, int64_t n, float radius,
                           int64_t count, int32_t* index, const char* isa, char* message, size_t message_size) {
    return !guarded({message, message_size}, [&] {
        check_points(clouds, n, count);
        if (m < 0) throw BadProgram("there are fewer than no centres");
        const Kernels& own = kernels(isa);
        const Scratch scratch(nearest_scratch(n, count));
        for (int64_t c = 0; c < clouds; ++c) {
            const float *from = centres + c * m * 3, *to = xyz + c * n * 3;
            int32_t* const found = index + c * m * count;
            if (radius < 0)
                nearest_points(from, m, to, n, count, found, scratch.as<void>(), &own);
            else
                points_within(from, m, to, n, radius, count, found, scratch.as<void>(), &own);
        }
    });
}

int32_t shoestring_take(const void* x, int64_t clouds, int64_t n, size_t bytes, const int32_t* index, int64_t count,
                        void* out, char* message, size_t message_size) {
    return !guarded({message, message_size}, [&] {
        for (int64_t i = 0; i < clouds * count; ++i)
            if (index[i] < 0 || index[i] >= n)
                throw BadProgram("row " + std::to_string(index[i]) + " is asked for, of " + std::to_string(n));
        for (int64_t c = 0; c < clouds; ++c)
            take_rows(static_cast<const uint8_t*>(x) + (size_t)(c * n) * bytes, n, bytes, index + c * count, count,
                      static_cast<uint8_t*>(out) + (size_t)(c * count) * bytes);
    });
}

int32_t shoestring_interpolate(const float* rows, int64_t width, const float* centres, int64_t m, const float* xyz,
                               int64_t clouds, int64_t n, float* out, const char* isa, char* message,
                               size_t message_size) {
    return !guarded({message, message_size}, [&] {
        check_points(clouds, n, 1);
        const Kernels& own = kernels(isa);
        const int64_t near = std::min<int64_t>(3, n);
        const Scratch scratch(nearest_scratch(n, near));
        std::vector<int32_t> index((size_t)(m * near));
        std::vector<float> weights(index.size());
        for (int64_t c = 0; c < clouds; ++c) {
            three_nearest(centres + c * m * 3, m, xyz + c * n * 3, n, index.data(), weights.data(), scratch.as<void>(),
                          &own);
            blend_rows(rows + c * n * width, width, index.data(), weights.data(), near, m, out + c * m * width);
        }
    });
}
