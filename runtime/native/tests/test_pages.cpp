// Claims on pages, and rows that share them: a step must never want for a page.

#include "api_fixture.hpp"
#include "engine/page_layout.hpp"
#include "engine/row.hpp"

namespace grt::test {
namespace {

void test_claims() {
  Hooks hooks;
  {
    const Allocator allocator(hooks.hooks);
    PagePool pool;
    Error error;
    pool.create(allocator, 100);
    GRT_CHECK_EQ(pool.page_bytes(), 400u);
    GRT_CHECK(pool.take() == nullptr);
    int32_t a = 0, b = 0;
    GRT_CHECK(pool.claim(a, 3, error));
    GRT_CHECK(pool.claim(b, 2, error));
    GRT_CHECK_EQ(pool.num_allocated(), 5);
    GRT_CHECK_EQ(hooks.live(), 5);
    // Lowering and raising within what is there allocates nothing.
    pool.lower(a, 1);
    GRT_CHECK(pool.claim(b, 4, error));
    GRT_CHECK_EQ(pool.num_allocated(), 5);
    Page* page = pool.take();
    GRT_CHECK(page != nullptr && page->data != nullptr);
    GRT_CHECK_EQ(reinterpret_cast<uintptr_t>(page->data) % 64, 0u);
    GRT_CHECK_EQ(pool.num_owned(&page, 1), 1);
    pool.hold(page);
    GRT_CHECK_EQ(pool.num_owned(&page, 1), 0);
    pool.let_go(page);
    GRT_CHECK_EQ(pool.num_free(), 4);
    // A page that becomes free is claimed at once by who let go of it.
    pool.let_go(page, &a);
    GRT_CHECK_EQ(a, 2);
    GRT_CHECK_EQ(pool.num_free(), 5);
    // Trimming leaves what is claimed or reserved.
    int32_t reserved = 0;
    GRT_CHECK(pool.reserve(reserved, 9, error));
    GRT_CHECK_EQ(pool.num_allocated(), 9);
    pool.trim();
    GRT_CHECK_EQ(pool.num_allocated(), 9);
    pool.unreserve(reserved);
    GRT_CHECK_EQ(reserved, 0);
    pool.trim();
    GRT_CHECK_EQ(pool.num_allocated(), 6);
    // No memory: nothing changes.
    hooks.restart();
    hooks.fail_at = 2;
    GRT_CHECK(!pool.claim(a, 8, error));
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_OUT_OF_MEMORY));
    GRT_CHECK_EQ(a, 2);
    GRT_CHECK_EQ(pool.num_allocated(), 6);
    hooks.restart();
    GRT_CHECK(!pool.reserve(reserved, 10, error));
    GRT_CHECK_EQ(reserved, 0);
    GRT_CHECK_EQ(pool.num_allocated(), 6);
    pool.lower(a, 0);
    pool.lower(b, 0);
    pool.trim();
    GRT_CHECK_EQ(pool.num_allocated(), 0);
  }
  GRT_CHECK_EQ(hooks.live(), 0);
  GRT_CHECK_EQ(hooks.num_wrong(), 0);
}

void test_layout() {
  ModelConfig config = tiny::config();
  const PageLayout dynamics = PageLayout::of_dynamics(config), decoder = PageLayout::of_decoder(config);
  GRT_CHECK_EQ(dynamics.head_stride(), 16);
  GRT_CHECK_EQ(dynamics.floats(), 1u * 2 * 12 * 2 * 16);
  GRT_CHECK_EQ(dynamics.packed_floats(), 1u * 2 * 12 * 2 * 8);
  GRT_CHECK_EQ(decoder.floats(), 2u * 2 * 12 * 2 * 16);
  GRT_CHECK_EQ(decoder.packed_floats(), 2u * 2 * 12 * 2 * 4);
  GRT_CHECK_EQ(decoder.layer_stride() * 2, decoder.floats());
  config.dynamics.transformer.head_width = 17;
  GRT_CHECK_EQ(PageLayout::of_dynamics(config).head_stride(), 32);
  // The largest model that a config may spell is refused, not wrapped around.
  config.dynamics.transformer = {512, 65536, 1024, 1024, 262144, 4096};
  config.tokenizer.height = config.tokenizer.width = 8192;
  config.tokenizer.patch = 1;
  Pools pools;
  Error error;
  const bool fits = sizeof(size_t) > 4;
  GRT_CHECK_EQ(pools.create(config, Allocator(), error), fits);
}

// Takes a page and fills it with a number.
Page* filled(PagePool& pool, float value) {
  Page* page = pool.take();
  if (page != nullptr) page->data[0] = value;
  return page;
}

void test_rows() {
  Hooks hooks;
  {
    const ModelConfig config = tiny::config();  // windows of 4 and 3 frames
    Pools pools;
    Error error;
    Row a, b;
    int32_t of_dynamics = 0, of_decoder = 0;
    GRT_CHECK(pools.create(config, Allocator(hooks.hooks), error));
    GRT_CHECK(a.create(config, pools, Allocator(hooks.hooks), error));
    GRT_CHECK(b.create(config, pools, Allocator(hooks.hooks), error));
    GRT_CHECK_EQ(a.tokens.size(), 12u);
    GRT_CHECK_EQ(a.picture.size(), kFrameBytes);
    GRT_CHECK_EQ(a.dynamics.size(), 3u);
    GRT_CHECK_EQ(a.decoder.size(), 2u);
    GRT_CHECK(pools.dynamics.claim(of_dynamics, 8, error) && pools.decoder.claim(of_decoder, 8, error));
    const int64_t calls = hooks.num_calls();
    for (int i = 0; i < 5; i++) {
      a.push_dynamics(filled(pools.dynamics, static_cast<float>(i)));
      a.push_decoder(filled(pools.decoder, static_cast<float>(i)));
    }
    GRT_CHECK_EQ(a.num_dynamics, 3);
    GRT_CHECK_EQ(a.num_decoder, 2);
    GRT_CHECK(a.dynamics[0]->data[0] == 4 && a.dynamics[1]->data[0] == 3 && a.dynamics[2]->data[0] == 2);
    GRT_CHECK(a.decoder[0]->data[0] == 4 && a.decoder[1]->data[0] == 3);
    GRT_CHECK_EQ(pools.dynamics.num_free(), 5);
    a.set_spatial(filled(pools.dynamics, 9));
    a.frame_index = 4;
    a.seed = 77;
    a.tokens[3] = 5;
    a.change[2] = 0.5f;
    a.picture[10] = 200;
    a.pending = a.has_change = true;
    a.action = 2;
    a.shown_action = 1;
    b.assign(a);
    b.assign(a);  // over its own pages
    b.assign(b);
    GRT_CHECK(b.dynamics[2] == a.dynamics[2] && b.spatial == a.spatial && b.tokens[3] == 5 &&
              b.change[2] == 0.5f && b.picture[10] == 200 && b.seed == 77 && b.frame_index == 4 &&
              b.pending && b.has_change && b.action == 2 && b.shown_action == 1);
    GRT_CHECK_EQ(pools.dynamics.num_free(), 4);
    GRT_CHECK_EQ(a.num_owned_dynamics() + a.num_owned_decoder() + a.num_owned_spatial(), 0);
    b.push_dynamics(filled(pools.dynamics, 5));
    GRT_CHECK_EQ(a.dynamics[0]->data[0], 4);  // the other row is where it was
    GRT_CHECK_EQ(a.num_owned_dynamics(), 1);  // the oldest
    GRT_CHECK_EQ(b.num_owned_dynamics(), 1);  // the newest
    a.picture[10] = 100;
    b.assign_without_picture(a);
    GRT_CHECK_EQ(b.picture[10], 200);
    GRT_CHECK_EQ(b.dynamics[0]->data[0], 4);
    a.swap(b);
    GRT_CHECK_EQ(a.picture[10], 200);
    Claims claims{of_dynamics, of_decoder};
    a.clear(&claims);  // shared: nothing becomes free
    GRT_CHECK(claims.dynamics == 8 && claims.decoder == 8);
    GRT_CHECK_EQ(a.frame_index, -1);
    pools.dynamics.lower(of_dynamics, 4);
    claims.dynamics = 4;
    b.clear(&claims);
    GRT_CHECK(claims.dynamics == 8 && claims.decoder == 10);
    GRT_CHECK_EQ(pools.dynamics.num_free(), 8);
    GRT_CHECK_EQ(hooks.num_calls(), calls);
    int32_t spare = 0;
    GRT_CHECK(pools.dynamics.claim(spare, 0, error));
  }
  GRT_CHECK_EQ(hooks.live(), 0);
}

void test_rows_without_a_window() {
  ModelConfig config = tiny::config();
  config.dynamics.transformer.window = config.tokenizer.decoder.window = 1;
  Pools pools;
  Error error;
  Row row, other;
  int32_t claim = 0;
  GRT_CHECK(pools.create(config, Allocator(), error) && row.create(config, pools, Allocator(), error));
  GRT_CHECK(other.create(config, pools, Allocator(), error));
  GRT_CHECK(pools.dynamics.claim(claim, 1, error));
  for (int i = 0; i < 3; i++) row.push_dynamics(pools.dynamics.take());
  GRT_CHECK_EQ(row.num_dynamics, 0);
  GRT_CHECK_EQ(pools.dynamics.num_free(), 1);
  other.assign(row);
}

// Sessions, forks and snapshots as the API makes them, at random, counted by hand: B pages are claimed by a
// session or held by it alone, whatever happens. The pool then never runs dry, and steps never allocate.
void test_budget() {
  const ModelConfig config = tiny::config();
  constexpr int32_t kBudget = 4;
  constexpr size_t kRows = 5;
  Hooks hooks;
  {
    Pools pools;
    Error error;
    GRT_CHECK(pools.create(config, Allocator(hooks.hooks), error));
    Row rows[kRows], snapshots[4];
    int32_t claims[kRows] = {};
    for (Row& row : rows) GRT_CHECK(row.create(config, pools, Allocator(), error));
    for (Row& row : snapshots) GRT_CHECK(row.create(config, pools, Allocator(), error));
    for (int32_t& claim : claims) GRT_CHECK(pools.dynamics.claim(claim, kBudget, error));
    uint32_t random = 1;
    const auto draw = [&](uint32_t below) {
      return (random = random * 1664525u + 1013904223u) / 65536u % below;
    };
    for (int i = 0; i < 20000; i++) {
      const size_t r = draw(kRows), s = draw(4);
      switch (draw(8)) {
        case 0:  // a snapshot
          snapshots[s].clear();
          GRT_CHECK(pools.dynamics.claim(claims[r], kBudget, error));
          snapshots[s].assign(rows[r]);
          break;
        case 1: {  // restored: no claim grows but by what the row gives back
          Claims claim{claims[r], 0};
          rows[r].clear(&claim);
          claims[r] = claim.dynamics;
          GRT_CHECK(claims[r] >= kBudget);
          rows[r].assign(snapshots[s]);
          break;
        }
        default: {
          const int64_t calls = hooks.num_calls();
          Page* page = pools.dynamics.take();
          if (!GRT_CHECK(page != nullptr)) return;
          rows[r].push_dynamics(page);
          pools.dynamics.lower(claims[r], kBudget - rows[r].num_owned_dynamics());
          GRT_CHECK_EQ(hooks.num_calls(), calls);
        }
      }
      if (i % 100 == 0) pools.dynamics.trim();
    }
    // Nine windows of 3 frames and a page in hand for each session are all that there can be.
    GRT_CHECK(pools.dynamics.num_allocated() <= 9 * 3 + 5 * 4);
  }
  GRT_CHECK_EQ(hooks.live(), 0);
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  test_claims();
  test_layout();
  test_rows();
  test_rows_without_a_window();
  test_budget();
  return failures();
}
