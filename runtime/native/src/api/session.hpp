// A session: one player's row, the memory that its steps need, and what is known of its next frames.
#pragma once

#include <atomic>

#include "api/async.hpp"
#include "api/world.hpp"
#include "engine/deadline.hpp"

namespace grt {

// The frame that an action leads to, which a peek computed.
struct Peek {
  bool is_known = false;
  int32_t code = 0;  // the action of the dynamics
  FrameStats stats;
  Row row;
};

// What a step gave, for grt_step_stats and the deadline.
struct Taken {
  FrameStats stats;
  bool from_peek = false;
  double total_ms = 0;
};

}  // namespace grt

struct grt_session {
  grt_world* world = nullptr;
  std::atomic<const void*> caller{nullptr};  // the call that is in the session, if there is one
  grt::Plan plan;
  grt::Deadline deadline;
  bool has_deadline = false;
  int32_t least_passes = 1;  // of the deadline, as asked for
  int32_t num_snapshots = 0;
  grt::Row row;
  grt::Row spare;  // where frames are computed, so that one that fails leaves the row alone
  grt::Buffer<grt::Peek*> peeks;
  grt::Workspace* workspace = nullptr;
  grt::Claims claims;       // for steps; see PagePool
  grt::Claims reserved;     // pages to keep allocated
  int32_t num_shelved = 0;  // snapshots that the world's shelf keeps for this session
  grt::Job job;
  grt::Error failure;  // of this session's part in grt_step_many

  int32_t most_peeks() const { return static_cast<int32_t>(peeks.size()); }
};

namespace grt {

// A session's call while it lasts: no other thread may be in one. Refuses sessions whose submitted frame
// nobody has fetched, but where `takes_submitted`.
class Turn {
 public:
  Turn(const grt_session* session, Error& error, bool takes_submitted = false);
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn();

  // Null if the session cannot be used now; the error says why.
  grt_session* session() const { return session_; }

 private:
  grt_session* session_ = nullptr;
};

// A new session with memory for so many snapshots and peeks. Null and the error if there is none.
grt_session* make_session(grt_world& world, const Plan& plan, int32_t num_snapshots, int32_t most_peeks,
                          Error& error);
void free_session(grt_session* session);

// Peeks that a session keeps if nobody says how many: one for each action that differs.
int32_t default_peeks(const grt_world& world);

[[nodiscard]] bool check_has_frame(const grt_session& session, Error& error);

// The plan of the next step: with a deadline, with as many passes as fit.
Plan next_plan(const grt_session& session);

// ---- Pages

// How many pages a session and its peeks may hold under a plan, besides those that others hold too. What a
// session claims and what it alone holds is that many: pages go from the one to the other.
Claims budget(const grt_world& world, const Plan& plan, int32_t most_peeks);
// Raises the session's claims to `needed` where they are lower. On failure nothing changes.
[[nodiscard]] bool raise_claims(grt_session& session, const Claims& needed, Error& error);
// Raises them for a session whose row somebody else is about to hold too.
[[nodiscard]] bool raise_claims_to_share(grt_session& session, Error& error);
// Lowers them to what the row needs from now on. There are no peeks.
void settle(grt_session& session);
// Lowers them by the pages that a peek has taken.
void settle_peek(grt_session& session, const Peek& peek);
// Forgets all peeks; their pages are claimed again.
void drop_peeks(grt_session& session);

// Bytes of memory that a session takes, and that a frame which is kept takes at most.
uint64_t session_bytes(const grt_world& world);
uint64_t frame_bytes(const ModelConfig& config);

// ---- Steps

Peek* find_peek(grt_session& session, int32_t code);

// Computes the next frame into the spare row.
[[nodiscard]] bool compute(grt_session& session, Executor& executor, int32_t action, int32_t code,
                           const Plan& plan, FrameStats& stats, const std::atomic<bool>* cancelled,
                           Error& error);
// Goes on to the spare row, or to what a peek led to.
void take_spare(grt_session& session);
void take_peek(grt_session& session, Peek& peek, int32_t action);

// The next frame, from a peek if one knows it; `frame` was checked.
[[nodiscard]] bool step(grt_session& session, Executor& executor, int32_t action, const grt_image& frame,
                        Taken& taken, Error& error);
// Tells the deadline what a step took, and fills the caller's stats, unless they are null.
void account(grt_session& session, const Taken& taken, grt_step_stats* stats);

// Computes the last frame's page, if it is pending.
[[nodiscard]] bool commit(grt_session& session, Error& error);

}  // namespace grt
