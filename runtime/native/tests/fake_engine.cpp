#include "fake_engine.hpp"

#include <chrono>

#include "engine/engine.hpp"
#include "engine/page_layout.hpp"
#include "support/digest.hpp"
#include "support/threads.hpp"

using fake::knobs;

namespace grt {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) { return digest(&value, sizeof value, hash); }

struct FakeWorkspace final : Workspace {
  Buffer<int32_t> tokens;
  Buffer<float> change;
  Buffer<Page*> new_dynamics, new_decoder;
  std::atomic<bool> is_used{false};  // two calls at once in one workspace are the API's fault
};

// Marks the workspace as in use.
class InUse {
 public:
  explicit InUse(FakeWorkspace& workspace) : workspace_(workspace) {
    if (workspace.is_used.exchange(true)) __builtin_trap();
  }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;
  ~InUse() { workspace_.is_used = false; }

 private:
  FakeWorkspace& workspace_;
};

void fill_page(const PageLayout& layout, uint64_t hash, float* page) {
  const auto stride = static_cast<size_t>(layout.head_stride()),
             width = static_cast<size_t>(layout.head_width);
  const size_t heads = static_cast<size_t>(layout.floats()) / stride;
  for (size_t i = 0; i < heads; i++) {
    for (size_t j = 0; j < stride; j++) {
      hash = hash * 6364136223846793005u + 1442695040888963407u;
      page[i * stride + j] = j < width ? static_cast<float>(hash >> 40) / 16777216.0f - 0.5f : 0.0f;
    }
  }
}

uint64_t hash_pages(const PageLayout& layout, Page* const* pages, int32_t count, uint64_t hash) {
  const auto bytes = static_cast<size_t>(layout.floats()) * sizeof(float);
  for (int32_t i = 0; i < count; i++) hash = digest(pages[i]->data, bytes, hash);
  return mix(hash, static_cast<uint64_t>(count));
}

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(const ModelConfig& config)
      : config_(config),
        dynamics_(PageLayout::of_dynamics(config)),
        decoder_(PageLayout::of_decoder(config)) {}

  Workspace* make_workspace(const Allocator& allocator, Error& error) const override {
    auto* workspace = make<FakeWorkspace>(allocator, error);
    if (workspace == nullptr ||
        (workspace->tokens.create(allocator, static_cast<size_t>(num_tokens()), error) &&
         workspace->change.create(allocator, static_cast<size_t>(config_.num_positions()), error) &&
         workspace->new_dynamics.create(allocator, static_cast<size_t>(config_.dynamics.transformer.window),
                                        error) &&
         workspace->new_decoder.create(allocator, static_cast<size_t>(config_.tokenizer.decoder.window),
                                       error))) {
      return workspace;
    }
    destroy(allocator, workspace);
    return nullptr;
  }

  bool prepare(const Plan& plan, Error& error) const override {
    knobs.num_prepared++;
    if (plan.order != GRT_ORDER_ADAPTIVE || !knobs.refuses_adaptive) return true;
    return error.fail(GRT_ERROR_UNSUPPORTED, "expected another order, found \"adaptive\"");
  }

  bool commits_ahead(const Plan&) const override { return knobs.commits_ahead; }

  bool prefill(Workspace& workspace, Executor&, Row& row, uint64_t seed, const uint8_t* pictures,
               size_t num_pictures, const int32_t* actions, const std::atomic<bool>*,
               Error& error) const override {
    auto& own = static_cast<FakeWorkspace&>(workspace);
    const InUse in_use(own);
    const size_t bytes = size_t{3} * static_cast<size_t>(config_.tokenizer.height * config_.tokenizer.width);
    int32_t num_dynamics = 0, num_decoder = 0;
    uint64_t hash = seed;
    for (size_t t = 0; t < num_pictures; t++) {
      if (t > 0) {
        hash = mix(hash, static_cast<uint64_t>(actions[t - 1]));
        add(row.pools().dynamics, dynamics_, own.new_dynamics.data(), num_dynamics,
            config_.dynamics.transformer.window - 1, hash);
      }
      hash = digest(pictures + t * bytes, bytes, hash);
      add(row.pools().decoder, decoder_, own.new_decoder.data(), num_decoder,
          config_.tokenizer.decoder.window - 1, hash);
    }
    if (knobs.status != GRT_OK) {
      for (int32_t i = 0; i < num_dynamics; i++)
        row.pools().dynamics.let_go(own.new_dynamics[static_cast<size_t>(i)]);
      for (int32_t i = 0; i < num_decoder; i++)
        row.pools().decoder.let_go(own.new_decoder[static_cast<size_t>(i)]);
      return fail(error);
    }
    row.clear();
    for (int32_t i = num_dynamics; i-- > 0;) row.push_dynamics(own.new_dynamics[static_cast<size_t>(i)]);
    for (int32_t i = num_decoder; i-- > 0;) row.push_decoder(own.new_decoder[static_cast<size_t>(i)]);
    row.seed = seed;
    row.frame_index = static_cast<int64_t>(num_pictures) - 1;
    row.action = num_pictures > 1 ? actions[num_pictures - 2] : kNullAction;
    row.pending = true;
    row.has_change = false;
    for (size_t n = 0; n < row.tokens.size(); n++) row.tokens[n] = token(hash, n);
    paint(row);
    return true;
  }

  bool frame(Workspace& workspace, Executor& executor, Row& row, int32_t action, const Plan& plan,
             FrameStats& stats, const std::atomic<bool>* cancelled, Error& error) const override {
    auto& own = static_cast<FakeWorkspace&>(workspace);
    const InUse in_use(own);
    knobs.num_frames++;
    Page* committed = row.pending ? make_commit(row, knobs.commits_ahead ? 0 : 1) : nullptr;
    uint64_t hash = mix(past_hash(row, committed), row.seed);
    hash = mix(hash, static_cast<uint64_t>(row.frame_index + 1));
    hash = mix(hash, static_cast<uint64_t>(action) * 8 + static_cast<uint64_t>(plan.order));
    hash = mix(hash, static_cast<uint64_t>(plan.passes));
    hash = digest(row.tokens.data(), row.tokens.size() * sizeof(int32_t), hash);
    const bool carries = plan.reuse == GRT_REUSE_FRAMES;
    Page* spatial = nullptr;
    if (carries) {
      if (row.spatial != nullptr) hash = hash_pages(dynamics_, &row.spatial, 1, hash);
      if (row.has_change) hash = digest(row.change.data(), row.change.size() * sizeof(float), hash);
      spatial = row.pools().dynamics.take();
      if (spatial == nullptr) __builtin_trap();
      fill_page(dynamics_, hash, spatial->data);
    }
    struct Work {
      FakeWorkspace* own;
      uint64_t hash;
      int32_t codebook_size;
    } work{&own, hash, config_.tokenizer.codebook_size};
    executor.run(
        num_tokens(),
        [](void* context, int32_t n) {
          const Work& w = *static_cast<const Work*>(context);
          w.own->tokens[static_cast<size_t>(n)] = static_cast<int32_t>(
              mix(w.hash, static_cast<uint64_t>(n)) % static_cast<uint64_t>(w.codebook_size));
        },
        &work);
    wait(cancelled);
    if ((cancelled != nullptr && *cancelled) || knobs.status != GRT_OK) {
      for (Page* page : {committed, spatial}) {
        if (page != nullptr) row.pools().dynamics.let_go(page);
      }
      if (knobs.status != GRT_OK) return fail(error);
      return error.fail(GRT_ERROR_CANCELLED, "the frame was cancelled");
    }
    if (committed != nullptr) row.push_dynamics(committed);
    row.set_spatial(spatial);
    row.has_change = carries;
    for (size_t i = 0; carries && i < row.change.size(); i++)
      row.change[i] = static_cast<float>(hash >> (i % 40) & 7);
    stats.passes = plan.order == GRT_ORDER_ADAPTIVE ? 1 : plan.passes;
    stats.tokens = stats.passes * num_tokens();
    stats.passes_ms = 1;
    show(row, own.tokens.data(), action);
    return true;
  }

  bool commit(Workspace& workspace, Executor&, Row& row, const std::atomic<bool>*,
              Error& error) const override {
    const InUse in_use(static_cast<FakeWorkspace&>(workspace));
    knobs.num_commits++;
    if (!row.pending) return true;
    Page* page = make_commit(row, 0);
    if (knobs.status != GRT_OK) {
      row.pools().dynamics.let_go(page);
      return fail(error);
    }
    row.push_dynamics(page);
    row.pending = false;
    return true;
  }

  bool force(Workspace& workspace, Executor&, Row& row, int32_t action, const int32_t* tokens,
             Error& error) const override {
    const InUse in_use(static_cast<FakeWorkspace&>(workspace));
    Page* committed = row.pending ? make_commit(row, 0) : nullptr;
    if (knobs.status != GRT_OK) {
      if (committed != nullptr) row.pools().dynamics.let_go(committed);
      return fail(error);
    }
    if (committed != nullptr) row.push_dynamics(committed);
    row.set_spatial(nullptr);
    row.has_change = false;
    show(row, tokens, action);
    return true;
  }

  bool probe(Workspace& workspace, Executor&, const Row& row, int32_t action, const int32_t* tokens,
             int32_t pass, double, float* logits, int32_t* candidates, Error& error) const override {
    const InUse in_use(static_cast<FakeWorkspace&>(workspace));
    if (row.pending) __builtin_trap();
    if (knobs.status != GRT_OK) return fail(error);
    uint64_t hash = mix(past_hash(row, nullptr), static_cast<uint64_t>(action * 4096 + pass));
    hash = digest(tokens, static_cast<size_t>(num_tokens()) * sizeof(int32_t), hash);
    const auto count = static_cast<size_t>(num_tokens()),
               codes = static_cast<size_t>(config_.tokenizer.codebook_size);
    for (size_t n = 0; n < count; n++) {
      if (candidates != nullptr) candidates[n] = token(hash, n);
      for (size_t v = 0; logits != nullptr && v < codes; v++) {
        logits[n * codes + v] = static_cast<float>(mix(hash, n * codes + v) & 1023);
      }
    }
    return true;
  }

  grt_instructions instructions() const override { return GRT_INSTRUCTIONS_SCALAR; }
  size_t weight_bytes() const override { return 1000; }
  size_t workspace_bytes() const override { return 100; }

 private:
  int32_t num_tokens() const { return config_.tokenizer.num_tokens(); }

  int32_t token(uint64_t hash, size_t n) const {
    return static_cast<int32_t>(mix(hash, n) % static_cast<uint64_t>(config_.tokenizer.codebook_size));
  }

  static bool fail(Error& error) {
    return error.fail(static_cast<grt_status>(knobs.status.load()), "the knob says so");
  }

  // Newest first, at most `most`.
  static void add(PagePool& pool, const PageLayout& layout, Page** pages, int32_t& count, int32_t most,
                  uint64_t hash) {
    Page* page = pool.take();
    if (page == nullptr) __builtin_trap();
    fill_page(layout, hash, page->data);
    if (most == 0) return pool.let_go(page);
    if (count == most) pool.let_go(pages[--count]);
    for (int32_t i = count; i > 0; i--) pages[i] = pages[i - 1];
    pages[0] = page;
    count++;
  }

  uint64_t past_hash(const Row& row, const Page* committed) const {
    uint64_t hash = 0;
    int32_t count = row.num_dynamics;
    if (committed != nullptr) {
      Page* first = const_cast<Page*>(committed);
      hash = hash_pages(dynamics_, &first, 1, 0);
      // The oldest leaves the window.
      if (count == config_.dynamics.transformer.window - 1) count--;
    } else if (count > 0) {
      hash = hash_pages(dynamics_, row.dynamics.data(), 1, 0);
      return hash_pages(dynamics_, row.dynamics.data() + 1, count - 1, hash);
    }
    return hash_pages(dynamics_, row.dynamics.data(), count, hash);
  }

  Page* make_commit(const Row& row, uint64_t salt) const {
    Page* page = row.pools().dynamics.take();
    if (page == nullptr) __builtin_trap();
    uint64_t hash = mix(past_hash(row, nullptr), salt);
    hash = mix(hash, static_cast<uint64_t>(row.action));
    hash = digest(row.tokens.data(), row.tokens.size() * sizeof(int32_t), hash);
    fill_page(dynamics_, hash, page->data);
    return page;
  }

  void show(Row& row, const int32_t* tokens, int32_t action) const {
    std::memcpy(row.tokens.data(), tokens, row.tokens.size() * sizeof(int32_t));
    Page* page = row.pools().decoder.take();
    if (page == nullptr) __builtin_trap();
    uint64_t hash = hash_pages(decoder_, row.decoder.data(), row.num_decoder, 3);
    hash = digest(row.tokens.data(), row.tokens.size() * sizeof(int32_t), hash);
    fill_page(decoder_, hash, page->data);
    row.push_decoder(page);
    row.frame_index++;
    row.action = action;
    row.pending = true;
    paint(row);
  }

  // The picture is of the tokens and of all pages that the decoder sees.
  void paint(Row& row) const {
    uint64_t hash = hash_pages(decoder_, row.decoder.data(), row.num_decoder, 5);
    hash = digest(row.tokens.data(), row.tokens.size() * sizeof(int32_t), hash);
    for (uint8_t& value : row.picture) {
      hash = hash * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<uint8_t>(hash >> 56);
    }
  }

  static void wait(const std::atomic<bool>* cancelled) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + std::chrono::microseconds(knobs.frame_us);
    while (Clock::now() < end) {
    }
    if (!knobs.is_closed) return;
    Mutex mutex;
    Condition condition;
    knobs.num_waiting++;
    Locked locked(mutex);
    while (knobs.is_closed && !(cancelled != nullptr && *cancelled)) condition.wait_ms(mutex, 1);
    knobs.num_waiting--;
  }

  ModelConfig config_;
  PageLayout dynamics_, decoder_;
};

}  // namespace

Engine* make_native_engine(const Bundle& bundle, bool, grt_instructions, int32_t, const Allocator& allocator,
                           Error& error) {
  return make<FakeEngine>(allocator, error, bundle.manifest.config);
}

}  // namespace grt
