#include "onnxruntime/runtime.hpp"

#include <algorithm>
#include <cstring>

#include "support/threads.hpp"

namespace grt {

namespace {

constexpr int32_t kMostThreads = 8;  // unless more are asked for

}  // namespace

bool OrtRuntime::open(const grt_world_params& params, const Allocator& allocator, Error& error) {
  if (params.parallel_for != nullptr) {
    return error.fail(
        GRT_ERROR_UNSUPPORTED,
        "parallel_for: expected none, since ONNX Runtime computes with threads of its own, found one; "
        "set num_threads, or take GRT_ENGINE_NATIVE");
  }
  allocator_ = allocator;
  num_threads_ = params.num_threads > 0 ? params.num_threads : std::min(num_processors(), kMostThreads);
  if (!open_onnxruntime(params.onnxruntime_library, functions_, api_version_, error)) return false;
  env_.own(functions_.ReleaseEnv);
  memory_.own(functions_.ReleaseMemoryInfo);
  run_options_.own(functions_.ReleaseRunOptions);
  const auto ok = [&](OrtStatus* status) {
    return check(status, GRT_ERROR_UNSUPPORTED, "ONNX Runtime", error);
  };
  // What goes wrong comes back as a status; nothing is printed.
  return ok(functions_.CreateEnv(GRT_ORT_LOG_FATAL, "genie_rt", env_.out())) &&
         ok(functions_.DisableTelemetryEvents(env_.get())) &&
         ok(functions_.CreateCpuMemoryInfo(GRT_ORT_DEVICE_ALLOCATOR, GRT_ORT_MEMORY_DEFAULT,
                                           memory_.out())) &&
         ok(functions_.CreateRunOptions(run_options_.out())) &&
         ok(functions_.RunOptionsSetRunLogSeverityLevel(run_options_.get(), GRT_ORT_LOG_FATAL)) &&
         open_provider(params, error);
}

bool OrtRuntime::make_session(const char* file, Bytes model, const Buffer<StoredWeight>& weights,
                              const Signature& signature, Handle<OrtSession>& session, Error& error) const {
  Handle<OrtSessionOptions> options(functions_.ReleaseSessionOptions);
  if (!check(functions_.CreateSessionOptions(options.out()), GRT_ERROR_UNSUPPORTED, "ONNX Runtime", error) ||
      !set_options(options.get(), error) || !append_provider(options.get(), error) ||
      !add_weights(options.get(), weights, error))
    return false;
  session.own(functions_.ReleaseSession);
  OrtStatus* status =
      functions_.CreateSessionFromArray(env_.get(), model.data, model.size, options.get(), session.out());
  if (status != nullptr) {
    const Brief reason = take_message(status);
    if (std::strstr(reason.text, "allocate") != nullptr)
      return error.fail(GRT_ERROR_OUT_OF_MEMORY, "%s: not enough memory: %.250s", file, reason.text);
    return error.fail(
        GRT_ERROR_BUNDLE,
        "%s: expected a graph that ONNX Runtime can run, found one that it refuses (%.200s); update "
        "ONNX Runtime, or export again with --opset 20",
        file, reason.text);
  }
  return check_assignment(file, session.get(), error) &&
         check_ports(file, session.get(), true, signature.inputs, error) &&
         check_ports(file, session.get(), false, signature.outputs, error);
}

bool OrtRuntime::check(OrtStatus* status, grt_status code, const char* what, Error& error) const {
  if (status == nullptr) return true;
  return error.fail(code, "%.150s: %.300s", what, take_message(status).text);
}

// The first line of what a status says; frees it.
OrtRuntime::Brief OrtRuntime::take_message(OrtStatus* status) const {
  Brief brief;
  const char* message = functions_.GetErrorMessage(status);
  size_t length = 0;
  for (; message[length] != '\0' && message[length] != '\n' && length + 1 < sizeof brief.text; length++) {
    const char c = message[length];
    brief.text[length] = c >= ' ' && c <= '~' ? c : '?';
  }
  brief.text[length] = '\0';
  functions_.ReleaseStatus(status);
  return brief;
}

bool OrtRuntime::set_options(OrtSessionOptions* options, Error& error) const {
  const OrtFunctions& ort = functions_;
  const auto ok = [&](OrtStatus* status) {
    return check(status, GRT_ERROR_UNSUPPORTED, "ONNX Runtime", error);
  };
  const bool records = std::strcmp(ep_name_, "CPUExecutionProvider") != 0;
  // Threads that wait for work must not burn the cores that the next graph, and the game, run on.
  return ok(ort.SetSessionLogSeverityLevel(options, GRT_ORT_LOG_FATAL)) &&
         ok(ort.SetIntraOpNumThreads(options, num_threads_)) && ok(ort.SetInterOpNumThreads(options, 1)) &&
         ok(ort.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0")) &&
         (!records || ok(ort.AddSessionConfigEntry(options, "session.record_ep_graph_assignment_info", "1")));
}

// All weights that the graph names as data of another file, from memory: ONNX Runtime follows no path.
bool OrtRuntime::add_weights(OrtSessionOptions* options, const Buffer<StoredWeight>& weights,
                             Error& error) const {
  const size_t count = weights.size();
  Buffer<OrtValue*> values;
  Buffer<const char*> names;
  if (!values.create(allocator_, count, error) || !names.create(allocator_, count, error)) return false;
  const auto ok = [&](OrtStatus* status) {
    return check(status, GRT_ERROR_BUNDLE, "weights.safetensors", error);
  };
  bool done = true;
  for (size_t i = 0; done && i < count; i++) {
    const Tensor& tensor = *weights[i].tensor;
    names[i] = weights[i].name;
    const size_t bytes = static_cast<size_t>(tensor.count()) * (tensor.is_bf16 ? 2 : 4);
    done = ok(functions_.CreateTensorWithDataAsOrtValue(
        memory_.get(), const_cast<uint8_t*>(tensor.data), bytes, tensor.shape,
        static_cast<size_t>(tensor.rank), tensor.is_bf16 ? GRT_ONNX_BFLOAT16 : GRT_ONNX_FLOAT32, &values[i]));
  }
  if (done && count > 0)
    done = ok(functions_.AddExternalInitializers(options, names.data(), values.data(), count));
  for (OrtValue* value : values)
    if (value != nullptr) functions_.ReleaseValue(value);
  return done;
}

// ONNX Runtime has read the same graph as we.
bool OrtRuntime::check_ports(const char* file, const OrtSession* session, bool are_inputs,
                             const List<Value>& expected, Error& error) const {
  const OrtFunctions& ort = functions_;
  const auto ok = [&](OrtStatus* status) { return check(status, GRT_ERROR_BUNDLE, file, error); };
  OrtAllocator* allocator = nullptr;
  size_t count = 0;
  if (!ok(ort.GetAllocatorWithDefaultOptions(&allocator)) ||
      !ok(are_inputs ? ort.SessionGetInputCount(session, &count)
                     : ort.SessionGetOutputCount(session, &count)))
    return false;
  List<Value> found(allocator_);
  for (size_t i = 0; i < count; i++) {
    Value value;
    char* name = nullptr;
    Handle<OrtTypeInfo> type(ort.ReleaseTypeInfo);
    if (!ok(are_inputs ? ort.SessionGetInputName(session, i, allocator, &name)
                       : ort.SessionGetOutputName(session, i, allocator, &name)))
      return false;
    std::snprintf(value.name, sizeof value.name, "%s", name);
    if (!ok(ort.AllocatorFree(allocator, name)) ||
        !ok(are_inputs ? ort.SessionGetInputTypeInfo(session, i, type.out())
                       : ort.SessionGetOutputTypeInfo(session, i, type.out())) ||
        !read_port(type.get(), value, error) || !found.add(value, error))
      return false;
  }
  return check_values(file, are_inputs ? "input" : "output", expected, found, error);
}

bool OrtRuntime::read_port(const OrtTypeInfo* type, Value& value, Error& error) const {
  const OrtFunctions& ort = functions_;
  const auto ok = [&](OrtStatus* status) { return check(status, GRT_ERROR_BUNDLE, value.name, error); };
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // belongs to `type`
  size_t rank = 0;
  if (!ok(ort.CastTypeInfoToTensorInfo(type, &tensor))) return false;
  if (tensor == nullptr) return true;  // no tensor: the dtype stays unknown
  if (!ok(ort.GetTensorElementType(tensor, &value.dtype)) || !ok(ort.GetDimensionsCount(tensor, &rank)))
    return false;
  value.shape.rank = static_cast<int32_t>(std::min<size_t>(rank, kMaxRank));
  return ok(ort.GetDimensions(tensor, value.shape.sides, static_cast<size_t>(value.shape.rank)));
}

}  // namespace grt
