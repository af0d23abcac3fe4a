// The library as others see it: plain C, called by native.py through ctypes. No exception leaves it and every pointer
// comes with its size. Functions that can fail write one line for the user to `message` [message_size], cut to fit.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define SHOESTRING_API extern "C" __declspec(dllexport)
#else
#define SHOESTRING_API extern "C" __attribute__((visibility("default")))
#endif

// An input or output, image after image. Inputs are not written to.
struct ShoestringArray {
    void* data;
    size_t bytes;  // of all images: checked against the program
};

struct ShoestringStep {
    const char* label;   // lives as long as the network
    int64_t multiplies;  // for an image
    int64_t weight_bytes;
};

// Of this interface: native.py refuses a library of another.
SHOESTRING_API int32_t shoestring_version();
// The instruction sets that can be used here, the best first; nullptr behind the last.
SHOESTRING_API const char* shoestring_isa(size_t index);
// Multiply-adds a second, in 1e9, of the convolution kernel on one core at its best (peak.h); 0 when it fails.
SHOESTRING_API double shoestring_peak(const char* isa);

// A network of the bytes of a program (program.py), for `threads` >= 1 threads. `isa`: a name, or nullptr for the best
// (or what the environment's SHOESTRING_ISA says). nullptr when it fails.
SHOESTRING_API void* shoestring_load(const uint8_t* bytes, size_t size, int32_t threads, const char* isa, char* message,
                                     size_t message_size);
// A network beside `base`, which must have been loaded without one: another width or depth of what it is, to be run in
// turns with it. They share threads, instruction set and the memory of a run, and of op i, like[i] (of as many as there
// are ops) is the step of `base` whose packed weights are used as far as they are the same, or -1 where none is like
// it. Any may be freed first: what others still use stays.
SHOESTRING_API void* shoestring_load_like(const uint8_t* bytes, size_t size, const void* base, const int32_t* like,
                                          size_t count, char* message, size_t message_size);
// When no run of it is under way. nullptr is allowed.
SHOESTRING_API void shoestring_free(void* network);

SHOESTRING_API const char* shoestring_network_isa(const void* network);
// What is its own. The memory of a run counts as that of `base`.
SHOESTRING_API size_t shoestring_arena_bytes(const void* network);
SHOESTRING_API size_t shoestring_weight_bytes(const void* network);
// How many there are: one an op. Writes the first `count` to `steps`.
SHOESTRING_API size_t shoestring_steps(const void* network, ShoestringStep* steps, size_t count);

// What a run returns: done; failed, with a message; given up, where the outputs hold nothing of use.
enum { SHOESTRING_DONE = 0, SHOESTRING_FAILED = 1, SHOESTRING_GIVEN_UP = 2 };
// What a run looks at before each phase of a step, and where it is to end ends there: given up. Later runs are as if this
// had not been.
struct ShoestringLimit {
    const int32_t* stop;  // nullptr, or a word, read as an atomic, that any thread may set to other than 0 at any time
    int64_t nanoseconds;  // from the call on, waiting for other runs included; at most 2^61, 0 or less: no limit
    // A thread that has lost its core looks at no clock. The longest time between two looks so far, and at least so many
    // nanoseconds, is reckoned with once more: the run ends while there is still as much left.
    int64_t gap;
};
// May be called from several threads: runs of one network, and of those that share with it, follow one another. `limit`:
// nullptr for none.
SHOESTRING_API int32_t shoestring_run(void* network, const ShoestringArray* inputs, size_t input_count,
                                      const ShoestringArray* outputs, size_t output_count, int32_t images,
                                      const ShoestringLimit* limit, char* message, size_t message_size);
// Several runs that nobody gives up. `nanoseconds` [runs][steps]: `count` must be as many.
SHOESTRING_API int32_t shoestring_profile(void* network, const ShoestringArray* inputs, size_t input_count,
                                          const ShoestringArray* outputs, size_t output_count, int32_t images,
                                          int32_t runs, int64_t* nanoseconds, size_t count, char* message,
                                          size_t message_size);

// Points (points.h), cloud after cloud: `clouds` of them, xyz [clouds, n, 3]. `isa` as for shoestring_load. 0 when it is
// done.
SHOESTRING_API int32_t shoestring_farthest(const float* xyz, int64_t clouds, int64_t n, int64_t count, int32_t* index,
                                           const char* isa, char* message, size_t message_size);
// centres [clouds, m, 3], index [clouds, m, count]. `radius` below 0: none, else as points_within.
SHOESTRING_API int32_t shoestring_nearest(const float* centres, int64_t m, const float* xyz, int64_t clouds, int64_t n,
                                          float radius, int64_t count, int32_t* index, const char* isa, char* message,
                                          size_t message_size);
// Rows of `bytes` bytes of x [clouds, n] by index [clouds, count], each below n, to out [clouds, count].
SHOESTRING_API int32_t shoestring_take(const void* x, int64_t clouds, int64_t n, size_t bytes, const int32_t* index,
                                       int64_t count, void* out, char* message, size_t message_size);
// Features [clouds, m, width] at centres [clouds, m, 3] from rows [clouds, n, width] of the points (points.h).
SHOESTRING_API int32_t shoestring_interpolate(const float* rows, int64_t width, const float* centres, int64_t m,
                                              const float* xyz, int64_t clouds, int64_t n, float* out, const char* isa,
                                              char* message, size_t message_size);
