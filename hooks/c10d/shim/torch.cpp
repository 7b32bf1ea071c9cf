// What tch 0.26 does not bind: torch::autograd::grad and the state of the default generators.

#include "boundary.h"

#include <mutex>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <torch/csrc/autograd/autograd.h>

using hessian_probe::guarded;

namespace {

// A null pointer stands for an undefined tensor.
std::vector<at::Tensor> list(at::Tensor* const* tensors, size_t count) {
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    result.push_back(tensors[i] == nullptr ? at::Tensor() : *tensors[i]);
  }
  return result;
}

at::Device device_of(int cuda_index) {
  return cuda_index < 0 ? at::Device(at::kCPU)
                        : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_index));
}

} // namespace

extern "C" {

// `gradients` receives `inputs` pointers, each null (unused) or a tensor that the caller owns.
char* hp_autograd_grad(
    at::Tensor* const* outputs, at::Tensor* const* grad_outputs, size_t output_count,
    at::Tensor* const* inputs, size_t input_count, int retain_graph, int create_graph, int allow_unused,
    at::Tensor** gradients) {
  return guarded([&] {
    auto result = torch::autograd::grad(
        list(outputs, output_count), list(inputs, input_count), list(grad_outputs, output_count),
        retain_graph != 0, create_graph != 0, allow_unused != 0);
    for (size_t i = 0; i < input_count; ++i) {
      gradients[i] = result[i].defined() ? new at::Tensor(std::move(result[i])) : nullptr;
    }
  });
}

// `state` receives a byte tensor that the caller owns.
char* hp_generator_state(int cuda_index, at::Tensor** state) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(device_of(cuda_index));
    std::lock_guard<std::mutex> lock(generator.mutex());
    *state = new at::Tensor(generator.get_state());
  });
}

char* hp_generator_set_state(int cuda_index, at::Tensor* state) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(device_of(cuda_index));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(*state);
  });
}

} // extern "C"
