// Runs the tasks of a phase: on the world's own threads, on the engine's job system, or on the caller's
// thread.
#pragma once

#include "support/memory.hpp"

namespace grt {

class Executor {
 public:
  virtual ~Executor() = default;

  // Calls task(context, 0 ... count - 1), each once, and returns when all are done. Any number of threads may
  // call it at once: a call that finds the threads busy runs its tasks itself.
  virtual void run(int32_t count, grt_task task, void* context) = 0;

  // How many tasks work is best cut into.
  virtual int32_t width() const = 0;

  // The one that the parameters ask for; destroy it with `destroy`.
  static Executor* create(const grt_world_params& params, const Allocator& allocator, Error& error);
};

// All tasks on the calling thread, one after the other.
class Serial final : public Executor {
 public:
  void run(int32_t count, grt_task task, void* context) override {
    for (int32_t i = 0; i < count; i++) task(context, i);
  }
  int32_t width() const override { return 1; }
};

}  // namespace grt
