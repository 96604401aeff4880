// Plays a row with graphs: one graph for a whole frame where the plan has one, else pass by pass.
// docs/graphs.md, and docs/model.md, sections 5 to 9.
#pragma once

#include "onnxruntime/ort_engine.hpp"

namespace grt {

// One call of the engine. Pages and tokens are taken over by the row only once all of it is done.
class OrtFrameLoop {
 public:
  OrtFrameLoop(const OrtEngine& engine, Workspace& workspace, const std::atomic<bool>* cancelled,
               Error& error)
      : engine_(engine), own_(static_cast<OrtWorkspace&>(workspace)), cancelled_(cancelled), error_(error) {}
  OrtFrameLoop(const OrtFrameLoop&) = delete;
  OrtFrameLoop& operator=(const OrtFrameLoop&) = delete;
  ~OrtFrameLoop();

  [[nodiscard]] bool step(Row& row, int32_t action, const Plan& plan, FrameStats& stats);
  [[nodiscard]] bool force(Row& row, int32_t action, const int32_t* tokens);
  [[nodiscard]] bool commit(Row& row);
  [[nodiscard]] bool probe(const Row& row, int32_t action, const int32_t* tokens, int32_t pass,
                           double temperature, float* logits, int32_t* candidates);
  [[nodiscard]] bool prefill(Row& row, uint64_t seed, const uint8_t* pictures, size_t num_pictures,
                             const int32_t* actions);

 private:
  class Prompt;

  // The passes of one frame, as far as they are.
  struct Passes {
    const Plan& plan;
    int32_t action;
    int32_t num_past = 0;           // pages in own_.past
    bool is_static = false;         // the order is known before the frame is
    bool by_position = false;       // whole positions are decided
    bool recalls = false;           // the first pass takes up the row's spatial keys and values
    int32_t units = 0;              // that the schedule counts
    int32_t passes = 0;             // that the frame takes
    const float* around = nullptr;  // spatial keys and values, as last computed
  };

  const ModelConfig& config() const { return engine_.config_; }
  const PageMap& dynamics_map() const { return engine_.sizes_.dynamics; }
  const PageMap& decoder_map() const { return engine_.sizes_.decoder; }
  int32_t num_tokens() const { return config().tokenizer.num_tokens(); }
  int32_t slots() const { return config().dynamics.slots(); }
  static uint32_t frame_counter(const Row& row) { return static_cast<uint32_t>(row.frame_index + 1); }

  bool is_cancelled();
  Page* take(PagePool& pool);
  Run new_run(GraphKind kind);
  // Evaluates a graph, unless the frame was cancelled before or meanwhile.
  bool evaluate(Run& run);
  int32_t gather(const PageMap& map, Page* const* pages, int32_t count, float* copies,
                 const float** past) const;
  int32_t past_of(const Row& row, const Page* committed, const float** past) const;
  void widen(const int32_t* tokens, int64_t* wide) const;
  void narrow_tokens(const int64_t* wide);
  void draw_uniforms(const Row& row, int32_t pass, float* u, float* gumbel_noise) const;

  bool whole_frame(const Graph& graph, int32_t action, FrameStats& stats);
  bool pass_by_pass(int32_t action, const Plan& plan, FrameStats& stats);
  bool decide(Passes& passes, FrameStats& stats);
  bool run_full_pass(const Passes& passes, int32_t pass);
  bool run_pass_at(Passes& passes, int32_t pass, const int32_t* index, int32_t count);
  void make_order(const Row& row, const Plan& plan, int32_t units, bool by_position);
  int32_t places_of(int32_t begin, int32_t end, bool by_position);
  int32_t places_at(const int32_t* positions, int32_t count);
  int32_t fresh_positions(const Row& row, const Plan& plan);
  void spread_change(const Row& row);

  bool commit_alone(const Row& row);
  bool run_commit(const int32_t* tokens, int32_t action, const float* const* past, int32_t num_past,
                  Page& page);
  bool run_decoder(const int32_t* tokens, const float* const* past, int32_t num_past, Page& page);
  bool encode(const uint8_t* picture, size_t t);
  bool show();
  void take_over_commit(Row& row);
  void copy_result(Row& row) const;
  void finish(Row& row, int32_t action, bool carries);

  const OrtEngine& engine_;
  OrtWorkspace& own_;
  const std::atomic<bool>* cancelled_;
  Error& error_;
  Row* row_ = nullptr;  // who gets the pages below; they are let go of if it does not come to that
  Page *committed_ = nullptr, *spatial_ = nullptr, *shown_ = nullptr;
};

}  // namespace grt
