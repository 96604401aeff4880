#include "engine/executor.hpp"

#include <atomic>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "support/threads.hpp"

namespace grt {
namespace {

constexpr int32_t kMostThreads = 64;
constexpr int32_t kDefaultThreads = 8;

// How long a thread looks for more work before it sleeps: longer than one thread waits for another within a
// frame, also where they are not equally fast (40 us cost a fifth of a frame of 6 ms), and short beside a
// frame, so that an idle world costs nothing.
constexpr auto kSpin = std::chrono::microseconds(500);
using Clock = std::chrono::steady_clock;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks at `condition` for a while; whether it came true.
template <typename Condition>
bool spin_until(Condition condition, bool patient) {
  if (condition()) return true;
  if (!patient) return false;
  const Clock::time_point end = Clock::now() + kSpin;
  do {
    for (int32_t i = 0; i < 16; i++) {
      pause();
      if (condition()) return true;
    }
  } while (Clock::now() < end);
  return false;
}

// A world's own threads. The thread that calls `run` is one of them.
//
// Tasks are handed out by one atomic number, which holds how many a phase has and which one is next. Whoever
// adds one to it and gets an index below the count has that task, whatever phase it was meant for: a phase
// does not end before all of its tasks do, so `task_` and `context_` are those of the index.
class Pool final : public Executor {
 public:
  Pool() = default;

  ~Pool() override {
    {
      Locked locked(mutex_);
      is_stopping_ = true;
      work_.notify_all();
    }
    for (int32_t i = 0; i < num_workers_; i++) threads_[i].join();
  }

  // Starts as many threads as the system gives, of those asked for.
  void start(int32_t width) {
    // Threads that share a processor only keep each other from working when they spin.
    is_patient_ = width <= num_processors();
    Error unused;
    while (num_workers_ < width - 1 && threads_[num_workers_].start(enter, this, unused)) num_workers_++;
  }

  void run(int32_t count, grt_task task, void* context) override {
    if (count <= 1 || num_workers_ == 0 || is_busy_.exchange(true, std::memory_order_acquire)) {
      for (int32_t i = 0; i < count; i++) task(context, i);
      return;
    }
    task_ = task;
    context_ = context;
    remaining_.store(count, std::memory_order_relaxed);
    tasks_.exchange(static_cast<uint64_t>(count) << 32);
    if (num_sleeping_.load() > 0) wake(count - 1);
    const int32_t done = work();
    if (remaining_.fetch_sub(done) != done) wait();
    is_busy_.store(false, std::memory_order_release);
  }

  int32_t width() const override { return num_workers_ + 1; }

 private:
  static bool has_task(uint64_t tasks) { return static_cast<uint32_t>(tasks) < tasks >> 32; }

  // Runs tasks until none is left to begin; how many it ran.
  int32_t work() {
    int32_t done = 0;
    while (has_task(tasks_.load(std::memory_order_relaxed))) {
      const uint64_t tasks = tasks_.fetch_add(1, std::memory_order_acquire);
      if (!has_task(tasks)) break;
      task_(context_, static_cast<int32_t>(static_cast<uint32_t>(tasks)));
      done++;
    }
    return done;
  }

  // Both sides of each sleep use the default, sequentially consistent order: one writes that there is work
  // and reads whether the other sleeps, the other writes that it sleeps and reads whether there is work. The
  // writes are exchanges because QEMU's ARM lets a load pass an earlier store, of whatever order; on x86 both
  // cost the same.
  void wake(int32_t wanted) {
    if (is_patient_) keep_workers_off(current_processor());
    Locked locked(mutex_);
    if (wanted >= num_sleeping_.load()) return work_.notify_all();
    for (int32_t i = 0; i < wanted; i++) work_.notify_one();
  }

  // Linux may wake a thread on the processor of the one that wakes it, and leave it there for milliseconds
  // though others are idle: frames after a pause of 20 ms took twice as long.
  void keep_workers_off(int32_t processor) {
    if (processor == callers_processor_) return;
    callers_processor_ = processor;
    for (int32_t i = 0; i < num_workers_; i++) threads_[i].keep_off(processor);
  }

  // Until the others have done the tasks that they began.
  void wait() {
    const auto is_done = [this] { return remaining_.load() == 0; };
    if (spin_until(is_done, is_patient_)) return;
    Locked locked(mutex_);
    is_waiting_.exchange(true);
    while (!is_done()) done_.wait(mutex_);
    is_waiting_ = false;
  }

  static void enter(void* pool) { static_cast<Pool*>(pool)->serve(); }

  void serve() {
    const auto is_wanted = [this] { return has_task(tasks_.load()) || is_stopping_.load(); };
    for (;;) {
      const int32_t done = work();
      if (done > 0 && remaining_.fetch_sub(done) == done && is_waiting_.load()) {
        Locked locked(mutex_);
        done_.notify_one();
      }
      if (!spin_until(is_wanted, is_patient_)) {
        Locked locked(mutex_);
        num_sleeping_++;
        while (!is_wanted()) work_.wait(mutex_);
        num_sleeping_--;
      }
      if (is_stopping_.load()) return;
    }
  }

  // What threads write while others spin on it stands in a cache line of its own.
  alignas(64) std::atomic<uint64_t> tasks_{0};  // how many there are << 32 | the next one
  alignas(64) std::atomic<int32_t> remaining_{0};
  alignas(64) std::atomic<bool> is_busy_{false};
  std::atomic<bool> is_stopping_{false}, is_waiting_{false};
  std::atomic<int32_t> num_sleeping_{0};
  grt_task task_ = nullptr;
  void* context_ = nullptr;
  int32_t num_workers_ = 0;
  bool is_patient_ = false;
  int32_t callers_processor_ = -1;
  Mutex mutex_;
  Condition work_, done_;
  Thread threads_[kMostThreads - 1];
};

// The engine's job system.
class Callback final : public Executor {
 public:
  Callback(grt_parallel_for parallel_for, void* user, int32_t width)
      : parallel_for_(parallel_for), user_(user), width_(width) {}

  void run(int32_t count, grt_task task, void* context) override {
    if (count > 1) return parallel_for_(user_, count, task, context);
    if (count == 1) task(context, 0);
  }

  int32_t width() const override { return width_; }

 private:
  grt_parallel_for parallel_for_;
  void* user_;
  int32_t width_;
};

int32_t default_width() {
  const int32_t processors = num_processors();
  return processors < kDefaultThreads ? processors : kDefaultThreads;
}

}  // namespace

Executor* Executor::create(const grt_world_params& params, const Allocator& allocator, Error& error) {
  if (params.num_threads < 0 || params.num_threads > kMostThreads) {
    error.fail(GRT_ERROR_INPUT, "expected num_threads of 0 to %d, got %d", kMostThreads, params.num_threads);
    return nullptr;
  }
  const int32_t width = params.num_threads > 0 ? params.num_threads : default_width();
  if (params.parallel_for != nullptr) {
    return make<Callback>(allocator, error, params.parallel_for, params.parallel_for_user, width);
  }
#if !defined(__wasi__)
  if (width > 1) {
    Pool* pool = make<Pool>(allocator, error);
    if (pool == nullptr) return nullptr;
    pool->start(width);
    if (pool->width() < width && params.log != nullptr) {
      char message[96];
      std::snprintf(message, sizeof message, "the system gave %d of %d threads", pool->width(), width);
      params.log(params.log_user, GRT_LOG_WARNING, message);
    }
    return pool;
  }
#endif
  return make<Serial>(allocator, error);
}

}  // namespace grt
