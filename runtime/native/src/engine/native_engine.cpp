#include "engine/native_engine.hpp"

#include "engine/frame_loop.hpp"
#include "engine/prompt_loop.hpp"

namespace grt {

NativeEngine::NativeEngine(const Allocator& allocator, const ModelConfig& config,
                           grt_instructions instructions, bool int8, int32_t width)
    : config_(config),
      instructions_(instructions),
      int8_(int8),
      width_(width),
      kernels_(*kernels_of(instructions, int8)),
      model_(allocator) {}

bool NativeEngine::create(const Bundle& bundle, Error& error) {
  const Allocator plain;  // scratch memory of packing, gone before this returns
  if (!pack(bundle, int8_, kernels_, plain, model_, error)) return false;
  NativeWorkspace measured(plain);
  if (!measured.create(model_, width_, error)) return false;
  workspace_bytes_ = measured.arena.bytes();
  return true;
}

Workspace* NativeEngine::make_workspace(const Allocator& allocator, Error& error) const {
  auto* workspace = make<NativeWorkspace>(allocator, error, allocator);
  if (workspace == nullptr || workspace->create(model_, width_, error)) return workspace;
  destroy(allocator, workspace);
  return nullptr;
}

bool NativeEngine::prefill(Workspace& workspace, Executor& executor, Row& row, uint64_t seed,
                           const uint8_t* pictures, size_t num_pictures, const int32_t* actions,
                           const std::atomic<bool>* cancelled, Error& error) const {
  FrameLoop loop(*this, workspace, executor, cancelled, error);
  return PromptLoop(loop, row).run(seed, pictures, num_pictures, actions);
}

bool NativeEngine::frame(Workspace& workspace, Executor& executor, Row& row, int32_t action, const Plan& plan,
                         FrameStats& stats, const std::atomic<bool>* cancelled, Error& error) const {
  return FrameLoop(*this, workspace, executor, cancelled, error).step(row, action, plan, stats);
}

bool NativeEngine::commit(Workspace& workspace, Executor& executor, Row& row,
                          const std::atomic<bool>* cancelled, Error& error) const {
  return FrameLoop(*this, workspace, executor, cancelled, error).commit(row);
}

bool NativeEngine::force(Workspace& workspace, Executor& executor, Row& row, int32_t action,
                         const int32_t* tokens, Error& error) const {
  return FrameLoop(*this, workspace, executor, nullptr, error).force(row, action, tokens);
}

bool NativeEngine::probe(Workspace& workspace, Executor& executor, const Row& row, int32_t action,
                         const int32_t* tokens, int32_t pass, double temperature, float* logits,
                         int32_t* candidates, Error& error) const {
  return FrameLoop(*this, workspace, executor, nullptr, error)
      .probe(row, action, tokens, pass, temperature, logits, candidates);
}

Engine* make_native_engine(const Bundle& bundle, bool int8, grt_instructions instructions, int32_t width,
                           const Allocator& allocator, Error& error) {
  if (instructions == GRT_INSTRUCTIONS_AUTO) instructions = best_instructions();
  if (!has_instructions(instructions)) {
    error.fail(GRT_ERROR_UNSUPPORTED,
               "instructions: expected a set that this processor and build have, found %d; leave it 0 for "
               "the best one",
               static_cast<int>(instructions));
    return nullptr;
  }
  auto* engine =
      make<NativeEngine>(allocator, error, allocator, bundle.manifest.config, instructions, int8, width);
  if (engine == nullptr || engine->create(bundle, error)) return engine;
  destroy(allocator, engine);
  return nullptr;
}

}  // namespace grt
