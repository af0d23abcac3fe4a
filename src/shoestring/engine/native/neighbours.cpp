// Steps of points: sampling, neighbours, and the rows that they name. The kernels are those of points.h.
#include <algorithm>
#include <vector>

#include "points.h"
#include "pointwise.h"
#include "step.h"

namespace shoestring {
namespace {

int64_t rows_of(const Program& program, int32_t tensor) {
    return program.tensors[(size_t)tensor].shape[0];
}

size_t up(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

// One point depends on all before it: an image is one thread's.
class Farthest final : public Step {
public:
    Farthest(const FarthestOp& op, const Program& program, const Kernels& kernels)
        : edge_(op), kernels_(kernels), points_(rows_of(program, op.input)), count_(rows_of(program, op.output)) {}
    const char* label() const override { return "farthest points"; }
    size_t scratch(int, int parts) const override { return (size_t)parts * own(); }
    void run(int, const Work& work) const noexcept override {
        const Range mine = share(work.images, work.part, work.parts);
        for (int64_t i = mine.begin; i < mine.end; ++i)
            farthest_points(work.tensor<float>(edge_.input) + i * points_ * 3, points_, count_,
                            work.tensor<int32_t>(edge_.output) + i * count_,
                            reinterpret_cast<float*>(work.scratch + (size_t)work.part * own()), &kernels_);
    }

private:
    size_t own() const { return up(farthest_scratch(points_)); }

    Edge edge_;
    const Kernels& kernels_;
    int64_t points_, count_;
};

// Calls act(image, range) for the parts of [0, images * rows) that are a thread's, image by image.
template <class Act>
void each_image(const Work& work, int64_t rows, Act act) {
    const Range mine = share(work.images * rows, work.part, work.parts);
    for (int64_t at = mine.begin; at < mine.end;) {
        const int64_t image = at / rows, end = std::min(mine.end, (image + 1) * rows);
        act(image, Range{at - image * rows, end - image * rows});
        at = end;
    }
}

class Nearest final : public Step {
public:
    Nearest(const NearestOp& op, const Program& program, const Kernels& kernels)
        : op_(op),
          kernels_(kernels),
          centres_(rows_of(program, op.input)),
          points_(rows_of(program, op.other)),
          count_(program.tensors[(size_t)op.output].shape[1]),
          radius_(op.radius ? op.radius.data[0] : 0) {}
    const char* label() const override { return op_.radius ? "points within" : "nearest points"; }
    size_t scratch(int, int parts) const override { return (size_t)parts * own(); }
    void run(int, const Work& work) const noexcept override {
        uint8_t* const scratch = work.scratch + (size_t)work.part * own();
        each_image(work, centres_, [&](int64_t image, Range rows) {
            const float* centres = work.tensor<float>(op_.input) + (image * centres_ + rows.begin) * 3;
            const float* points = work.tensor<float>(op_.other) + image * points_ * 3;
            int32_t* index = work.tensor<int32_t>(op_.output) + (image * centres_ + rows.begin) * count_;
            const int64_t m = rows.end - rows.begin;
            if (radius_ > 0)
                points_within(centres, m, points, points_, radius_, count_, index, scratch, &kernels_);
            else
                nearest_points(centres, m, points, points_, count_, index, scratch, &kernels_);
        });
    }

private:
    size_t own() const { return up(nearest_scratch(points_, count_)); }

    NearestOp op_;
    const Kernels& kernels_;
    int64_t centres_, points_, count_;
    float radius_;
};

class Take final : public Step {
public:
    Take(const TakeOp& op, const Program& program)
        : op_(op),
          points_(rows_of(program, op.input)),
          rows_(rows_of(program, op.output)),
          bytes_((int64_t)program.tensors[(size_t)op.input].bytes / points_) {}
    const char* label() const override { return "take"; }
    void run(int, const Work& work) const noexcept override {
        each_image(work, rows_, [&](int64_t image, Range rows) {
            take_rows(work.tensor(op_.input) + image * points_ * bytes_, points_, (size_t)bytes_,
                      work.tensor<int32_t>(op_.index) + image * rows_ + rows.begin, rows.end - rows.begin,
                      work.tensor(op_.output) + (image * rows_ + rows.begin) * bytes_);
        });
    }

private:
    TakeOp op_;
    int64_t points_, rows_, bytes_;
};

class Relative final : public Step {
public:
    Relative(const RelativeOp& op, const Program& program, const Kernels& kernels)
        : op_(op),
          kernels_(*kernels.pointwise),
          points_(rows_of(program, op.input)),
          width_(program.tensors[(size_t)op.input].shape[1]),
          rows_(rows_of(program, op.output)),
          centres_(op.other < 0 ? 1 : rows_of(program, op.other)),
          factors_(op.factors.data, op.factors.data + op.factors.count),
          scale_(op.scale ? op.scale.data[0] : 0) {}
    const char* label() const override { return scale_ > 0 ? "relative, quantise" : "relative"; }
    size_t scratch(int, int parts) const override { return scale_ > 0 ? (size_t)parts * own() : 0; }
    void run(int, const Work& work) const noexcept override {
        each_image(work, rows_, [&](int64_t image, Range rows) {
            for (int64_t at = rows.begin; at < rows.end; at += kRows) {
                const Range some{at, std::min(at + kRows, rows.end)};
                const int64_t first = (image * rows_ + at) * width_;
                if (scale_ == 0) {
                    compute(work, image, some, work.tensor<float>(op_.output) + first);
                    continue;
                }
                auto* const floats = reinterpret_cast<float*>(work.scratch + (size_t)work.part * own());
                compute(work, image, some, floats);
                kernels_.quantise(floats, work.tensor(op_.output) + first, (size_t)((some.end - at) * width_), scale_,
                                  op_.zero);
            }
        });
    }

private:
    static constexpr int64_t kRows = 512;  // that the second loop finds in the first-level cache
    size_t own() const { return up((size_t)(std::min(kRows, rows_) * width_) * sizeof(float)); }

    void compute(const Work& work, int64_t image, Range rows, float* out) const {
        const float* points = work.tensor<float>(op_.input) + image * points_ * width_;
        const int32_t* index = work.tensor<int32_t>(op_.index) + image * rows_ + rows.begin;
        const int64_t count = rows.end - rows.begin, n = count * width_;
        if (op_.other < 0)
            take_rows(points, points_, (size_t)width_ * sizeof(float), index, count, out);
        else if (width_ == 3)  // of a size that the compiler knows
            subtract<3>(points, index, work.tensor<float>(op_.other) + image * centres_ * 3, rows, out);
        else
            subtract<0>(points, index, work.tensor<float>(op_.other) + image * centres_ * width_, rows, out);
        for (const float factor : factors_)
            for (int64_t i = 0; i < n; ++i) out[i] *= factor;
    }

    // Rows less their centres. `index`: from the first of `rows` on.
    template <int known>
    void subtract(const float* points, const int32_t* index, const float* centres, Range rows, float* out) const {
        const int64_t width = known ? known : width_, each = rows_ / centres_;
        int64_t row = rows.begin;
        while (row < rows.end) {
            const float* centre = centres + row / each * width;
            const int64_t end = std::min(rows.end, (row / each + 1) * each);
            for (; row < end; ++row, ++index, out += width) {
                const float* point = points + (uint32_t(*index) < (uint64_t)points_ ? *index : 0) * width;
                for (int64_t c = 0; c < width; ++c) out[c] = point[c] - centre[c];
            }
        }
    }

    RelativeOp op_;
    const PointwiseKernels& kernels_;
    int64_t points_, width_, rows_, centres_;
    std::vector<float> factors_;
    float scale_;
};

}  // namespace

std::unique_ptr<Step> make_points(const FarthestOp& op, const Program& program, const Kernels& kernels) {
    return std::make_unique<Farthest>(op, program, kernels);
}
std::unique_ptr<Step> make_points(const NearestOp& op, const Program& program, const Kernels& kernels) {
    return std::make_unique<Nearest>(op, program, kernels);
}
std::unique_ptr<Step> make_points(const TakeOp& op, const Program& program, const Kernels&) {
    return std::make_unique<Take>(op, program);
}
std::unique_ptr<Step> make_points(const RelativeOp& op, const Program& program, const Kernels& kernels) {
    return std::make_unique<Relative>(op, program, kernels);
}

}  // namespace shoestring
