#include "support/threads.hpp"

#include <cmath>
#include <ctime>
#include <initializer_list>

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32) && !defined(__wasi__)
#include <signal.h>
#include <unistd.h>
#endif

namespace grt {
namespace {

// Long waits are cut to a day, so that no time overflows; whoever waits looks again.
constexpr double kLongestMs = 24 * 60 * 60 * 1e3;

[[maybe_unused]] double bounded(double ms) {
  if (!(ms > 0)) return 0;
  return ms < kLongestMs ? ms : kLongestMs;
}

}  // namespace

#if defined(_WIN32)

Condition::Condition() = default;
Condition::~Condition() = default;
void Condition::wait(Mutex& mutex) { SleepConditionVariableSRW(&handle_, &mutex.handle_, INFINITE, 0); }
void Condition::wait_ms(Mutex& mutex, double ms) {
  SleepConditionVariableSRW(&handle_, &mutex.handle_, static_cast<DWORD>(std::ceil(bounded(ms))), 0);
}
void Condition::notify_one() { WakeConditionVariable(&handle_); }
void Condition::notify_all() { WakeAllConditionVariable(&handle_); }

DWORD WINAPI Thread::enter(void* thread) {
  const auto* self = static_cast<Thread*>(thread);
  self->body_(self->context_);
  return 0;
}

bool Thread::start(void (*body)(void*), void* context, Error& error) {
  body_ = body;
  context_ = context;
  handle_ = CreateThread(nullptr, 0, enter, this, 0, nullptr);
  if (handle_ == nullptr) {
    return error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected a thread of the system, found none: error %lu",
                      static_cast<unsigned long>(GetLastError()));
  }
  is_started_ = true;
  return true;
}

void Thread::join() {
  if (!is_started_) return;
  WaitForSingleObject(handle_, INFINITE);
  CloseHandle(handle_);
  is_started_ = false;
}

int32_t num_processors() {
  DWORD_PTR ours = 0, system = 0;
  if (!GetProcessAffinityMask(GetCurrentProcess(), &ours, &system)) return 1;
  int32_t count = 0;
  for (; ours != 0; ours &= ours - 1) count++;
  return count > 0 ? count : 1;
}

#elif defined(__wasi__)

Condition::Condition() = default;
Condition::~Condition() = default;
void Condition::wait(Mutex&) {}
void Condition::wait_ms(Mutex&, double) {}
void Condition::notify_one() {}
void Condition::notify_all() {}

bool Thread::start(void (*body)(void*), void* context, Error& error) {
  body_ = body;
  context_ = context;
  return error.fail(GRT_ERROR_UNSUPPORTED,
                    "expected a system with threads, found WebAssembly without: use num_threads 1 and steps");
}

void Thread::join() {}

int32_t num_processors() { return 1; }

#else

Condition::Condition() {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
#if !defined(__APPLE__)
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
  pthread_cond_init(&handle_, &attributes);
  pthread_condattr_destroy(&attributes);
}

Condition::~Condition() { pthread_cond_destroy(&handle_); }

void Condition::wait(Mutex& mutex) { pthread_cond_wait(&handle_, &mutex.handle_); }

void Condition::wait_ms(Mutex& mutex, double ms) {
  ms = bounded(ms);
  timespec time;
  const auto seconds = static_cast<time_t>(ms / 1e3);
  const auto nanoseconds = static_cast<long>((ms - static_cast<double>(seconds) * 1e3) * 1e6);
#if defined(__APPLE__)
  time.tv_sec = seconds;
  time.tv_nsec = nanoseconds;
  pthread_cond_timedwait_relative_np(&handle_, &mutex.handle_, &time);
#else
  clock_gettime(CLOCK_MONOTONIC, &time);
  time.tv_sec += seconds;
  time.tv_nsec += nanoseconds;
  if (time.tv_nsec >= 1000000000) {
    time.tv_sec++;
    time.tv_nsec -= 1000000000;
  }
  pthread_cond_timedwait(&handle_, &mutex.handle_, &time);
#endif
}

void Condition::notify_one() { pthread_cond_signal(&handle_); }
void Condition::notify_all() { pthread_cond_broadcast(&handle_); }

void* Thread::enter(void* thread) {
  const auto* self = static_cast<Thread*>(thread);
  self->body_(self->context_);
  return nullptr;
}

bool Thread::start(void (*body)(void*), void* context, Error& error) {
  body_ = body;
  context_ = context;
  // Signals are the program's: none is delivered on a thread that it does not know of, besides those of what
  // the thread does itself and of profilers.
  sigset_t all, before;
  sigfillset(&all);
  for (int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&all, own);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int failed = pthread_create(&handle_, nullptr, enter, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (failed != 0) {
    return error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected a thread of the system, found none: error %d",
                      failed);
  }
  is_started_ = true;
  return true;
}

void Thread::join() {
  if (!is_started_) return;
  pthread_join(handle_, nullptr);
  is_started_ = false;
}

int32_t num_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return count;
  }
#endif
  const long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? static_cast<int32_t>(count) : 1;
}

#endif

#if defined(__linux__)

int32_t current_processor() { return sched_getcpu(); }

void Thread::keep_off(int32_t processor) {
  cpu_set_t set;
  if (pthread_getaffinity_np(handle_, sizeof set, &set) != 0) return;
  if (kept_off_ >= 0) CPU_SET(kept_off_, &set);
  const bool may = processor >= 0 && processor < CPU_SETSIZE && CPU_ISSET(processor, &set);
  if (may) CPU_CLR(processor, &set);
  if (CPU_COUNT(&set) == 0 || pthread_setaffinity_np(handle_, sizeof set, &set) != 0) return;
  kept_off_ = may ? processor : -1;
}

#else

int32_t current_processor() { return -1; }
void Thread::keep_off(int32_t) {}

#endif

}  // namespace grt
