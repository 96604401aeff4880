#include "api/snapshot.hpp"

namespace grt {

void SnapshotShelf::change_size(int32_t more) {
  Locked locked(lock_);
  size_ += more;
}

grt_snapshot* SnapshotShelf::take() {
  Locked locked(lock_);
  grt_snapshot* snapshot = first_;
  if (snapshot == nullptr) return nullptr;
  first_ = snapshot->next;
  snapshot->next = nullptr;
  count_--;
  return snapshot;
}

bool SnapshotShelf::put(grt_snapshot* snapshot) {
  Locked locked(lock_);
  if (count_ >= size_) return false;
  snapshot->next = first_;
  first_ = snapshot;
  count_++;
  return true;
}

grt_snapshot* SnapshotShelf::take_surplus() {
  Locked locked(lock_);
  if (count_ <= size_) return nullptr;
  grt_snapshot* snapshot = first_;
  first_ = snapshot->next;
  count_--;
  return snapshot;
}

}  // namespace grt
