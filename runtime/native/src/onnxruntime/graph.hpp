// One graph of a bundle: checked when the world is loaded, made ready to run when it is needed.
#pragma once

#include <atomic>

#include "onnxruntime/check.hpp"
#include "onnxruntime/runtime.hpp"
#include "support/threads.hpp"

namespace grt {

class Files;

class Graph {
 public:
  Graph(GraphKind kind, const Allocator& allocator)
      : kind_(kind), allocator_(allocator), signature_(allocator) {}

  // Reads the file of that name and checks all of it. `plan` is that of a frame graph. Weights are read where
  // they lie, so `weights` and the bundle's tensors have to live as long.
  [[nodiscard]] bool read(const Files& files, const FileRecord& record, const Bundle& bundle,
                          const Buffer<uint8_t>& weights, const Plan* plan, Error& error);

  // Makes it ready, which takes a while the first time. Several threads may ask.
  [[nodiscard]] bool load(const OrtRuntime& runtime, Error& error) const;

  GraphKind kind() const { return kind_; }
  const char* name() const { return name_; }  // of its file
  const Plan& plan() const { return plan_; }  // of a frame graph
  const Signature& signature() const { return signature_; }
  const char* const* input_names() const { return input_names_.data(); }
  OrtSession* session() const { return session_.get(); }  // once it is loaded

 private:
  bool read_file(const Files& files, const FileRecord& record, Error& error);
  bool list_weights(const Model& model, const Bundle& bundle, Error& error);

  const GraphKind kind_;
  const Allocator allocator_;
  char name_[80] = {};
  Plan plan_;
  Signature signature_;
  Buffer<const char*> input_names_;
  mutable std::atomic<bool> is_ready_{false};
  mutable Mutex lock_;  // of what follows, until it is ready
  mutable Buffer<uint8_t> data_;
  mutable Buffer<StoredWeight> stored_;
  mutable Handle<OrtSession> session_;
};

}  // namespace grt
