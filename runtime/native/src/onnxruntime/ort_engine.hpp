// The engine of ONNX Runtime: which graphs there are. `frame_loop.hpp` plays them.
#pragma once

#include "onnxruntime/engine.hpp"
#include "onnxruntime/workspace.hpp"

namespace grt {

class OrtEngine final : public Engine {
 public:
  OrtEngine(const Allocator& allocator, const Bundle& bundle);
  ~OrtEngine() override;

  [[nodiscard]] bool create(const Files& files, Bundle& bundle, bool int8, const grt_world_params& params,
                            Error& error);

  Workspace* make_workspace(const Allocator& allocator, Error& error) const override;
  bool prepare(const Plan& plan, Error& error) const override;
  bool commits_ahead(const Plan& plan) const override { return find_frame(plan) == nullptr; }
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
  size_t weight_bytes() const override { return weights_.size(); }  // as stored; ONNX Runtime keeps copies
  size_t workspace_bytes() const override { return workspace_bytes_; }

 private:
  friend class OrtFrameLoop;

  bool add_graph(const Files& files, const Bundle& bundle, GraphKind kind, const char* name, bool int8,
                 const Plan* plan, Graph*& graph, Error& error);
  // The graph for whole frames of a plan; null if there is none.
  const Graph* find_frame(const Plan& plan) const;
  // The token of a position's slot.
  int32_t token_at(int32_t position, int32_t slot) const {
    return members_[static_cast<size_t>(position) * static_cast<size_t>(config_.dynamics.slots()) +
                    static_cast<size_t>(slot)];
  }
  const Graph& part(GraphKind kind) const { return *parts_[static_cast<size_t>(kind)]; }

  const Allocator allocator_;
  const ModelConfig config_;
  OrtRuntime runtime_;
  Buffer<uint8_t> weights_;
  Graph* parts_[kNumParts] = {};
  Buffer<Graph*> frames_;
  Buffer<int32_t> members_;  // tokens of each position, [P, S]
  Buffer<float> blank_;      // a page of zeros, for ages that are not there yet
  WorkspaceSizes sizes_;
  size_t workspace_bytes_ = 0;
};

}  // namespace grt
