// A frame that is computed on a thread of the session.
#pragma once

#include <atomic>

#include "bundle/config.hpp"
#include "engine/engine.hpp"
#include "support/threads.hpp"

namespace grt {

struct Peek;

class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() { stop(); }

  // Whether a frame was submitted and not fetched.
  bool is_submitted() const { return is_submitted_.load(std::memory_order_acquire); }

  // Starts the next frame. The first call makes the thread.
  [[nodiscard]] bool submit(grt_session& session, int32_t action, int32_t code, const Plan& plan,
                            Error& error);
  // The same for a frame that is known: it is ready at once.
  void submit_peek(Peek& peek, int32_t action);

  // Waits for the frame, at most so long; negative: until it is there. Whether it is.
  bool wait(double timeout_ms);

  // What became of a frame that is there; then none is submitted any more.
  struct Result {
    bool ok = false;
    Peek* peek = nullptr;  // where the frame is, if not in the spare row
    int32_t action = 0;
    FrameStats stats;
    double total_ms = 0;
    Error error;
  };
  void fetch(Result& result);

  // Stops computing and waits until it stands still. False if no frame was submitted.
  bool cancel();

  // Cancels, and ends the thread.
  void stop();

 private:
  enum class State { kIdle, kComputing, kReady };

  static void enter(void* session);
  void serve(grt_session& session);

  Thread thread_;
  Mutex mutex_;
  Condition wake_, done_;
  State state_ = State::kIdle;  // guarded by the mutex, as is `is_stopping_`
  bool is_stopping_ = false;
  std::atomic<bool> is_submitted_{false}, cancelled_{false};
  // Of the caller until the frame is submitted, then of the thread until it is ready:
  int32_t code_ = 0;
  Plan plan_;
  Result result_;
};

}  // namespace grt
