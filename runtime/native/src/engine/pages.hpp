// Pages: keys and values of temporal attention of one frame, shared by sessions and snapshots that look back
// at it. A page never changes once its frame is done.
#pragma once

#include <atomic>
#include <mutex>

#include "support/memory.hpp"

namespace grt {

struct Page {
  float* data = nullptr;
  int32_t holders = 0;   // guarded by the pool's lock
  Page* next = nullptr;  // in the list of free pages
};

// All pages of one shape of a world. Thread-safe.
//
// Whoever will need pages in steps, a session, keeps a *claim*: how many more than it holds it may need until
// it calls `claim` again. Free pages never fall below the sum of all claims, so `take` never fails nor
// allocates. A session that holds n pages, s of which others hold too, has to claim s + 1: when a shared page
// leaves its window it does not become free. Stepping never raises that number; snapshots, forks and restores
// do.
class PagePool {
 public:
  PagePool() = default;
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();

  void create(const Allocator& allocator, size_t floats);

  // Changes a claim, `own`, to `needed`; allocates pages where there are too few. On failure nothing changes.
  [[nodiscard]] bool claim(int32_t& own, int32_t needed, Error& error);

  // A page with one holder. Its contents are left over from earlier.
  Page* take();
  void hold(Page* page);
  // Frees the page if nobody else holds it.
  void let_go(Page* page);
  bool is_shared(const Page* page);

  size_t page_bytes() const { return floats_ * sizeof(float); }
  size_t floats() const { return floats_; }
  size_t num_allocated();

 private:
  Allocator allocator_{};
  std::mutex lock_;
  size_t floats_ = 0;
  Page* free_ = nullptr;
  int32_t num_free_ = 0, num_allocated_ = 0, num_claimed_ = 0;
};

}  // namespace grt
