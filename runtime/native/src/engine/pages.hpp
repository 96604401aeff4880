// Pages: keys and values of temporal attention of one frame, shared by sessions and snapshots that look back
// at it. A page never changes once its frame is done.
#pragma once

#include "support/memory.hpp"
#include "support/threads.hpp"

namespace grt {

struct Page {
  float* data = nullptr;
  int32_t holders = 0;   // guarded by the pool's lock
  Page* next = nullptr;  // in the list of free pages
};

// All pages of one shape of a world. Thread-safe.
//
// Whoever will need pages in steps, a session, keeps a *claim*: how many more than it holds it may need until
// it calls `claim` again. Free pages never fall below what is claimed and not yet taken, so `take` never
// fails nor allocates. A session that holds n pages, s of which others hold too, and never holds more than W,
// has to claim W - n + s + 1: when a shared page leaves its window it does not become free. In other words,
// what a session claims and what it alone holds are W + 1 pages together. Stepping never raises a claim;
// snapshots and forks do.
class PagePool {
 public:
  PagePool() = default;
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();

  void create(const Allocator& allocator, size_t floats);

  // Changes a claim, `own`, to `needed`; allocates pages where there are too few. On failure nothing changes.
  [[nodiscard]] bool claim(int32_t& own, int32_t needed, Error& error);
  // The same where `needed` is not more than `own`.
  void lower(int32_t& own, int32_t needed);

  // Changes how many pages are kept allocated for one holder, free or not: `trim` leaves them.
  [[nodiscard]] bool reserve(int32_t& own, int32_t needed, Error& error);
  void unreserve(int32_t& own);

  // Gives back memory that is neither claimed nor reserved.
  void trim();

  // A page with one holder. Its contents are left over from earlier. Null only for who claimed too few.
  Page* take();
  void hold(Page* page);
  // Frees the page if nobody else holds it; then it goes into `claim`, unless that is null.
  void let_go(Page* page, int32_t* claim = nullptr);

  // How many of these have no other holder than the caller.
  int32_t num_owned(Page* const* pages, int32_t count);

  size_t page_bytes() const { return floats_ * sizeof(float); }
  size_t floats() const { return floats_; }

  // For tests.
  int32_t num_allocated();
  int32_t num_free();

 private:
  Page* allocate(Error& error) const;
  void release(Page* pages) const;
  // Allocates so many pages, without the lock, and frees them into the list.
  bool add(int32_t count, Error& error);

  Allocator allocator_{};
  Mutex lock_;
  size_t floats_ = 0;
  Page* free_ = nullptr;
  int32_t num_free_ = 0, num_allocated_ = 0, num_claimed_ = 0, num_reserved_ = 0;
};

}  // namespace grt
