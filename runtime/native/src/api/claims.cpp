// How many pages sessions need, and what they and their frames weigh.

#include "api/save.hpp"
#include "api/session.hpp"
#include "engine/page_layout.hpp"

namespace grt {
namespace {

// What a peek's frame has for itself; it shares everything else with the session's row.
Claims owned_by(const Peek& peek) {
  if (!peek.is_known) return {};
  return {peek.row.num_owned_dynamics() + peek.row.num_owned_spatial(), peek.row.num_owned_decoder()};
}

uint64_t row_bytes(const ModelConfig& config) {
  const TokenizerConfig& tokenizer = config.tokenizer;
  return static_cast<uint64_t>(tokenizer.num_tokens()) * sizeof(int32_t) +
         static_cast<uint64_t>(config.num_positions()) * sizeof(float) + picture_bytes(config) +
         static_cast<uint64_t>(config.dynamics.transformer.window + tokenizer.decoder.window) * sizeof(void*);
}

}  // namespace

Claims budget(const grt_world& world, const Plan& plan, int32_t most_peeks) {
  // A full window and the page that takes the place of its oldest. A peek's frame has a page of the decoder
  // of its own; where a commit ahead would change frames, every peek computes the commit for itself.
  Claims needed{world.config().dynamics.transformer.window, world.config().tokenizer.decoder.window};
  needed.decoder += most_peeks;
  if (!world.engine->commits_ahead(plan)) needed.dynamics += most_peeks;
  // A spatial page, the one that follows it, and the peeks'.
  if (plan.reuse == GRT_REUSE_FRAMES) needed.dynamics += 2 + most_peeks;
  return needed;
}

bool raise_claims(grt_session& session, const Claims& needed, Error& error) {
  Pools& pools = session.world->pools;
  const int32_t before = session.claims.dynamics;
  if (needed.dynamics > before && !pools.dynamics.claim(session.claims.dynamics, needed.dynamics, error)) {
    return false;
  }
  if (needed.decoder > session.claims.decoder &&
      !pools.decoder.claim(session.claims.decoder, needed.decoder, error)) {
    pools.dynamics.lower(session.claims.dynamics, before);
    pools.dynamics.trim();
    return false;
  }
  return true;
}

bool raise_claims_to_share(grt_session& session, Error& error) {
  Claims needed = budget(*session.world, session.plan, session.most_peeks());
  for (const Peek* peek : session.peeks) {
    const Claims taken = owned_by(*peek);
    needed.dynamics -= taken.dynamics;
    needed.decoder -= taken.decoder;
  }
  return raise_claims(session, needed, error);
}

void settle(grt_session& session) {
  const Claims most = budget(*session.world, session.plan, session.most_peeks());
  int32_t owned = session.row.num_owned_dynamics();
  if (session.plan.reuse == GRT_REUSE_FRAMES) owned += session.row.num_owned_spatial();
  session.world->pools.dynamics.lower(session.claims.dynamics, most.dynamics - owned);
  session.world->pools.decoder.lower(session.claims.decoder, most.decoder - session.row.num_owned_decoder());
}

void settle_peek(grt_session& session, const Peek& peek) {
  const Claims taken = owned_by(peek);
  session.world->pools.dynamics.lower(session.claims.dynamics, session.claims.dynamics - taken.dynamics);
  session.world->pools.decoder.lower(session.claims.decoder, session.claims.decoder - taken.decoder);
}

uint64_t frame_bytes(const ModelConfig& config) {
  const uint64_t dynamics = PageLayout::of_dynamics(config).floats() * sizeof(float);
  const uint64_t decoder = PageLayout::of_decoder(config).floats() * sizeof(float);
  return 2 * dynamics + decoder + row_bytes(config);  // with the spatial page of reuse "frames"
}

uint64_t session_bytes(const grt_world& world) {
  const int32_t most_peeks = default_peeks(world);
  Plan plan;
  for (const NamedPlan& one : world.manifest().plans) {
    if (std::strcmp(one.name, "default") == 0) plan = one.plan;
  }
  const Claims pages = budget(world, plan, most_peeks);
  return world.engine->workspace_bytes() +
         static_cast<uint64_t>(pages.dynamics) * world.pools.dynamics.page_bytes() +
         static_cast<uint64_t>(pages.decoder) * world.pools.decoder.page_bytes() +
         (2 + static_cast<uint64_t>(most_peeks)) * row_bytes(world.config()) + sizeof(grt_session);
}

}  // namespace grt
