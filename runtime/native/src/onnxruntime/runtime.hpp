// ONNX Runtime as a world uses it: its environment, the provider that computes, and sessions of graphs.
#pragma once

#include "onnxruntime/library.hpp"
#include "onnxruntime/list.hpp"
#include "onnxruntime/model.hpp"
#include "onnxruntime/signature.hpp"

namespace grt {

// What the library made, and how it is let go of.
template <typename T>
class Handle {
 public:
  explicit Handle(void(GRT_ORT_CALL* release)(T*) = nullptr) : release_(release) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (object_ != nullptr) release_(object_);
  }

  void own(void(GRT_ORT_CALL* release)(T*)) { release_ = release; }
  void swap(Handle& other) {
    std::swap(object_, other.object_);
    std::swap(release_, other.release_);
  }
  T* get() const { return object_; }
  T** out() { return &object_; }  // for a call that makes one

 private:
  T* object_ = nullptr;
  void(GRT_ORT_CALL* release_)(T*);
};

// A weight that a graph reads, where it lies.
struct StoredWeight {
  const char* name = nullptr;
  const Tensor* tensor = nullptr;
};

// Thread-safe once it is open.
class OrtRuntime {
 public:
  // Opens the library and the provider of the parameters, which are not read later.
  [[nodiscard]] bool open(const grt_world_params& params, const Allocator& allocator, Error& error);

  // A session of a graph that was checked; holds the provider to it, and the session to the signature. `file`
  // is for messages.
  [[nodiscard]] bool make_session(const char* file, Bytes model, const Buffer<StoredWeight>& weights,
                                  const Signature& signature, Handle<OrtSession>& session,
                                  Error& error) const;

  // Takes a status over: true if it says that all went well, else `error` gets its first line after `what`.
  [[nodiscard]] bool check(OrtStatus* status, grt_status code, const char* what, Error& error) const;

  const OrtFunctions& functions() const { return functions_; }
  const OrtMemoryInfo* memory() const { return memory_.get(); }
  const OrtRunOptions* run_options() const { return run_options_.get(); }

 private:
  struct Brief {
    char text[300];
  };

  bool open_provider(const grt_world_params& params, Error& error);
  bool open_plugin(const char* path, Error& error);
  bool find_device(Error& error);
  bool refuse_provider(const char* reason, Error& error) const;
  bool set_options(OrtSessionOptions* options, Error& error) const;
  bool append_provider(OrtSessionOptions* options, Error& error) const;
  bool add_weights(OrtSessionOptions* options, const Buffer<StoredWeight>& weights, Error& error) const;
  bool check_assignment(const char* file, const OrtSession* session, Error& error) const;
  bool check_ports(const char* file, const OrtSession* session, bool are_inputs, const List<Value>& expected,
                   Error& error) const;
  bool read_port(const OrtTypeInfo* type, Value& value, Error& error) const;
  Brief take_message(OrtStatus* status) const;

  Allocator allocator_;
  OrtFunctions functions_;
  uint32_t api_version_ = 0;
  Handle<OrtEnv> env_;
  Handle<OrtMemoryInfo> memory_;
  Handle<OrtRunOptions> run_options_;
  int32_t num_threads_ = 1;
  char provider_[64] = "CPU";                  // as it was asked for
  char ep_name_[96] = "CPUExecutionProvider";  // as ONNX Runtime calls it
  const OrtEpDevice* device_ = nullptr;        // of a provider that was found among the devices
};

}  // namespace grt
