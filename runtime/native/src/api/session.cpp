// grt_session_create, grt_session_free, grt_session_fork, and turns.

#include "api/session.hpp"

#include "api/call.hpp"
#include "api/plan.hpp"

namespace grt {
namespace {

constexpr int32_t kMostSnapshots = 1 << 16;

bool fill_session(grt_session& session, const Plan& plan, int32_t num_snapshots, int32_t most_peeks,
                  Error& error) {
  grt_world& world = *session.world;
  const Allocator& allocator = world.allocator;
  session.plan = plan;
  session.num_snapshots = num_snapshots;
  if (!world.engine->prepare(plan, error) ||
      !session.row.create(world.config(), world.pools, allocator, error) ||
      !session.spare.create(world.config(), world.pools, allocator, error) ||
      !session.peeks.create(allocator, static_cast<size_t>(most_peeks), error)) {
    return false;
  }
  for (Peek*& peek : session.peeks) {
    peek = make<Peek>(allocator, error);
    if (peek == nullptr || !peek->row.create(world.config(), world.pools, allocator, error)) return false;
  }
  session.workspace = world.engine->make_workspace(allocator, error);
  if (session.workspace == nullptr) return false;

  const Claims needed = budget(world, plan, most_peeks);
  if (!raise_claims(session, needed, error)) return false;
  Claims kept = needed;
  if (num_snapshots > 0) {
    // Snapshots of so many frames in a row keep the window of the first and a page of each other, and while
    // the session goes back and takes them anew, a second one; see PagePool for why it may then need a window
    // of its own besides.
    kept.dynamics += world.config().dynamics.transformer.window - 1 + 2 * num_snapshots;
    kept.decoder += world.config().tokenizer.decoder.window - 1 + 2 * num_snapshots;
    if (plan.reuse == GRT_REUSE_FRAMES) kept.dynamics += 2 * num_snapshots;
  }
  if (!world.pools.dynamics.reserve(session.reserved.dynamics, kept.dynamics, error) ||
      !world.pools.decoder.reserve(session.reserved.decoder, kept.decoder, error)) {
    return false;
  }
  for (; session.num_shelved < num_snapshots; session.num_shelved++) {
    grt_snapshot* snapshot = make_snapshot(world, error);
    if (snapshot == nullptr) return false;
    world.shelf.change_size(1);
    if (!world.shelf.put(snapshot)) destroy(allocator, snapshot);
  }
  return true;
}

}  // namespace

Turn::Turn(const grt_session* session, Error& error, bool takes_submitted) {
  if (session == nullptr) {
    error.fail(GRT_ERROR_INPUT, "session: expected a grt_session, found NULL");
    return;
  }
  // The calls that do not change what a session is still keep count of its pages.
  auto* own = const_cast<grt_session*>(session);
  const void* nobody = nullptr;
  if (!own->caller.compare_exchange_strong(nobody, this, std::memory_order_acquire)) {
    error.fail(GRT_ERROR_BUSY,
               "expected one thread at a time in a session, found another in a call of it; wait for that, or "
               "give every thread a session of its own");
    return;
  }
  if (!takes_submitted && own->job.is_submitted()) {
    own->caller.store(nullptr, std::memory_order_release);
    error.fail(GRT_ERROR_BUSY,
               "expected no frame under way, found one that was submitted; call grt_session_poll until it is "
               "done, or grt_session_cancel");
    return;
  }
  session_ = own;
}

Turn::~Turn() {
  if (session_ != nullptr) session_->caller.store(nullptr, std::memory_order_release);
}

grt_session* make_session(grt_world& world, const Plan& plan, int32_t num_snapshots, int32_t most_peeks,
                          Error& error) {
  auto* session = make<grt_session>(world.allocator, error);
  if (session == nullptr) return nullptr;
  session->world = &world;
  hold(&world);
  if (fill_session(*session, plan, num_snapshots, most_peeks, error)) return session;
  free_session(session);
  return nullptr;
}

void free_session(grt_session* session) {
  session->job.stop();
  grt_world* world = session->world;
  const Allocator allocator = world->allocator;
  for (Peek* peek : session->peeks) destroy(allocator, peek);
  session->spare.clear();
  session->row.clear();
  destroy(allocator, session->workspace);

  Pools& pools = world->pools;
  pools.dynamics.lower(session->claims.dynamics, 0);
  pools.decoder.lower(session->claims.decoder, 0);
  pools.dynamics.unreserve(session->reserved.dynamics);
  pools.decoder.unreserve(session->reserved.decoder);
  pools.dynamics.trim();
  pools.decoder.trim();
  world->shelf.change_size(-session->num_shelved);
  while (grt_snapshot* surplus = world->shelf.take_surplus()) destroy(allocator, surplus);
  destroy(allocator, session);
  let_go(world);
}

int32_t default_peeks(const grt_world& world) {
  const int32_t codes = world.config().dynamics.num_actions;
  return world.num_actions() < codes ? world.num_actions() : codes;
}

bool check_has_frame(const grt_session& session, Error& error) {
  if (session.row.frame_index >= 0) return true;
  return error.fail(GRT_ERROR_STATE,
                    "expected a session with a picture to go on from, found one that was never reset: call "
                    "grt_session_reset or grt_session_reset_prompt first");
}

Plan next_plan(const grt_session& session) {
  Plan plan = session.plan;
  if (session.has_deadline) plan.passes = session.deadline.passes();
  return plan;
}

}  // namespace grt

using namespace grt;

grt_status grt_session_create(grt_world* world, const grt_session_params* params, grt_session** session,
                              grt_error* error) {
  if (session != nullptr) *session = nullptr;
  return call(error, [&](Error& e) {
    if (session == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "session: expected a place for the new session, found NULL");
    }
    if (world == nullptr) return e.fail(GRT_ERROR_INPUT, "world: expected a grt_world, found NULL");
    grt_session_params given;
    grt_session_params_init(&given);
    if (params != nullptr && !read_struct(params, given, "params", "grt_session_params", e)) return false;
    if (given.num_snapshots < 0 || given.num_snapshots > kMostSnapshots) {
      return e.fail(GRT_ERROR_INPUT, "params.num_snapshots: expected a number from 0 to %d, found %d",
                    kMostSnapshots, given.num_snapshots);
    }
    if (given.most_peeks < 0) {
      return e.fail(GRT_ERROR_INPUT, "params.most_peeks: expected a number of actions, 0 for all, found %d",
                    given.most_peeks);
    }
    Plan plan;
    if (given.plan != nullptr) {
      if (!read_plan(given.plan, world->config(), plan, e)) return false;
    } else {
      for (const NamedPlan& one : world->manifest().plans) {
        if (std::strcmp(one.name, "default") == 0) plan = one.plan;
      }
    }
    const int32_t all = default_peeks(*world);
    const int32_t most_peeks = given.most_peeks > 0 && given.most_peeks < all ? given.most_peeks : all;
    *session = make_session(*world, plan, given.num_snapshots, most_peeks, e);
    return *session != nullptr;
  });
}

void grt_session_free(grt_session* session) {
  if (session != nullptr) free_session(session);
}

grt_status grt_session_fork(const grt_session* session, grt_session** fork, grt_error* error) {
  if (fork != nullptr) *fork = nullptr;
  return call(error, [&](Error& e) {
    if (fork == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "fork: expected a place for the new session, found NULL");
    }
    const Turn turn(session, e);
    grt_session* own = turn.session();
    if (own == nullptr || !check_has_frame(*own, e)) return false;
    grt_session* made = make_session(*own->world, own->plan, own->num_snapshots, own->most_peeks(), e);
    if (made == nullptr) return false;
    if (!raise_claims_to_share(*own, e)) {
      free_session(made);
      return false;
    }
    made->row.assign(own->row);
    made->deadline = own->deadline;
    made->has_deadline = own->has_deadline;
    made->least_passes = own->least_passes;
    *fork = made;
    return true;
  });
}
