// Locks, conditions and threads of the operating system, because std::thread allocates and throws. Under WASI
// there is one thread: locks do nothing, and no other thread starts.
#pragma once

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#elif !defined(__wasi__)
#include <pthread.h>
#endif

#include "support/error.hpp"

namespace grt {

class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

#if defined(_WIN32)
  void lock() { AcquireSRWLockExclusive(&handle_); }
  void unlock() { ReleaseSRWLockExclusive(&handle_); }

 private:
  friend class Condition;
  SRWLOCK handle_ = SRWLOCK_INIT;
#elif defined(__wasi__)
  void lock() {}
  void unlock() {}
#else
  ~Mutex() { pthread_mutex_destroy(&handle_); }
  void lock() { pthread_mutex_lock(&handle_); }
  void unlock() { pthread_mutex_unlock(&handle_); }

 private:
  friend class Condition;
  pthread_mutex_t handle_ = PTHREAD_MUTEX_INITIALIZER;
#endif
};

// Holds a lock as long as it lives.
class Locked {
 public:
  explicit Locked(Mutex& mutex) : mutex_(mutex) { mutex_.lock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() { mutex_.unlock(); }

 private:
  Mutex& mutex_;
};

// Waits for what others change under a lock. Waits end early now and then: look again.
class Condition {
 public:
  Condition();
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  ~Condition();

  void wait(Mutex& mutex);
  // Waits at most that long, by a clock that nobody sets.
  void wait_ms(Mutex& mutex, double ms);
  void notify_one();
  void notify_all();

 private:
#if defined(_WIN32)
  CONDITION_VARIABLE handle_ = CONDITION_VARIABLE_INIT;
#elif !defined(__wasi__)
  pthread_cond_t handle_;
#endif
};

// A thread, which runs `body(context)`. Join it before it is destroyed.
class Thread {
 public:
  Thread() = default;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // GRT_ERROR_UNSUPPORTED where there are no threads, GRT_ERROR_OUT_OF_MEMORY where the system gives none.
  [[nodiscard]] bool start(void (*body)(void* context), void* context, Error& error);
  void join();
  bool is_started() const { return is_started_; }

  // Keeps a started thread off `processor`, and no longer off the one that it was kept off before. Nothing
  // changes where it would have no other left, or the system has no such call.
  void keep_off(int32_t processor);

 private:
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  bool is_started_ = false;
#if defined(_WIN32)
  static DWORD WINAPI enter(void* thread);
  HANDLE handle_ = nullptr;
#elif !defined(__wasi__)
  static void* enter(void* thread);
  pthread_t handle_{};
  [[maybe_unused]] int32_t kept_off_ = -1;
#endif
};

// Processors that this process may use, at least 1.
int32_t num_processors();

// The processor that this thread runs on, or -1 where the system does not say.
int32_t current_processor();

}  // namespace grt
