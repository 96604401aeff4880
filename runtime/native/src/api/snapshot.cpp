// grt_session_snapshot, grt_session_restore, grt_snapshot_free.

#include "api/snapshot.hpp"

#include "api/call.hpp"
#include "api/session.hpp"

namespace grt {

grt_snapshot* make_snapshot(grt_world& world, Error& error) {
  auto* snapshot = make<grt_snapshot>(world.allocator, error);
  if (snapshot == nullptr || snapshot->row.create(world.config(), world.pools, world.allocator, error)) {
    return snapshot;
  }
  destroy(world.allocator, snapshot);
  return nullptr;
}

}  // namespace grt

using namespace grt;

grt_status grt_session_snapshot(const grt_session* session, grt_snapshot** snapshot, grt_error* error) {
  if (snapshot != nullptr) *snapshot = nullptr;
  return call(error, [&](Error& e) {
    if (snapshot == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "snapshot: expected a place for the new snapshot, found NULL");
    }
    const Turn turn(session, e);
    grt_session* own = turn.session();
    if (own == nullptr || !check_has_frame(*own, e)) return false;
    grt_world& world = *own->world;
    // The session's pages are shared from now on: none of them becomes free when it leaves the window.
    if (!raise_claims_to_share(*own, e)) return false;
    grt_snapshot* made = world.shelf.take();
    if (made == nullptr) made = make_snapshot(world, e);
    if (made == nullptr) return false;
    made->world = &world;
    hold(&world);
    made->row.assign(own->row);
    *snapshot = made;
    return true;
  });
}

grt_status grt_session_restore(grt_session* session, const grt_snapshot* snapshot, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    if (snapshot == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "snapshot: expected a grt_snapshot, found NULL");
    }
    if (snapshot->world != session->world) {
      return e.fail(GRT_ERROR_INPUT,
                    "snapshot: expected one of this session's world, found one of %s as it was loaded "
                    "elsewhere; take it there with grt_session_save and grt_session_load",
                    snapshot->world->manifest().name);
    }
    // What the row alone holds goes into the claims, which then are what a row of shared pages needs.
    drop_peeks(*session);
    settle(*session);
    session->row.clear(&session->claims);
    session->row.assign(snapshot->row);
    settle(*session);
    return true;
  });
}

void grt_snapshot_free(grt_snapshot* snapshot) {
  if (snapshot == nullptr) return;
  grt_world* world = snapshot->world;
  snapshot->row.clear();
  snapshot->world = nullptr;
  if (!world->shelf.put(snapshot)) destroy(world->allocator, snapshot);
  world->pools.dynamics.trim();
  world->pools.decoder.trim();
  let_go(world);
}
