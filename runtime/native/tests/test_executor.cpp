// Executors: every task runs once, on every kind of executor, whoever calls and however often.
#include <atomic>
#include <cstdlib>

#if defined(__linux__)
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#include "check.hpp"
#include "engine/executor.hpp"
#include "support/threads.hpp"

using namespace grt;

namespace {

constexpr int32_t kMost = 1000;

struct Counts {
  std::atomic<int32_t> of[kMost] = {};

  static void add(void* counts, int32_t index) { static_cast<Counts*>(counts)->of[index]++; }

  // Whether the first `count` tasks ran `times` each, and no other.
  bool are(int32_t count, int32_t times) const {
    for (int32_t i = 0; i < kMost; i++) {
      if (of[i] != (i < count ? times : 0)) return false;
    }
    return true;
  }
};

grt_world_params threads(int32_t num_threads) {
  grt_world_params params;
  grt_world_params_init(&params);
  params.num_threads = num_threads;
  return params;
}

void check_every_task_runs_once(Executor& executor) {
  for (int32_t count : {0, 1, 2, 3, 7, 64, kMost}) {
    Counts counts;
    executor.run(count, Counts::add, &counts);
    GRT_CHECK(counts.are(count, 1));
  }
}

void test_pools_of_all_widths() {
  for (int32_t width = 1; width <= 8; width++) {
    Error error;
    Executor* executor = Executor::create(threads(width), Allocator(), error);
    GRT_REQUIRE(executor != nullptr);
#if defined(__wasi__)
    GRT_CHECK_EQ(executor->width(), 1);
#else
    GRT_CHECK_EQ(executor->width(), width);
#endif
    check_every_task_runs_once(*executor);
    destroy(Allocator(), executor);
  }
}

void test_default_width_is_processors_at_most_eight() {
  Error error;
  Executor* executor = Executor::create(threads(0), Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  const int32_t processors = num_processors();
  GRT_CHECK_EQ(executor->width(), processors < 8 ? processors : 8);
  destroy(Allocator(), executor);
}

// Plain memory that a phase writes and the next one reads: what each did has to be seen by the other.
struct Relay {
  int64_t values[2][4] = {};
  int32_t from = 0;

  static void pass(void* relay, int32_t index) {
    auto* self = static_cast<Relay*>(relay);
    const int64_t* source = self->values[self->from];
    self->values[1 - self->from][index] = source[(index + 1) % 4] + 1;
  }
};

void test_phases_see_what_the_last_one_wrote() {
  Error error;
  Executor* executor = Executor::create(threads(3), Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  Relay relay;
  const int32_t phases = 20000;
  for (int32_t phase = 0; phase < phases; phase++) {
    executor->run(4, Relay::pass, &relay);
    relay.from = 1 - relay.from;
  }
  for (int64_t value : relay.values[relay.from]) GRT_CHECK_EQ(value, phases);
  destroy(Allocator(), executor);
}

// Between calls the threads go to sleep, and the next one wakes them.
void test_threads_that_sleep_wake_up() {
  Error error;
  Executor* executor = Executor::create(threads(4), Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  Mutex mutex;
  Condition never;
  Counts counts;
  for (int32_t i = 0; i < 20; i++) {
    {
      Locked locked(mutex);
      never.wait_ms(mutex, 1);
    }
    executor->run(64, Counts::add, &counts);
    executor->run(2, Counts::add, &counts);
  }
  for (int32_t i = 0; i < 64; i++) GRT_CHECK_EQ(counts.of[i].load(), i < 2 ? 40 : 20);
  destroy(Allocator(), executor);
}

struct Caller {
  Executor* executor = nullptr;
  Counts* counts = nullptr;
  int32_t times = 0;

  static void call(void* caller) {
    auto* self = static_cast<Caller*>(caller);
    for (int32_t i = 0; i < self->times; i++) self->executor->run(16, Counts::add, self->counts);
  }
};

void test_several_threads_call_at_once() {
#if !defined(__wasi__)
  Error error;
  Executor* executor = Executor::create(threads(3), Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  Counts counts[4];
  Caller callers[4];
  Thread running[4];
  for (int32_t i = 0; i < 4; i++) {
    callers[i].executor = executor;
    callers[i].counts = &counts[i];
    callers[i].times = 2000;
    GRT_CHECK(running[i].start(Caller::call, &callers[i], error));
  }
  for (Thread& thread : running) thread.join();
  for (const Counts& each : counts) GRT_CHECK(each.are(16, 2000));
  destroy(Allocator(), executor);
#endif
}

#if defined(__linux__)

// What the thread of the pool may run on, while the caller does the other of two tasks.
struct Places {
  pthread_t caller = pthread_self();
  std::atomic<int32_t> begun{0};
  cpu_set_t of_worker;

  static void look(void* places, int32_t) {
    auto* self = static_cast<Places*>(places);
    self->begun++;
    while (self->begun < 2) sched_yield();
    if (pthread_equal(pthread_self(), self->caller) == 0) {
      sched_getaffinity(0, sizeof self->of_worker, &self->of_worker);
    }
  }
};

#endif

void test_threads_keep_off_the_callers_processor() {
#if defined(__linux__)
  cpu_set_t all;
  GRT_REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  if (CPU_COUNT(&all) < 2) return;
  Error error;
  Executor* executor = Executor::create(threads(2), Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (!CPU_ISSET(i, &all)) continue;
    cpu_set_t here, others = all;
    CPU_ZERO(&here);
    CPU_SET(i, &here);
    CPU_CLR(i, &others);
    GRT_REQUIRE(sched_setaffinity(0, sizeof here, &here) == 0);
    // Threads are moved when they are woken; the pool's may not sleep yet.
    Mutex mutex;
    Condition never;
    bool is_off = false;
    for (int tries = 0; tries < 1000 && !is_off; tries++) {
      {
        Locked locked(mutex);
        never.wait_ms(mutex, 2);
      }
      Places places;
      executor->run(2, Places::look, &places);
      is_off = CPU_EQUAL(&places.of_worker, &others) != 0;
    }
    GRT_CHECK(is_off);
  }
  GRT_REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0);
  destroy(Allocator(), executor);
#endif
}

struct Nested {
  Executor* executor = nullptr;
  Counts* counts = nullptr;

  static void run(void* nested, int32_t) {
    auto* self = static_cast<Nested*>(nested);
    self->executor->run(8, Counts::add, self->counts);
  }
};

void test_a_task_may_call_run() {
  Error error;
  Executor* executor = Executor::create(threads(2), Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  Counts counts;
  Nested nested;
  nested.executor = executor;
  nested.counts = &counts;
  executor->run(5, Nested::run, &nested);
  GRT_CHECK(counts.are(8, 5));
  destroy(Allocator(), executor);
}

void test_the_callback_gets_what_has_several_tasks() {
  struct Jobs {
    int32_t calls = 0, tasks = 0;

    static void run(void* user, int32_t count, grt_task task, void* context) {
      auto* self = static_cast<Jobs*>(user);
      self->calls++;
      for (int32_t i = count - 1; i >= 0; i--, self->tasks++) task(context, i);
    }
  };
  Jobs jobs;
  grt_world_params params = threads(5);
  params.parallel_for = Jobs::run;
  params.parallel_for_user = &jobs;
  Error error;
  Executor* executor = Executor::create(params, Allocator(), error);
  GRT_REQUIRE(executor != nullptr);
  GRT_CHECK_EQ(executor->width(), 5);
  check_every_task_runs_once(*executor);
  GRT_CHECK_EQ(jobs.calls, 5);  // counts 0 and 1 need no job system
  GRT_CHECK_EQ(jobs.tasks, 2 + 3 + 7 + 64 + kMost);
  destroy(Allocator(), executor);
}

void test_wrong_numbers_of_threads_are_refused() {
  for (int32_t wrong : {-1, 65}) {
    Error error;
    GRT_CHECK(Executor::create(threads(wrong), Allocator(), error) == nullptr);
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_INPUT));
    GRT_CHECK_CONTAINS(error.message, "expected num_threads of 0 to 64, got");
  }
}

void test_no_memory_is_an_error() {
  grt_allocator hooks;
  grt_allocator_init(&hooks);
  hooks.allocate = [](void*, size_t, size_t) -> void* { return nullptr; };
  hooks.release = [](void*, void*, size_t) {};
  for (int32_t width : {1, 4}) {
    Error error;
    GRT_CHECK(Executor::create(threads(width), Allocator(hooks), error) == nullptr);
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_OUT_OF_MEMORY));
  }
}

// Sanitizers map far more than a limit on address space allows.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

// Last, for the limit stays.
void test_fewer_threads_where_the_system_gives_none() {
#if defined(__linux__) && !defined(SANITIZED)
  rlimit before;
  getrlimit(RLIMIT_AS, &before);
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  long pages = 0;
  GRT_REQUIRE(file != nullptr && std::fscanf(file, "%ld", &pages) == 1);
  std::fclose(file);
  // Room for a few stacks, not for 63.
  rlimit small = before;
  small.rlim_cur = static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (20U << 20);
  GRT_REQUIRE(setrlimit(RLIMIT_AS, &small) == 0);
  void* room = mmap(nullptr, 64U << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room != MAP_FAILED) {
    std::fprintf(stderr, "skipped: this system, such as qemu-user, sets no limit on address space\n");
    munmap(room, 64U << 20);
    return;
  }

  grt_world_params params = threads(64);
  static char logged[128];
  params.log = [](void*, grt_log_level, const char* message) { std::strncpy(logged, message, 127); };
  Error error;
  Executor* executor = Executor::create(params, Allocator(), error);
  setrlimit(RLIMIT_AS, &before);
  GRT_REQUIRE(executor != nullptr);
  GRT_CHECK(executor->width() < 64);
  GRT_CHECK_CONTAINS(logged, "of 64 threads");
  check_every_task_runs_once(*executor);
  destroy(Allocator(), executor);
#endif
}

}  // namespace

int main() {
  test_pools_of_all_widths();
  test_default_width_is_processors_at_most_eight();
  test_phases_see_what_the_last_one_wrote();
  test_threads_that_sleep_wake_up();
  test_several_threads_call_at_once();
  test_threads_keep_off_the_callers_processor();
  test_a_task_may_call_run();
  test_the_callback_gets_what_has_several_tasks();
  test_wrong_numbers_of_threads_are_refused();
  test_no_memory_is_an_error();
  test_fewer_threads_where_the_system_gives_none();
  return grt::test::failures();
}
