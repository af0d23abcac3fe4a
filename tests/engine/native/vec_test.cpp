// Every function of a vector type against plain C++, on random and extreme values. Compiled with VEC="vec_avx2.h", say;
// prints what differs and returns 1.
#include <cstdio>
#include <random>
#include <vector>

#define V Portable
#include "vec_portable.h"
#undef V
#include VEC

using namespace shoestring;

namespace {

using P = Portable;
constexpr int kRounds = 2000;
constexpr int kInts = V::lanes > P::lanes ? V::lanes : P::lanes;  // a whole number of vectors of either
constexpr int kBytes = 4 * kInts;

std::mt19937 random_bits(7);
int failures = 0;

template <class T>
void equal(const char* what, const T* got, const T* wanted, int n) {
    if (std::memcmp(got, wanted, n * sizeof(T)) == 0) return;
    if (++failures > 20) return;
    int at = 0;
    while (std::memcmp(got + at, wanted + at, sizeof(T)) == 0) ++at;
    std::printf("%s: element %d is %.9g, not %.9g\n", what, at, (double)got[at], (double)wanted[at]);
}

int32_t below(int32_t n) {
    return (int32_t)(random_bits() % (uint32_t)n);
}

// Bytes of which many are extreme.
std::vector<uint8_t> bytes(int n = 4 * kBytes) {
    static const uint8_t extremes[] = {0, 1, 127, 128, 129, 254, 255};
    std::vector<uint8_t> r(n);
    for (uint8_t& b : r) b = below(3) ? (uint8_t)random_bits() : extremes[below(7)];
    return r;
}

std::vector<int32_t> ints(int n = 4 * kInts) {
    static const int32_t extremes[] = {0,     -1,     255,    256,       -256,      32767,
                                       32768, -32768, -32769, INT32_MAX, INT32_MIN, 65535};
    std::vector<int32_t> r(n);
    for (int32_t& x : r) {
        const int sort = below(3);
        x = sort == 0 ? (int32_t)random_bits() : sort == 1 ? below(1024) - 512 : extremes[below(12)];
    }
    return r;
}

std::vector<float> floats(float largest, int n = 4 * kInts) {
    static const float extremes[] = {0.f, -0.f, 0.5f, 1.5f, 2.5f, -0.5f, 254.5f, 255.5f, 1e-30f, -1e-38f};
    std::uniform_real_distribution<float> some(-largest, largest);
    std::vector<float> r(n);
    for (float& x : r) x = below(4) ? some(random_bits) : extremes[below(10)];
    return r;
}

// body(U, i): does the elements from i for one vector of type U, both ways.
template <class Body>
void both(Body body) {
    for (int i = 0; i < kInts; i += V::lanes) body(V(), i);
    for (int i = 0; i < kInts; i += P::lanes) body(P(), i);
}

template <class U>
constexpr bool is_portable = U::lanes == P::lanes&& std::is_same_v<U, P>;

// got[0] by V, got[1] by Portable, then compared.
template <class T, class Body>
void compare(const char* what, Body body) {
    T got[2][kBytes] = {};
    both([&](auto u, int i) {
        using U = decltype(u);
        body(u, i, got[is_portable<U>] + i * (sizeof(T) == 1 ? 4 : 1));
    });
    equal(what, got[0], got[1], sizeof(T) == 1 ? kBytes : kInts);
}

void elementwise() {
    const auto a = ints(), b = ints();
    const auto x = floats(1e4f), y = floats(1e4f), z = floats(1e8f);
    const auto p = bytes(), q = bytes(), table = bytes(256);
    const float some = x[0];
    const int32_t code = below(256), other = below(256);
    compare<int32_t>("add", [&](auto u, int i, int32_t* o) { u.store(o, u.add(u.load(&a[i]), u.load(&b[i]))); });
    compare<int32_t>("zero", [&](auto u, int, int32_t* o) { u.store(o, u.zero()); });
    compare<int32_t>("splat", [&](auto u, int, int32_t* o) { u.store(o, u.splat(a[0])); });
    compare<float>("splat", [&](auto u, int, float* o) { u.storef(o, u.splat(some)); });
    compare<float>("addf", [&](auto u, int i, float* o) { u.storef(o, u.addf(u.loadf(&x[i]), u.loadf(&y[i]))); });
    compare<float>("subf", [&](auto u, int i, float* o) { u.storef(o, u.subf(u.loadf(&x[i]), u.loadf(&y[i]))); });
    compare<float>("mul", [&](auto u, int i, float* o) { u.storef(o, u.mul(u.loadf(&x[i]), u.loadf(&y[i]))); });
    compare<float>("div", [&](auto u, int i, float* o) { u.storef(o, u.div(u.loadf(&z[i]), u.splat(code + 0.3f))); });
    compare<float>(
        "fma", [&](auto u, int i, float* o) { u.storef(o, u.fma(u.loadf(&x[i]), u.loadf(&y[i]), u.loadf(&z[i]))); });
    compare<float>("minf", [&](auto u, int i, float* o) { u.storef(o, u.minf(u.loadf(&x[i]), u.loadf(&y[i]))); });
    compare<float>("maxf", [&](auto u, int i, float* o) { u.storef(o, u.maxf(u.loadf(&x[i]), u.loadf(&y[i]))); });
    const float nan[2] = {std::nanf(""), std::nanf("")};
    compare<int32_t>("count_less", [&](auto u, int i, int32_t* o) {
        u.store(o, u.count_less(u.load(&a[i]), u.loadf(&x[i]), u.loadf(&y[i])));
    });
    std::vector<float> w = x;  // some equal to y, some not a number
    for (int i = 0; i < (int)w.size(); i += 3) w[i] = below(2) ? y[i] : std::nanf("");
    std::vector<uint8_t> bits[2];
    both([&](auto u, int i) {
        for (int k = 0; k < u.lanes; ++k)
            bits[is_portable<decltype(u)>].push_back(u.at_most(u.loadf(&w[i]), u.loadf(&y[i])) >> k & 1);
    });
    equal("at_most", bits[0].data(), bits[1].data(), kInts);
    std::vector<float> kept_floats[2];
    std::vector<int32_t> listed[2];
    both([&](auto u, int i) {
        constexpr bool portable = is_portable<decltype(u)>;
        float some[kInts] = {};
        int32_t numbers[kInts] = {};
        const uint32_t kept = u.at_most(u.loadf(&x[i]), u.loadf(&y[i]));
        u.append(some, numbers, u.loadf(&x[i]), u.load(&a[i]), kept);
        for (int k = 0; k < __builtin_popcount(kept); ++k)
            kept_floats[portable].push_back(some[k]), listed[portable].push_back(numbers[k]);
    });
    for (int k = 0; k < 2; ++k) listed[k].resize(kInts), kept_floats[k].resize(kInts);
    equal("append", kept_floats[0].data(), kept_floats[1].data(), kInts);
    equal("append, numbers", listed[0].data(), listed[1].data(), kInts);
    for (int i = 0; i < V::lanes; ++i) {  // the largest in any lane
        std::vector<float> one(V::lanes, -3.0f);
        one[i] = 2.0f;
        const float got = V::largest(V::loadf(one.data())), wanted = 2.0f;
        equal("largest", &got, &wanted, 1);
    }
    compare<float>("minf of NaN",
                   [&](auto u, int i, float* o) { u.storef(o, u.minf(u.splat(nan[0]), u.loadf(&y[i]))); });
    compare<float>("maxf of NaN",
                   [&](auto u, int i, float* o) { u.storef(o, u.maxf(u.splat(nan[1]), u.loadf(&y[i]))); });
    compare<float>("to_float", [&](auto u, int i, float* o) { u.storef(o, u.to_float(u.load(&a[i]))); });
    compare<int32_t>("to_int", [&](auto u, int i, int32_t* o) { u.store(o, u.to_int(u.loadf(&z[i]))); });
    compare<int32_t>("to_int, halves", [&](auto u, int i, int32_t* o) {
        u.store(o, u.to_int(u.mul(u.to_float(u.widen(&p[i])), u.splat(0.5f))));
    });
    compare<int32_t>("widen", [&](auto u, int i, int32_t* o) { u.store(o, u.widen(&p[i])); });
    compare<uint8_t>("widen_u16", [&](auto u, int i, uint8_t* o) { u.store(o, u.widen_u16(&p[2 * i])); });
    compare<uint8_t>("min_u8",
                     [&](auto u, int i, uint8_t* o) { u.store(o, u.min_u8(u.load(&p[4 * i]), u.load(&q[4 * i]))); });
    compare<uint8_t>("max_u8",
                     [&](auto u, int i, uint8_t* o) { u.store(o, u.max_u8(u.load(&p[4 * i]), u.load(&q[4 * i]))); });
    compare<uint8_t>("splat_u8", [&](auto u, int, uint8_t* o) { u.store(o, u.splat_u8(code)); });
    compare<uint8_t>("splat_four", [&](auto u, int, uint8_t* o) { u.store(o, u.splat_four((const int8_t*)&p[0])); });
    compare<uint8_t>("narrow_plain", [&](auto u, int i, uint8_t* o) {
        const auto at = [&](int k) { return u.load(&a[4 * i + k * u.lanes]); };
        u.store(o, u.narrow_plain(at(0), at(1), at(2), at(3), other));
    });
    compare<uint8_t>("lookup", [&](auto u, int i, uint8_t* o) {
        using U = decltype(u);
        const typename U::Lookup lookup(table.data());
        typename U::I v[1] = {u.load(&p[4 * i])};
        lookup.apply(v);
        u.store(o, v[0]);
    });
    compare<uint8_t>("field<4>", [&](auto u, int i, uint8_t* o) {
        u.store(o, decltype(u)::template field<4>(u.load(&p[4 * i]), code % 2));
    });
    compare<uint8_t>("field<2>", [&](auto u, int i, uint8_t* o) {
        u.store(o, decltype(u)::template field<2>(u.load(&p[4 * i]), code % 4));
    });
}

template <int phases>
void interleaved(const char* what) {
    const auto a = ints();
    const int32_t zero = below(256);
    uint8_t got[V::bytes], wanted[V::bytes];
    V::I x[4];
    for (int k = 0; k < 4; ++k) x[k] = V::load(&a[k * V::lanes]);
    V::store(got, V::narrow_interleaved<phases>(x, zero));
    for (int k = 0; k < V::bytes; ++k) {
        const int run = phases * V::lanes, vector = k / run * phases + k % phases, lane = k % run / phases;
        const int64_t value = (int64_t)a[vector * V::lanes + lane] + zero;
        wanted[k] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
    equal(what, got, wanted, V::bytes);
}

// The four bytes of each pixel together, every pixel once, and narrow() undoes the order.
void zipped() {
    const auto rest = bytes(3 * V::bytes);
    uint8_t first[V::bytes], quads[4 * V::bytes], wanted[4 * V::bytes], codes[V::bytes], back[V::bytes];
    for (int i = 0; i < V::bytes; ++i) first[i] = (uint8_t)i;
    V::I x[4];
    V::zip(V::load(first), V::load(&rest[0]), V::load(&rest[V::bytes]), V::load(&rest[2 * V::bytes]), x);
    V::store(quads, x[0]), V::store(quads + V::bytes, x[1]);
    V::store(quads + 2 * V::bytes, x[2]), V::store(quads + 3 * V::bytes, x[3]);
    const auto values = ints(V::bytes);
    const int32_t zero = below(256);
    int32_t shuffled[V::bytes];
    for (int i = 0; i < V::bytes; ++i) {
        const int pixel = quads[4 * i] % V::bytes;
        wanted[4 * i] = (uint8_t)pixel;
        for (int k = 0; k < 3; ++k) wanted[4 * i + 1 + k] = rest[k * V::bytes + pixel];
        shuffled[i] = values[pixel];
        const int64_t value = (int64_t)values[i] + zero;
        codes[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
    equal("zip", quads, wanted, 4 * V::bytes);
    V::store(back, V::narrow(V::load(shuffled), V::load(shuffled + V::lanes), V::load(shuffled + 2 * V::lanes),
                             V::load(shuffled + 3 * V::lanes), zero));
    equal("narrow", back, codes, V::bytes);
}

// Weights of which no two neighbours' products leave 16 bits, where V adds them so.
std::vector<uint8_t> weights(bool tame, int n = V::bytes) {
    std::vector<uint8_t> w = bytes(n);
    if (tame)
        for (uint8_t& b : w) b = (uint8_t)((int8_t)b / 2);
    return w;
}

template <class Dot>
void dots(const char* what, bool tame) {
    const auto x = bytes(V::bytes);
    const auto acc = ints(V::lanes);
    const auto w = weights(tame, 4);
    int8_t packed[Dot::weight_bytes];
    Dot::pack_weights((const int8_t*)w.data(), packed);
    int32_t got[V::lanes], wanted[V::lanes];
    V::store(got, Dot::dot(V::load(acc.data()), Dot::prepare(V::load(x.data())), packed));
    for (int i = 0; i < V::lanes; ++i) {
        int32_t sum = 0;
        for (int k = 0; k < 4; ++k) sum += (x[4 * i + k] - Dot::input_offset) * (int8_t)w[k];
        wanted[i] = (int32_t)((uint32_t)acc[i] + (uint32_t)sum);
    }
    equal(what, got, wanted, V::lanes);
}

void products() {
    const auto acc = ints(V::lanes);
    std::vector<uint8_t> x[4], w[4], small[4];
    V::I xs[4], ws[4];
    int32_t got[V::lanes], one[V::lanes], four[V::lanes], two[V::lanes];
    std::memcpy(four, acc.data(), sizeof four);
    for (int k = 0; k < 4; ++k) {
        x[k] = bytes(V::bytes), w[k] = weights(V::widens), small[k] = bytes(V::bytes);
        for (uint8_t& b : small[k]) b &= 15;
        xs[k] = V::load(x[k].data()), ws[k] = V::load(small[k].data());
    }
    int16_t pairs[2 * V::lanes], weight[2] = {(int16_t)(int8_t)random_bits(), -128};
    for (int i = 0; i < 2 * V::lanes; ++i) pairs[i] = x[0][i];
    for (int i = 0; i < V::lanes; ++i) {
        int32_t sum = 0, sums = 0;
        for (int j = 4 * i; j < 4 * i + 4; ++j) {
            sum += x[0][j] * (int8_t)w[0][j];
            for (int k = 0; k < 4; ++k) sums += x[k][j] * small[k][j];
        }
        one[i] = (int32_t)((uint32_t)acc[i] + (uint32_t)sum), four[i] = (int32_t)((uint32_t)acc[i] + (uint32_t)sums);
        const int32_t pair = pairs[2 * i] * weight[0] + pairs[2 * i + 1] * weight[1];
        two[i] = (int32_t)((uint32_t)acc[i] + (uint32_t)pair);
    }
    V::store(got, V::dot_bytes(V::load(acc.data()), xs[0], V::load(w[0].data())));
    equal("dot_bytes", got, one, V::lanes);
    V::store(got, V::dot_small(V::load(acc.data()), xs, ws));
    equal("dot_small", got, four, V::lanes);
    V::store(got, V::dot_pairs(V::load(acc.data()), V::load(pairs), (const int8_t*)weight));
    equal("dot_pairs", got, two, V::lanes);

    int32_t parts[V::lanes], total = 0, wanted = 0;
    V::store(parts, V::sums(V::splat(3), xs[0]));
    for (int32_t part : parts) total += part - 3;
    for (uint8_t b : x[0]) wanted += b;
    equal("sums", &total, &wanted, 1);
}

}  // namespace

int main() {
    for (int round = 0; round < kRounds; ++round) {
        elementwise();
        zipped();
        interleaved<1>("narrow_interleaved<1>");
        interleaved<2>("narrow_interleaved<2>");
        interleaved<4>("narrow_interleaved<4>");
        dots<V::Dot>("Dot", V::widens);
        dots<V::DotWide>("DotWide", false);
        products();
    }
    std::printf("%s: %d of %d lanes, %d failures\n", VEC, V::lanes, V::registers, failures);
    return failures > 0;
}
