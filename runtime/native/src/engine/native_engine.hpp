// The native engine: the frame loop over the kernels. docs/model.md, sections 5 to 9.
#pragma once

#include "engine/native_workspace.hpp"

namespace grt {

class NativeEngine final : public Engine {
 public:
  NativeEngine(const Allocator& allocator, const ModelConfig& config, grt_instructions instructions,
               bool int8, int32_t width);

  [[nodiscard]] bool create(const Bundle& bundle, Error& error);

  Workspace* make_workspace(const Allocator& allocator, Error& error) const override;
  bool prefill(Workspace& workspace, Executor& executor, Row& row, uint64_t seed, const uint8_t* pictures,
               size_t num_pictures, const int32_t* actions, const std::atomic<bool>* cancelled,
               Error& error) const override;
  bool frame(Workspace& workspace, Executor& executor, Row& row, int32_t action, const Plan& plan,
             FrameStats& stats, const std::atomic<bool>* cancelled, Error& error) const override;
  bool commit(Workspace& workspace, Executor& executor, Row& row, const std::atomic<bool>* cancelled,
              Error& error) const override;
  bool force(Workspace& workspace, Executor& executor, Row& row, int32_t action, const int32_t* tokens,
             Error& error) const override;
  bool probe(Workspace& workspace, Executor& executor, const Row& row, int32_t action, const int32_t* tokens,
             int32_t pass, double temperature, float* logits, int32_t* candidates,
             Error& error) const override;
  grt_instructions instructions() const override { return instructions_; }
  size_t weight_bytes() const override { return model_.arena.bytes(); }
  size_t workspace_bytes() const override { return workspace_bytes_; }

 private:
  friend class FrameLoop;
  friend class PromptLoop;

  const ModelConfig config_;
  const grt_instructions instructions_;
  const bool int8_;
  const int32_t width_;
  const Kernels& kernels_;
  PackedModel model_;
  size_t workspace_bytes_ = 0;
};

}  // namespace grt
