#include "engine/pages.hpp"

namespace grt {
namespace {

// The numbers stand behind the page's own fields, in the same memory.
constexpr size_t kHeader = Allocator::kAlignment;
static_assert(sizeof(Page) <= kHeader);

}  // namespace

PagePool::~PagePool() { release(free_); }

void PagePool::create(const Allocator& allocator, size_t floats) {
  allocator_ = allocator;
  floats_ = floats;
}

Page* PagePool::allocate(Error& error) const {
  const size_t bytes = kHeader + page_bytes();
  void* memory = allocator_.allocate(bytes);
  if (memory == nullptr) {
    error.fail(GRT_ERROR_OUT_OF_MEMORY, "expected %zu bytes of memory for a page, the allocator gave none",
               bytes);
    return nullptr;
  }
  Page* page = new (memory) Page();
  page->data = reinterpret_cast<float*>(static_cast<unsigned char*>(memory) + kHeader);
  return page;
}

void PagePool::release(Page* pages) const {
  while (pages != nullptr) {
    Page* next = pages->next;
    allocator_.release(pages, kHeader + page_bytes());
    pages = next;
  }
}

bool PagePool::add(int32_t count, Error& error) {
  Page* made = nullptr;
  for (int32_t i = 0; i < count; i++) {
    Page* page = allocate(error);
    if (page == nullptr) {
      release(made);
      return false;
    }
    page->next = made;
    made = page;
  }
  if (made == nullptr) return true;
  Page* last = made;
  while (last->next != nullptr) last = last->next;
  Locked locked(lock_);
  // Behind those that were used before: their memory is warm.
  if (free_ == nullptr) {
    free_ = made;
  } else {
    Page* end = free_;
    while (end->next != nullptr) end = end->next;
    end->next = made;
  }
  num_free_ += count;
  num_allocated_ += count;
  return true;
}

bool PagePool::claim(int32_t& own, int32_t needed, Error& error) {
  const int32_t more = needed - own;
  lock_.lock();
  num_claimed_ += more;
  const int32_t missing = more > 0 ? num_claimed_ - num_free_ : 0;
  lock_.unlock();
  if (missing > 0 && !add(missing, error)) {
    Locked locked(lock_);
    num_claimed_ -= more;
    return false;
  }
  own = needed;
  return true;
}

void PagePool::lower(int32_t& own, int32_t needed) {
  if (needed >= own) return;
  Locked locked(lock_);
  num_claimed_ -= own - needed;
  own = needed;
}

bool PagePool::reserve(int32_t& own, int32_t needed, Error& error) {
  const int32_t more = needed - own;
  lock_.lock();
  num_reserved_ += more;
  const int32_t missing = more > 0 ? num_reserved_ - num_allocated_ : 0;
  lock_.unlock();
  if (missing > 0 && !add(missing, error)) {
    Locked locked(lock_);
    num_reserved_ -= more;
    return false;
  }
  own = needed;
  return true;
}

void PagePool::unreserve(int32_t& own) {
  Locked locked(lock_);
  num_reserved_ -= own;
  own = 0;
}

void PagePool::trim() {
  Page* dropped = nullptr;
  lock_.lock();
  while (num_free_ > num_claimed_ && num_allocated_ > num_reserved_) {
    Page* page = free_;
    free_ = page->next;
    page->next = dropped;
    dropped = page;
    num_free_--;
    num_allocated_--;
  }
  lock_.unlock();
  release(dropped);
}

Page* PagePool::take() {
  Locked locked(lock_);
  Page* page = free_;
  if (page == nullptr) return nullptr;
  free_ = page->next;
  num_free_--;
  page->next = nullptr;
  page->holders = 1;
  return page;
}

void PagePool::hold(Page* page) {
  Locked locked(lock_);
  page->holders++;
}

void PagePool::let_go(Page* page, int32_t* claim) {
  Locked locked(lock_);
  if (--page->holders > 0) return;
  page->next = free_;
  free_ = page;
  num_free_++;
  if (claim != nullptr) {
    num_claimed_++;
    ++*claim;
  }
}

int32_t PagePool::num_owned(Page* const* pages, int32_t count) {
  Locked locked(lock_);
  int32_t owned = 0;
  for (int32_t i = 0; i < count; i++) owned += pages[i]->holders == 1;
  return owned;
}

int32_t PagePool::num_allocated() {
  Locked locked(lock_);
  return num_allocated_;
}

int32_t PagePool::num_free() {
  Locked locked(lock_);
  return num_free_;
}

}  // namespace grt
