#include "onnxruntime/ort_engine.hpp"

#include <algorithm>

#include "bundle/plan.hpp"
#include "onnxruntime/frame_loop.hpp"

namespace grt {

namespace {

// "pass.onnx", "pass.int8.onnx"
struct FileName {
  char text[96];
};

FileName file_name(const char* graph, bool int8) {
  FileName name;
  std::snprintf(name.text, sizeof name.text, "%.80s%s.onnx", graph, int8 ? ".int8" : "");
  return name;
}

}  // namespace

bool has_graphs(const Manifest& manifest, bool int8) {
  return manifest.find_file(file_name(kPartNames[0], int8).text) != nullptr;
}

OrtEngine::OrtEngine(const Allocator& allocator, const Bundle& bundle)
    : allocator_(allocator), config_(bundle.manifest.config) {}

OrtEngine::~OrtEngine() {
  for (Graph* graph : parts_) destroy(allocator_, graph);
  for (Graph* graph : frames_) destroy(allocator_, graph);
}

bool OrtEngine::create(const Files& files, Bundle& bundle, bool int8, const grt_world_params& params,
                       Error& error) {
  const Manifest& manifest = bundle.manifest;
  if (!has_graphs(manifest, int8)) {
    return error.fail(
        GRT_ERROR_BUNDLE,
        "the bundle %s: expected the graph %s, found none; write it with `genie-rt export BUNDLE --out "
        "NEW --onnx%s`",
        manifest.name, file_name(kPartNames[0], int8).text, int8 ? " --int8" : "");
  }
  if (!runtime_.open(params, allocator_, error)) return false;
  weights_ = bundle.take_weights();
  for (size_t i = 0; i < kNumParts; i++)
    if (!add_graph(files, bundle, static_cast<GraphKind>(i), kPartNames[i], int8, nullptr, parts_[i], error))
      return false;
  if (!frames_.create(allocator_, manifest.plans.size(), error)) return false;
  for (size_t i = 0; i < manifest.plans.size(); i++) {
    const NamedPlan& named = manifest.plans[i];
    char name[80];
    std::snprintf(name, sizeof name, "frame-%s", named.name);
    const bool has_frame = manifest.find_file(file_name(name, int8).text) != nullptr;
    if (!has_frame || named.plan.reuse != GRT_REUSE_NONE) continue;
    if (!add_graph(files, bundle, GraphKind::kFrame, name, int8, &named.plan, frames_[i], error))
      return false;
    sizes_.most_passes = std::max(sizes_.most_passes, named.plan.passes);
  }
  // What is broken is found now. What whole frames of a plan need is made ready with the plan.
  for (const GraphKind kind : {GraphKind::kEncode, GraphKind::kCommit, GraphKind::kPass, GraphKind::kDecode})
    if (!part(kind).load(runtime_, error)) return false;

  const PageLayout encoder(config_.tokenizer.encoder, config_.tokenizer.num_tokens());
  sizes_.config = config_;
  sizes_.dynamics = PageMap(PageLayout::of_dynamics(config_));
  sizes_.decoder = PageMap(PageLayout::of_decoder(config_));
  const auto encoder_floats = static_cast<size_t>(encoder.packed_floats());
  const size_t floats = std::max({sizes_.dynamics.floats(), sizes_.decoder.floats(), encoder_floats});
  const int32_t slots = config_.dynamics.slots(), merge = config_.dynamics.merge;
  const int32_t columns = config_.tokenizer.columns();
  if (!blank_.create(allocator_, floats, error) ||
      !members_.create(allocator_, static_cast<size_t>(config_.tokenizer.num_tokens()), error))
    return false;
  for (int32_t n = 0; n < config_.tokenizer.num_tokens(); n++) {
    const int32_t row = n / columns, column = n % columns;
    const int32_t position = row / merge * (columns / merge) + column / merge;
    const int32_t slot = row % merge * merge + column % merge;
    members_[static_cast<size_t>(position) * static_cast<size_t>(slots) + static_cast<size_t>(slot)] = n;
  }
  OrtWorkspace measured(allocator_);
  if (!measured.create(sizes_, error)) return false;
  workspace_bytes_ = measured.arena.bytes();
  return true;
}

bool OrtEngine::add_graph(const Files& files, const Bundle& bundle, GraphKind kind, const char* name,
                          bool int8, const Plan* plan, Graph*& graph, Error& error) {
  const FileName file = file_name(name, int8);
  const FileRecord* record = bundle.manifest.find_file(file.text);
  if (record == nullptr) {
    return error.fail(GRT_ERROR_BUNDLE, "the bundle %s: expected the graph %s, found none; export it again",
                      bundle.manifest.name, file.text);
  }
  graph = make<Graph>(allocator_, error, kind, allocator_);
  if (graph == nullptr || !graph->read(files, *record, bundle, weights_, plan, error)) return false;
  sizes_.most_inputs = std::max(sizes_.most_inputs, graph->signature().inputs.size());
  return true;
}

const Graph* OrtEngine::find_frame(const Plan& plan) const {
  for (size_t i = frames_.size(); i-- > 0;)
    if (frames_[i] != nullptr && frames_[i]->plan() == plan) return frames_[i];
  return nullptr;
}

bool OrtEngine::prepare(const Plan& plan, Error& error) const {
  if (plan.reuse != GRT_REUSE_NONE) return part(GraphKind::kPassAt).load(runtime_, error);
  const Graph* frame = find_frame(plan);
  return frame == nullptr || frame->load(runtime_, error);
}

Workspace* OrtEngine::make_workspace(const Allocator& allocator, Error& error) const {
  auto* workspace = make<OrtWorkspace>(allocator, error, allocator);
  if (workspace == nullptr || workspace->create(sizes_, error)) return workspace;
  destroy(allocator, workspace);
  return nullptr;
}

bool OrtEngine::prefill(Workspace& workspace, Executor&, Row& row, uint64_t seed, const uint8_t* pictures,
                        size_t num_pictures, const int32_t* actions, const std::atomic<bool>* cancelled,
                        Error& error) const {
  return OrtFrameLoop(*this, workspace, cancelled, error).prefill(row, seed, pictures, num_pictures, actions);
}

bool OrtEngine::frame(Workspace& workspace, Executor&, Row& row, int32_t action, const Plan& plan,
                      FrameStats& stats, const std::atomic<bool>* cancelled, Error& error) const {
  if (!prepare(plan, error)) return false;  // at once, but for a plan that nobody told
  return OrtFrameLoop(*this, workspace, cancelled, error).step(row, action, plan, stats);
}

bool OrtEngine::commit(Workspace& workspace, Executor&, Row& row, const std::atomic<bool>* cancelled,
                       Error& error) const {
  return OrtFrameLoop(*this, workspace, cancelled, error).commit(row);
}

bool OrtEngine::force(Workspace& workspace, Executor&, Row& row, int32_t action, const int32_t* tokens,
                      Error& error) const {
  return OrtFrameLoop(*this, workspace, nullptr, error).force(row, action, tokens);
}

bool OrtEngine::probe(Workspace& workspace, Executor&, const Row& row, int32_t action, const int32_t* tokens,
                      int32_t pass, double temperature, float* logits, int32_t* candidates,
                      Error& error) const {
  return OrtFrameLoop(*this, workspace, nullptr, error)
      .probe(row, action, tokens, pass, temperature, logits, candidates);
}

Engine* make_onnxruntime_engine(const Files& files, Bundle& bundle, bool int8, const grt_world_params& params,
                                const Allocator& allocator, Error& error) {
  auto* engine = make<OrtEngine>(allocator, error, allocator, bundle);
  if (engine == nullptr || engine->create(files, bundle, int8, params, error)) return engine;
  destroy(allocator, engine);
  return nullptr;
}

}  // namespace grt
