// The feature-matching ops on the CPU and on CUDA: allocation and launches.
#include "cpu/kernels.h"
#include "ops/chunks.h"
#include "ops/cuda_bridge.h"
#include "ops/features.h"

namespace pygan::ops {
namespace {

using FeatureChunks = Chunks<kFeatureChunk, FeatureMap>;

// Pairs of maps in the same memory order, kept alive here, and what the kernels are told of them.
struct Plan {
  std::vector<at::Tensor> fake, real;
  std::vector<FeatureMap> maps;

  explicit Plan(const FeatureArgs& args) {
    for (size_t i = 0; i < args.fake.size(); ++i) {
      fake.push_back(dense(args.fake[i]));
      const at::Tensor& f = fake.back();
      real.push_back(args.real[i]);
      if (real.back().strides() != f.strides()) {
        real.back() = empty_on(f, f.sizes(), f.strides(), f.scalar_type()).copy_(args.real[i]);
      }
      maps.push_back({f.const_data_ptr(), real.back().const_data_ptr(), nullptr, nullptr, f.numel(),
                      args.weights[i], static_cast<int64_t>(i)});
    }
  }
};

// Calls f(maps, options) for the maps of each dtype that there is.
template <class F>
void for_each_dtype(const std::vector<FeatureMap>& maps, const std::vector<at::ScalarType>& types,
                    FeatureOptions options, F&& f) {
  std::vector<FeatureMap> alike;
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    alike.clear();
    for (size_t i = 0; i < maps.size(); ++i) {
      if (types[i] == type) alike.push_back(maps[i]);
    }
    options.dtype = dtype_of(type);
    if (!alike.empty()) f(c10::ArrayRef<FeatureMap>(alike), options);
  }
}

std::vector<at::ScalarType> types_of(at::TensorList tensors) {
  std::vector<at::ScalarType> types;
  for (const at::Tensor& x : tensors) types.push_back(x.scalar_type());
  return types;
}

template <class M>
void sums_cpu(const Plan& plan, const FeatureOptions& options, void* loss, void* values,
              void* multipliers) {
  std::vector<std::array<double, kFeatureSums>> sums(plan.maps.size());
  for_each_dtype(plan.maps, types_of(plan.fake), options, [&](auto maps, const auto& of_type) {
    const FeatureChunks chunks{maps};
    std::vector<std::array<double, kFeatureSums>> partial(chunks.count());
    chunks.for_each([&](const FeatureMap& map, int64_t c, int64_t begin, int64_t end) {
      cpu::kernels().feature_sums(map, of_type, begin, end, partial[c].data());
    });
    auto next = partial.begin();
    for (const FeatureMap& map : maps) {
      for (int64_t c = FeatureChunks::of(map); c > 0; --c, ++next) {
        for (int k = 0; k < kFeatureSums; ++k) sums[map.index][k] += (*next)[k];
      }
    }
  });
  double total = 0;
  for (const FeatureMap& map : plan.maps) {
    const FeatureValue of_map =
        feature_value(sums[map.index].data(), map.n, map.weight, options.relative);
    static_cast<M*>(values)[map.index] = static_cast<M>(of_map.value);
    static_cast<M*>(multipliers)[map.index] = static_cast<M>(of_map.multiplier);
    total += map.weight * of_map.value;
  }
  *static_cast<M*>(loss) = static_cast<M>(total);
}

// loss, values and multipliers; and what the maps have a place for.
std::tuple<at::Tensor, at::Tensor, at::Tensor> run_sums(const Plan& plan, const FeatureArgs& args) {
  const auto type = loss_type(args.fake);
  const auto maps = static_cast<int64_t>(args.fake.size());
  const at::Tensor& like = plan.fake[0];
  const at::Tensor loss = empty_on(like, {}, {}, type), values = empty_on(like, {maps}, {1}, type),
                   multipliers = empty_on(like, {maps}, {1}, type);
  const FeatureOptions options{Dtype::float32, args.kind(), args.relative};
  if (like.is_cpu()) {
    (type == at::kDouble ? sums_cpu<double> : sums_cpu<float>)(plan, options,
                                                               loss.mutable_data_ptr(),
                                                               values.mutable_data_ptr(),
                                                               multipliers.mutable_data_ptr());
  } else {
    const at::Tensor weighted = empty_on(like, {maps}, {1}, at::kDouble);
    FeatureOutputs out{loss.mutable_data_ptr(),
                       values.mutable_data_ptr(),
                       multipliers.mutable_data_ptr(),
                       weighted.mutable_data_ptr<double>(),
                       type == at::kDouble,
                       maps,
                       maps};
    for_each_dtype(plan.maps, types_of(plan.fake), options,
                   [&](auto of_type, const auto& o) { feature_sums_cuda(of_type, o, out, like); });
  }
  return {loss, values, multipliers};
}

std::vector<at::Tensor> make_signs(Plan& plan) {
  std::vector<at::Tensor> signs;
  for (size_t i = 0; i < plan.maps.size(); ++i) {
    const at::Tensor& f = plan.fake[i];
    signs.push_back(empty_on(f, f.sizes(), f.strides(), at::kChar));
    plan.maps[i].signs = signs.back().mutable_data_ptr<int8_t>();
  }
  return signs;
}

std::vector<at::Tensor> make_grads(const Plan& plan) {
  std::vector<at::Tensor> grads;
  for (const at::Tensor& f : plan.fake) {
    grads.push_back(empty_on(f, f.sizes(), f.strides(), f.scalar_type()));
  }
  return grads;
}

Matched feature_matching(at::TensorList fake, at::TensorList real, Doubles weights,
                         int64_t distance, bool relative, bool signs) {
  const FeatureArgs args{fake, real, weights, distance, relative};
  check_features(args);
  Plan plan(args);
  std::vector<at::Tensor> kept;
  if (signs && args.kind() == Distance::l1) kept = make_signs(plan);
  auto [loss, values, multipliers] = run_sums(plan, args);
  return {loss, values, multipliers, std::move(kept)};
}

// out[i] = grad * multiplier * slope.
void run_gradient(std::vector<FeatureMap>& maps, const std::vector<at::Tensor>& outs,
                  const at::Tensor& grad, const at::Tensor& multipliers, double slope) {
  for (size_t i = 0; i < maps.size(); ++i) maps[i].out = outs[i].mutable_data_ptr();
  const at::Tensor scale = grad.to(multipliers.scalar_type());
  const bool wide = multipliers.scalar_type() == at::kDouble;
  const FeatureGradient by{scale.const_data_ptr(), multipliers.const_data_ptr(), slope, wide};
  for_each_dtype(maps, types_of(outs), {}, [&](auto of_type, const FeatureOptions& o) {
    if (!outs[0].is_cpu()) return feature_gradient_cuda(of_type, o, by, outs[0]);
    FeatureChunks{of_type}.for_each(
        [&](const FeatureMap& map, int64_t, int64_t begin, int64_t end) {
          cpu::kernels().feature_gradient(map, o, factor_of(by, map.index), begin, end);
        });
  });
}

Matched feature_matching_and_grad(at::TensorList fake, at::TensorList real, Doubles weights,
                                  int64_t distance, bool relative) {
  const FeatureArgs args{fake, real, weights, distance, relative};
  check_features(args);
  Plan plan(args);
  std::vector<at::Tensor> grads = make_grads(plan);
  const bool one_pass = plan.fake[0].is_cpu() && !relative, l1 = args.kind() == Distance::l1;
  std::vector<at::Tensor> signs;
  if (one_pass) {
    for (size_t i = 0; i < grads.size(); ++i) plan.maps[i].out = grads[i].mutable_data_ptr();
  } else if (l1) {
    signs = make_signs(plan);
  }
  auto [loss, values, multipliers] = run_sums(plan, args);
  if (!one_pass) {
    run_gradient(plan.maps, grads, at::ones_like(loss), multipliers, l1 ? 1.0 : kSlopeOfSquare);
  }
  return {loss, values, multipliers, std::move(grads)};
}

std::vector<at::Tensor> feature_matching_l1_backward(const at::Tensor& grad,
                                                     const at::Tensor& multipliers,
                                                     at::TensorList signs, at::IntArrayRef dtypes) {
  check_signs(grad, multipliers, signs, dtypes);
  std::vector<at::Tensor> outs;
  std::vector<FeatureMap> maps;
  for (size_t i = 0; i < signs.size(); ++i) {
    const at::Tensor& x = signs[i];
    outs.push_back(empty_on(x, x.sizes(), x.strides(), static_cast<at::ScalarType>(dtypes[i])));
    // The kernels read the signs of a map that has some.
    maps.push_back({nullptr, nullptr, const_cast<int8_t*>(x.const_data_ptr<int8_t>()), nullptr,
                    x.numel(), 1.0, static_cast<int64_t>(i)});
  }
  run_gradient(maps, outs, grad, multipliers, 1.0);
  return outs;
}

std::vector<at::Tensor> feature_matching_l2_backward(const at::Tensor& grad,
                                                     const at::Tensor& multipliers,
                                                     at::TensorList fake, at::TensorList real) {
  const std::vector<double> weights(fake.size(), 1.0);
  const FeatureArgs args{fake, real, weights, static_cast<int64_t>(Distance::l2), false};
  check_features(args);
  check_gradient(grad, multipliers, fake);
  Plan plan(args);
  const std::vector<at::Tensor> outs = make_grads(plan);
  run_gradient(plan.maps, outs, grad, multipliers, kSlopeOfSquare);
  return outs;
}

// --- meta ---

std::vector<at::Tensor> like_each(at::TensorList tensors,
                                  const std::vector<at::ScalarType>& types) {
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < tensors.size(); ++i) {
    out.push_back(at::empty_like(tensors[i], tensors[i].options().dtype(types[i])));
  }
  return out;
}

Matched feature_matching_and_grad_meta(at::TensorList fake, at::TensorList real, Doubles weights,
                                       int64_t distance, bool relative) {
  check_features({fake, real, weights, distance, relative});
  const auto options = fake[0].options().dtype(loss_type(fake));
  const auto maps = static_cast<int64_t>(fake.size());
  return {at::empty({}, options), at::empty({maps}, options), at::empty({maps}, options),
          like_each(fake, types_of(fake))};
}

Matched feature_matching_meta(at::TensorList fake, at::TensorList real, Doubles weights,
                              int64_t distance, bool relative, bool signs) {
  const FeatureArgs args{fake, real, weights, distance, relative};
  check_features(args);
  const auto options = fake[0].options().dtype(loss_type(fake));
  const auto maps = static_cast<int64_t>(fake.size());
  std::vector<at::Tensor> kept;
  if (signs && args.kind() == Distance::l1) {
    kept = like_each(fake, std::vector<at::ScalarType>(fake.size(), at::kChar));
  }
  return {at::empty({}, options), at::empty({maps}, options), at::empty({maps}, options), kept};
}

std::vector<at::Tensor> feature_matching_l1_backward_meta(const at::Tensor& grad,
                                                          const at::Tensor& multipliers,
                                                          at::TensorList signs,
                                                          at::IntArrayRef dtypes) {
  check_signs(grad, multipliers, signs, dtypes);
  std::vector<at::ScalarType> types;
  for (const int64_t type : dtypes) types.push_back(static_cast<at::ScalarType>(type));
  return like_each(signs, types);
}

std::vector<at::Tensor> feature_matching_l2_backward_meta(const at::Tensor& grad,
                                                          const at::Tensor& multipliers,
                                                          at::TensorList fake,
                                                          at::TensorList real) {
  const std::vector<double> weights(fake.size(), 1.0);
  check_features({fake, real, weights, static_cast<int64_t>(Distance::l2), false});
  check_gradient(grad, multipliers, fake);
  return like_each(fake, types_of(fake));
}

TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("feature_matching", feature_matching);
  m.impl("feature_matching_and_grad", feature_matching_and_grad);
  m.impl("feature_matching_l1_backward", feature_matching_l1_backward);
  m.impl("feature_matching_l2_backward", feature_matching_l2_backward);
}
TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("feature_matching", feature_matching);
  m.impl("feature_matching_and_grad", feature_matching_and_grad);
  m.impl("feature_matching_l1_backward", feature_matching_l1_backward);
  m.impl("feature_matching_l2_backward", feature_matching_l2_backward);
}
TORCH_LIBRARY_IMPL(pygan, Meta, m) {
  m.impl("feature_matching", feature_matching_meta);
  m.impl("feature_matching_and_grad", feature_matching_and_grad_meta);
  m.impl("feature_matching_l1_backward", feature_matching_l1_backward_meta);
  m.impl("feature_matching_l2_backward", feature_matching_l2_backward_meta);
}

}  // namespace
}  // namespace pygan::ops
