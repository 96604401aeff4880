// grt_step_many.

#include "api/call.hpp"
#include "api/session.hpp"

namespace grt {
namespace {

constexpr size_t kMostSessions = 1 << 20;

struct Many {
  grt_session* const* sessions = nullptr;
  const int32_t* actions = nullptr;
  size_t count = 0;
  grt_image* frames = nullptr;
  grt_step_stats* stats = nullptr;
  grt_status* statuses = nullptr;
  Executor* executor = nullptr;  // of each session's step

  grt_world& world() const { return *sessions[0]->world; }
  // Whether this call has its turn in a session.
  bool has(size_t i) const { return sessions[i]->caller.load(std::memory_order_relaxed) == this; }
};

// Everything but what concerns one session alone.
bool check_all(const Many& many, Error& error) {
  if (many.count > kMostSessions) {
    return error.fail(GRT_ERROR_INPUT, "num_sessions: expected at most %zu, found %zu", kMostSessions,
                      many.count);
  }
  if (many.sessions == nullptr || many.actions == nullptr) {
    return error.fail(GRT_ERROR_INPUT, "%s: expected one for each of %zu sessions, found NULL",
                      many.sessions == nullptr ? "sessions" : "actions", many.count);
  }
  for (size_t i = 0; i < many.count; i++) {
    if (many.sessions[i] == nullptr) {
      return error.fail(GRT_ERROR_INPUT, "sessions[%zu]: expected a grt_session, found NULL", i);
    }
    if (many.sessions[i]->world != many.sessions[0]->world) {
      return error.fail(GRT_ERROR_INPUT,
                        "sessions[%zu]: expected a session of the first one's world, found "
                        "one of another; step them by themselves",
                        i);
    }
  }
  if (many.stats != nullptr && !check_structs(many.stats, many.count, "stats", "grt_step_stats", error)) {
    return false;
  }
  if (many.frames == nullptr) return true;
  if (!check_structs(many.frames, many.count, "frames", "grt_image", error)) return false;
  for (size_t i = 0; i < many.count; i++) {
    char name[40];
    std::snprintf(name, sizeof name, "frames[%zu]", i);
    grt_image checked = {};
    if (!check_frame(many.world(), struct_at(many.frames, i), name, checked, error)) return false;
  }
  return true;
}

void leave_all(const Many& many, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (many.has(i)) many.sessions[i]->caller.store(nullptr, std::memory_order_release);
  }
}

// Takes a turn in every session that has none and computes nothing. Refuses a session that comes twice.
bool enter_all(const Many& many, Error& error) {
  for (size_t i = 0; i < many.count; i++) {
    const void* other = nullptr;
    if (many.sessions[i]->caller.compare_exchange_strong(other, &many, std::memory_order_acquire)) continue;
    if (other == &many) {
      leave_all(many, i);
      return error.fail(GRT_ERROR_INPUT, "sessions[%zu]: expected every session once, found one again", i);
    }
  }
  return true;
}

void step_one(void* context, int32_t index) {
  const Many& many = *static_cast<const Many*>(context);
  const auto i = static_cast<size_t>(index);
  if (!many.has(i)) return;
  grt_session& session = *many.sessions[i];
  session.failure = {};
  if (session.job.is_submitted()) {
    session.failure.fail(GRT_ERROR_BUSY,
                         "expected no frame under way, found one that was submitted; call "
                         "grt_session_poll until it is done, or grt_session_cancel");
    return;
  }
  grt_image frame = {};
  if (many.frames != nullptr) {
    // It was checked before; what another thread did to it since fails here.
    const grt_image* given = struct_at(many.frames, i);
    if (!check_frame(many.world(), given, "frames", frame, session.failure)) return;
  }
  Taken taken;
  if (!step(session, *many.executor, many.actions[i], frame, taken, session.failure)) return;
  account(session, taken, many.stats != nullptr ? struct_at(many.stats, i) : nullptr);
}

void step_all(Many& many) {
  Executor& executor = *many.world().executor;
  const auto count = static_cast<int32_t>(many.count);
  Serial serial;
  if (executor.width() > 1 && count >= executor.width()) {
    many.executor = &serial;
    executor.run(count, step_one, &many);
  } else {
    many.executor = &executor;
    serial.run(count, step_one, &many);
  }
}

// Collects the statuses; the first failure becomes the call's.
bool report(const Many& many, Error& error) {
  bool ok = true;
  for (size_t i = 0; i < many.count; i++) {
    Error failure;
    if (many.has(i)) {
      failure = many.sessions[i]->failure;
    } else {
      failure.fail(GRT_ERROR_BUSY,
                   "expected one thread at a time in a session, found another in a call of it");
    }
    if (many.statuses != nullptr) many.statuses[i] = failure.status;
    if (!ok || failure.status == GRT_OK) continue;
    ok = false;
    error.fail(failure.status, "sessions[%zu]: %.480s", i, failure.message);
  }
  return ok;
}

}  // namespace
}  // namespace grt

using namespace grt;

grt_status grt_step_many(grt_session* const* sessions, const int32_t* actions, size_t num_sessions,
                         grt_image* frames, grt_step_stats* stats, grt_status* statuses, grt_error* error) {
  return call(error, [&](Error& e) {
    if (num_sessions == 0) return true;
    Many many{sessions, actions, num_sessions, frames, stats, statuses, nullptr};
    if (!check_all(many, e) || !enter_all(many, e)) return false;
    step_all(many);
    const bool ok = report(many, e);
    leave_all(many, many.count);
    return ok;
  });
}
