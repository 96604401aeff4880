#include "onnxruntime/frame_loop.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "engine/logarithm.hpp"
#include "engine/philox.hpp"
#include "engine/schedule.hpp"

namespace grt {

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

}  // namespace

// The pages of a prompt while it is computed.
class OrtFrameLoop::Prompt {
 public:
  Prompt(OrtFrameLoop& loop, Row& row) : loop_(loop), own_(loop.own_), row_(row) {}
  Prompt(const Prompt&) = delete;
  Prompt& operator=(const Prompt&) = delete;
  ~Prompt() {
    for (int32_t i = 0; i < num_dynamics_; i++) row_.pools().dynamics.let_go(own_.new_dynamics[i]);
    for (int32_t i = 0; i < num_decoder_; i++) row_.pools().decoder.let_go(own_.new_decoder[i]);
  }

  // The page of the picture before, whose tokens are still there; `action` led to it.
  bool commit(int32_t action) {
    const int32_t most = loop_.config().dynamics.transformer.window - 1;
    if (most == 0) return true;
    Page* page = loop_.take(row_.pools().dynamics);
    if (page == nullptr) return false;
    const int32_t num_past =
        loop_.gather(loop_.dynamics_map(), own_.new_dynamics, num_dynamics_, own_.past_copies, own_.own_past);
    const bool done = loop_.run_commit(own_.tokens, action, own_.own_past, num_past, *page);
    push(own_.new_dynamics, num_dynamics_, most, page, row_.pools().dynamics);
    return done;
  }

  bool show() {
    Page* page = loop_.take(row_.pools().decoder);
    if (page == nullptr) return false;
    const int32_t num_past =
        loop_.gather(loop_.decoder_map(), own_.new_decoder, num_decoder_, own_.decoder_copies, own_.own_past);
    const bool done = loop_.run_decoder(own_.tokens, own_.own_past, num_past, *page);
    push(own_.new_decoder, num_decoder_, loop_.config().tokenizer.decoder.window - 1, page,
         row_.pools().decoder);
    return done;
  }

  void finish(uint64_t seed, size_t num_pictures, int32_t action) {
    row_.clear();
    for (int32_t i = num_dynamics_; i-- > 0;) row_.push_dynamics(own_.new_dynamics[i]);
    for (int32_t i = num_decoder_; i-- > 0;) row_.push_decoder(own_.new_decoder[i]);
    num_dynamics_ = num_decoder_ = 0;
    row_.seed = seed;
    row_.frame_index = static_cast<int64_t>(num_pictures) - 1;
    row_.action = action;
    row_.pending = true;
    row_.has_change = false;
    loop_.copy_result(row_);
  }

 private:
  // Newest first, at most `most`; takes over the page.
  static void push(Page** pages, int32_t& count, int32_t most, Page* page, PagePool& pool) {
    if (most == 0) return pool.let_go(page);
    if (count == most) pool.let_go(pages[--count]);
    for (int32_t i = count; i > 0; i--) pages[i] = pages[i - 1];
    pages[0] = page;
    count++;
  }

  OrtFrameLoop& loop_;
  OrtWorkspace& own_;
  Row& row_;
  int32_t num_dynamics_ = 0, num_decoder_ = 0;
};

OrtFrameLoop::~OrtFrameLoop() {
  if (row_ == nullptr) return;
  for (Page* page : {committed_, spatial_})
    if (page != nullptr) row_->pools().dynamics.let_go(page);
  if (shown_ != nullptr) row_->pools().decoder.let_go(shown_);
}

bool OrtFrameLoop::step(Row& row, int32_t action, const Plan& plan, FrameStats& stats) {
  row_ = &row;
  // A row that was committed ahead has no use for a graph that begins with the commit.
  const Graph* graph = row.pending ? engine_.find_frame(plan) : nullptr;
  return graph != nullptr ? whole_frame(*graph, action, stats) : pass_by_pass(action, plan, stats);
}

bool OrtFrameLoop::force(Row& row, int32_t action, const int32_t* tokens) {
  row_ = &row;
  if (row.pending && !commit_alone(row)) return false;
  std::memcpy(own_.tokens, tokens, static_cast<size_t>(num_tokens()) * sizeof(int32_t));
  if (!show()) return false;
  finish(row, action, false);
  return true;
}

bool OrtFrameLoop::commit(Row& row) {
  row_ = &row;
  if (!row.pending) return true;
  if (!commit_alone(row)) return false;
  take_over_commit(row);
  return true;
}

bool OrtFrameLoop::probe(const Row& row, int32_t action, const int32_t* tokens, int32_t pass,
                         double temperature, float* logits, int32_t* candidates) {
  const int64_t wide_action = action;
  const auto narrow_temperature = static_cast<float>(temperature);
  widen(tokens, own_.wide_tokens);
  widen(row.tokens.data(), own_.wide_previous);
  draw_uniforms(row, pass, own_.u, nullptr);
  const int32_t num_past = past_of(row, nullptr, own_.past);
  Run run = new_run(GraphKind::kPass);
  run.in("tokens", own_.wide_tokens);
  run.in("previous", own_.wide_previous);
  run.in("action", &wide_action);
  run.in("u", own_.u);
  run.in("temperature", &narrow_temperature);
  run.past("", own_.past, num_past, config().dynamics.transformer.window - 1, engine_.blank_.data());
  run.out_tokens("candidates", own_.wide_candidates, num_tokens());
  if (logits != nullptr) run.out("logits", logits);
  if (!evaluate(run)) return false;
  for (int32_t n = 0; candidates != nullptr && n < num_tokens(); n++)
    candidates[n] = static_cast<int32_t>(own_.wide_candidates[n]);
  return true;
}

bool OrtFrameLoop::prefill(Row& row, uint64_t seed, const uint8_t* pictures, size_t num_pictures,
                           const int32_t* actions) {
  Prompt prompt(*this, row);
  const TokenizerConfig& tokenizer = config().tokenizer;
  const size_t picture_bytes =
      size_t{3} * static_cast<size_t>(tokenizer.height) * static_cast<size_t>(tokenizer.width);
  for (size_t t = 0; t < num_pictures; t++) {
    if (t > 0 && !prompt.commit(t == 1 ? kNullAction : actions[t - 2])) return false;
    if (!encode(pictures + t * picture_bytes, t) || !prompt.show()) return false;
  }
  prompt.finish(seed, num_pictures, num_pictures > 1 ? actions[num_pictures - 2] : kNullAction);
  return true;
}

bool OrtFrameLoop::is_cancelled() {
  if (cancelled_ == nullptr || !cancelled_->load(std::memory_order_relaxed)) return false;
  error_.fail(GRT_ERROR_CANCELLED, "the frame was cancelled; the session is as it was before it");
  return true;
}

Page* OrtFrameLoop::take(PagePool& pool) {
  Page* page = pool.take();
  if (page == nullptr) error_.fail(GRT_ERROR_OUT_OF_MEMORY, "expected a free page, found none");
  return page;
}

Run OrtFrameLoop::new_run(GraphKind kind) {
  return Run(engine_.runtime_, engine_.part(kind), config(), own_.inputs, error_);
}

bool OrtFrameLoop::evaluate(Run& run) {
  return !is_cancelled() && run.run(own_.around[1]) && !is_cancelled();
}

// Pages as graphs read them, newest first; how many there are.
int32_t OrtFrameLoop::gather(const PageMap& map, Page* const* pages, int32_t count, float* copies,
                             const float** past) const {
  for (int32_t i = 0; i < count; i++) {
    float* copy = map.is_direct() ? nullptr : copies + static_cast<size_t>(i) * map.floats();
    past[i] = map.read(*pages[i], copy);
  }
  return count;
}

// The pages that a row's next frame looks back at, `committed` in front unless it is null.
int32_t OrtFrameLoop::past_of(const Row& row, const Page* committed, const float** past) const {
  const PageMap& map = dynamics_map();
  const int32_t most = config().dynamics.transformer.window - 1;
  int32_t count = 0;
  const auto add = [&](const Page& page) {
    float* copy = map.is_direct() ? nullptr : own_.past_copies + static_cast<size_t>(count) * map.floats();
    past[count++] = map.read(page, copy);
  };
  if (committed != nullptr && most > 0) add(*committed);
  for (int32_t i = 0; i < row.num_dynamics && count < most; i++) add(*row.dynamics[static_cast<size_t>(i)]);
  return count;
}

void OrtFrameLoop::widen(const int32_t* tokens, int64_t* wide) const {
  for (int32_t n = 0; n < num_tokens(); n++) wide[n] = tokens[n];
}

void OrtFrameLoop::narrow_tokens(const int64_t* wide) {
  for (int32_t n = 0; n < num_tokens(); n++) own_.tokens[n] = static_cast<int32_t>(wide[n]);
}

void OrtFrameLoop::draw_uniforms(const Row& row, int32_t pass, float* u, float* gumbel_noise) const {
  for (int32_t n = 0; n < num_tokens(); n++) {
    const Words words = philox(row.seed, static_cast<uint32_t>(n), static_cast<uint32_t>(pass),
                               frame_counter(row), kTokenStream);
    u[n] = uniform(words.word[0]);
    if (gumbel_noise != nullptr) gumbel_noise[n] = static_cast<float>(gumbel(uniform(words.word[1])));
  }
}

// The commit of a pending row, all passes and the picture, in one graph.
bool OrtFrameLoop::whole_frame(const Graph& graph, int32_t action, FrameStats& stats) {
  const auto start = Clock::now();
  Row& row = *row_;
  const Plan& plan = graph.plan();
  const auto count = static_cast<size_t>(num_tokens());
  const int32_t most = config().dynamics.transformer.window - 1;
  const int32_t most_decoder = config().tokenizer.decoder.window - 1;
  if (most > 0 && (committed_ = take(row.pools().dynamics)) == nullptr) return false;
  if ((shown_ = take(row.pools().decoder)) == nullptr) return false;

  const bool is_ranked = plan.order == GRT_ORDER_MASKGIT || plan.order == GRT_ORDER_ADAPTIVE;
  for (int32_t pass = 0; pass < plan.passes; pass++) {
    const size_t at = static_cast<size_t>(pass) * count;
    draw_uniforms(row, pass, own_.u + at, is_ranked ? own_.gumbel + at : nullptr);
  }
  if (plan.order == GRT_ORDER_RANDOM) {
    random_order(row.seed, frame_counter(row), num_tokens(), own_.order, own_.sort_keys);
    widen(own_.order, own_.wide_order);
  }
  const int64_t last_action = row.action, wide_action = action;
  int64_t passes = 0;
  widen(row.tokens.data(), own_.wide_previous);
  const int32_t num_past = past_of(row, nullptr, own_.past);
  const int32_t num_shown =
      gather(decoder_map(), row.decoder.data(), row.num_decoder, own_.decoder_copies, own_.own_past);
  {
    Run run(engine_.runtime_, graph, config(), own_.inputs, error_);
    run.in("last_tokens", own_.wide_previous);
    run.in("last_action", &last_action);
    run.in("action", &wide_action);
    run.in("u", own_.u);
    run.in("gumbel", own_.gumbel);
    run.in("order", own_.wide_order);
    run.past("", own_.past, num_past, most, engine_.blank_.data());
    run.past("picture_", own_.own_past, num_shown, most_decoder, engine_.blank_.data());
    run.out_tokens("tokens", own_.wide_tokens, num_tokens());
    run.out("passes", &passes);
    run.out("rgb", own_.picture);
    if (committed_ != nullptr) run.out("page", dynamics_map().target(*committed_, own_.page_copy));
    run.out("picture_page", decoder_map().target(*shown_, own_.decoder_copy));
    if (!evaluate(run)) return false;
  }
  if (passes < 1 || passes > plan.passes) {
    return error_.fail(
        GRT_ERROR_DEVICE,
        "the graph %s: expected 1 to %d passes, found %lld; export the bundle again with this version",
        graph.name(), plan.passes, static_cast<long long>(passes));
  }
  if (committed_ != nullptr) dynamics_map().written(*committed_, own_.page_copy);
  decoder_map().written(*shown_, own_.decoder_copy);
  narrow_tokens(own_.wide_tokens);
  finish(row, action, false);
  stats.passes = static_cast<int32_t>(passes);
  stats.tokens = stats.passes * num_tokens();
  stats.commit_ms = stats.decode_ms = 0;  // in one with the passes
  stats.passes_ms = milliseconds(start);
  return true;
}

bool OrtFrameLoop::pass_by_pass(int32_t action, const Plan& plan, FrameStats& stats) {
  Row& row = *row_;
  stats.commit_ms = 0;
  if (row.pending) {
    const auto start = Clock::now();
    if (!commit_alone(row)) return false;
    stats.commit_ms = milliseconds(start);
  }
  const auto start = Clock::now();
  Passes passes{.plan = plan, .action = action};
  if (!decide(passes, stats)) return false;
  stats.passes_ms = milliseconds(start);
  const auto decoding = Clock::now();
  if (!show()) return false;
  stats.decode_ms = milliseconds(decoding);
  const bool carries = plan.reuse == GRT_REUSE_FRAMES;
  if (carries) spread_change(row);
  finish(row, action, carries);
  return true;
}

// The page of the row's last frame, where anybody will look back at it.
bool OrtFrameLoop::commit_alone(const Row& row) {
  if (config().dynamics.transformer.window == 1) return true;
  if ((committed_ = take(row.pools().dynamics)) == nullptr) return false;
  const int32_t num_past = past_of(row, nullptr, own_.past);
  return run_commit(row.tokens.data(), row.action, own_.past, num_past, *committed_);
}

bool OrtFrameLoop::run_commit(const int32_t* tokens, int32_t action, const float* const* past,
                              int32_t num_past, Page& page) {
  const int64_t wide_action = action;
  widen(tokens, own_.wide_tokens);
  Run run = new_run(GraphKind::kCommit);
  run.in("tokens", own_.wide_tokens);
  run.in("action", &wide_action);
  run.past("", past, num_past, config().dynamics.transformer.window - 1, engine_.blank_.data());
  run.out("page", dynamics_map().target(page, own_.page_copy));
  if (!evaluate(run)) return false;
  dynamics_map().written(page, own_.page_copy);
  return true;
}

bool OrtFrameLoop::run_decoder(const int32_t* tokens, const float* const* past, int32_t num_past,
                               Page& page) {
  widen(tokens, own_.wide_tokens);
  Run run = new_run(GraphKind::kDecode);
  run.in("tokens", own_.wide_tokens);
  run.past("", past, num_past, config().tokenizer.decoder.window - 1, engine_.blank_.data());
  run.out("rgb", own_.picture);
  run.out("page", decoder_map().target(page, own_.decoder_copy));
  if (!evaluate(run)) return false;
  decoder_map().written(page, own_.decoder_copy);
  return true;
}

// Picture `t` of a prompt to own_.tokens; the encoder's pages take turns in the workspace.
bool OrtFrameLoop::encode(const uint8_t* picture, size_t t) {
  const TransformerConfig& encoder = config().tokenizer.encoder;
  const auto window = static_cast<size_t>(encoder.window);
  const auto floats = static_cast<size_t>(PageLayout(encoder, num_tokens()).packed_floats());
  const size_t num_past = std::min(t, window - 1);
  const auto page = [&](size_t frame) { return own_.encoder_pages + frame % window * floats; };
  for (size_t age = 1; age <= num_past; age++) own_.own_past[age - 1] = page(t - age);
  Run run = new_run(GraphKind::kEncode);
  run.in("frame", picture);
  run.past("", own_.own_past, static_cast<int32_t>(num_past), encoder.window - 1, engine_.blank_.data());
  run.out_tokens("tokens", own_.wide_tokens, num_tokens());
  run.out("page", page(t));
  if (!evaluate(run)) return false;
  narrow_tokens(own_.wide_tokens);
  return true;
}

// Decodes own_.tokens after the row's frames.
bool OrtFrameLoop::show() {
  if ((shown_ = take(row_->pools().decoder)) == nullptr) return false;
  const int32_t num_past =
      gather(decoder_map(), row_->decoder.data(), row_->num_decoder, own_.decoder_copies, own_.own_past);
  return run_decoder(own_.tokens, own_.own_past, num_past, *shown_);
}

void OrtFrameLoop::take_over_commit(Row& row) {
  if (committed_ != nullptr) row.push_dynamics(committed_);
  committed_ = nullptr;
  row.pending = false;
}

void OrtFrameLoop::copy_result(Row& row) const {
  std::memcpy(row.tokens.data(), own_.tokens, static_cast<size_t>(num_tokens()) * sizeof(int32_t));
  std::memcpy(row.picture.data(), own_.picture, row.picture.size());
}

// Makes what was computed the row's last frame.
void OrtFrameLoop::finish(Row& row, int32_t action, bool carries) {
  if (row.pending) take_over_commit(row);
  row.push_decoder(shown_);
  shown_ = nullptr;
  row.set_spatial(spatial_);
  spatial_ = nullptr;
  row.has_change = carries;
  if (carries) std::memcpy(row.change.data(), own_.change, row.change.size() * sizeof(float));
  copy_result(row);
  row.frame_index++;
  row.action = action;
  row.pending = true;
}

}  // namespace grt
