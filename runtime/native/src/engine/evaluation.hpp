// Evaluates a transformer, phase by phase: all tasks of a phase are done before the next begins.
#pragma once

#include <algorithm>

#include "engine/native_workspace.hpp"

namespace grt {

// Runs `call(task)` for every task.
template <typename Call>
inline void run_tasks(Executor& executor, int32_t count, Call& call) {
  executor.run(
      count, [](void* context, int32_t task) { (*static_cast<Call*>(context))(task); }, &call);
}

// What an evaluation needs besides its work.
struct Evaluation {
  const Kernels& kernels;
  NativeWorkspace& workspace;
  Executor& executor;
  int32_t width;  // tasks, at most
  const std::atomic<bool>* cancelled;
  Error& error;

  bool is_cancelled() const {
    if (cancelled == nullptr || !cancelled->load(std::memory_order_relaxed)) return false;
    error.fail(GRT_ERROR_CANCELLED, "the frame was cancelled; the session is as it was before it");
    return true;
  }

  // `before(task)` fills x; `after(task)` reads the output.
  template <typename Before, typename After>
  [[nodiscard]] bool run(Work& work, const char* what, Before before, After after) {
    work.scratch = workspace.scratch;
    work.num_tasks = std::max(1, std::min({width, executor.width(), work.frames[0].rows}));
    for (int32_t i = 0; i < work.num_tasks; i++) work.scratch[i].bad = false;
    if (is_cancelled()) return false;
    auto begin = [&](int32_t task) {
      before(task);
      kernels.begin(work, task);
    };
    run_tasks(executor, work.num_tasks, begin);
    const int32_t num_layers = work.transformer->num_layers;
    for (int32_t layer = 0; layer < num_layers; layer++) {
      if (is_cancelled()) return false;
      auto call = [&](int32_t task) {
        kernels.layer(work, task, layer);
        if (layer + 1 == num_layers) after(task);
      };
      run_tasks(executor, work.num_tasks, call);
    }
    for (int32_t i = 0; i < work.num_tasks; i++) {
      if (work.scratch[i].bad) {
        return error.fail(
            GRT_ERROR_DEVICE,
            "%s: expected finite numbers, found NaN or Inf; the session is as it was before the frame", what);
      }
    }
    return true;
  }
};

}  // namespace grt
