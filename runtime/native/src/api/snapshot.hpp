// Snapshots: rows that are kept, and the shelf where a world keeps some that are not in use.
#pragma once

#include "engine/row.hpp"
#include "support/threads.hpp"

// Where a session was. Holds its world.
struct grt_snapshot {
  grt_world* world = nullptr;
  grt::Row row;
  grt_snapshot* next = nullptr;  // on the shelf
};

namespace grt {

// Snapshots that are set aside for sessions which asked for some, so that taking one allocates nothing. Those
// on the shelf hold neither pages nor their world.
class SnapshotShelf {
 public:
  // Changes how many are kept. Those that are missing are for the caller to make and `put`.
  void change_size(int32_t more);
  // One that is set aside, or null.
  grt_snapshot* take();
  // False if there are enough: then it is the caller's to destroy.
  bool put(grt_snapshot* snapshot);
  // One that is too many, to destroy; null if there is none.
  grt_snapshot* take_surplus();

 private:
  Mutex lock_;
  grt_snapshot* first_ = nullptr;
  int32_t size_ = 0, count_ = 0;
};

// A snapshot that is in no use.
grt_snapshot* make_snapshot(grt_world& world, Error& error);

}  // namespace grt
