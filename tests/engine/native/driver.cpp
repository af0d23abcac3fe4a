// Runs a program with every instruction set on 1 to 3 threads, for tests where Python cannot be:
//
//   driver PROGRAM INPUTS OUTPUTS IMAGES ARRAY...
//
// ARRAY is in:BYTES or out:BYTES, of all images. INPUTS holds the inputs one after another; OUTPUTS gets the outputs of
// the best instruction set on 1, 2 and 3 threads, then of the next. Without arguments it prints the instruction sets.
// Two callers run each network at the same time.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "abi.h"

namespace {

struct Arrays {
    std::vector<std::vector<char>> bytes;
    std::vector<ShoestringArray> all;

    void add(size_t size) {
        bytes.emplace_back(size, (char)0x5a);
        all.push_back({bytes.back().data(), size});
    }
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "driver: %s\n", what);
    std::exit(1);
}

void run(void* network, const Arrays& inputs, Arrays& outputs, int images) {
    char text[400];
    for (auto& one : outputs.bytes) std::memset(one.data(), 0x5a, one.size());
    if (shoestring_run(network, inputs.all.data(), inputs.all.size(), outputs.all.data(), outputs.all.size(), images,
                       nullptr, text, sizeof text) != 0)
        fail(text);
}

}  // namespace

int main(int count, char** argv) {
    if (count == 1) {
        for (size_t i = 0; shoestring_isa(i); ++i) std::puts(shoestring_isa(i));
        return 0;
    }
    if (count < 6) fail("PROGRAM INPUTS OUTPUTS IMAGES ARRAY...");
    std::ifstream file(argv[1], std::ios::binary), given(argv[2], std::ios::binary);
    std::ofstream results(argv[3], std::ios::binary);
    const std::vector<char> program((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const int images = std::atoi(argv[4]);
    Arrays inputs, outputs, again;
    for (int i = 5; i < count; ++i) {
        char way[4];
        size_t size;
        if (std::sscanf(argv[i], "%3[a-z]:%zu", way, &size) != 2) fail(argv[i]);
        if (!std::strcmp(way, "in"))
            inputs.add(size);
        else
            outputs.add(size), again.add(size);
    }
    for (auto& one : inputs.bytes) given.read(one.data(), (std::streamsize)one.size());
    if (!given) fail("INPUTS is too short");

    char text[400];
    for (size_t i = 0; const char* isa = shoestring_isa(i); ++i) {
        for (int threads = 1; threads <= 3; ++threads) {
            void* network =
                shoestring_load((const uint8_t*)program.data(), program.size(), threads, isa, text, sizeof text);
            if (!network) fail(text);
            std::thread other([&] { run(network, inputs, again, images); });
            run(network, inputs, outputs, images);
            other.join();
            if (outputs.bytes != again.bytes) fail("two callers got two results");
            shoestring_free(network);
            for (auto& one : outputs.bytes) results.write(one.data(), (std::streamsize)one.size());
        }
    }
    return results.flush() ? 0 : 1;
}
