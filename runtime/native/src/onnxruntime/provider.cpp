// Which provider computes, and that it really does.
#include <cstring>

#include "onnxruntime/runtime.hpp"

namespace grt {

namespace {

// Our names, and ONNX Runtime's. Others are taken as they are.
constexpr struct {
  const char *ours, *theirs;
} kProviders[] = {{"CPU", "CPUExecutionProvider"},
                  {"CUDA", "CUDAExecutionProvider"},
                  {"TensorRT", "TensorrtExecutionProvider"},
                  {"WebGPU", "WebGpuExecutionProvider"}};

bool is(const char* a, const char* b) { return std::strcmp(a, b) == 0; }

// Adds a name to a list in words; what does not fit is left out.
struct Names {
  char text[160] = "";
  size_t length = 0;

  void add(const char* name) {
    const size_t size = std::strlen(name);
    if (length + size + 3 > sizeof text || std::strstr(text, name) != nullptr) return;
    length += static_cast<size_t>(
        std::snprintf(text + length, sizeof text - length, "%s%s", length > 0 ? ", " : "", name));
  }
};

}  // namespace

bool OrtRuntime::open_provider(const grt_world_params& params, Error& error) {
  const char* asked = params.onnxruntime_provider;
  const bool is_plugin = params.onnxruntime_plugin != nullptr;
  if (asked == nullptr || asked[0] == '\0') {
    if (!is_plugin) return true;
    return error.fail(
        GRT_ERROR_INPUT,
        "onnxruntime_provider: expected the name of the provider in onnxruntime_plugin, found none");
  }
  if (std::strlen(asked) >= sizeof provider_) {
    return error.fail(GRT_ERROR_UNSUPPORTED,
                      "onnxruntime_provider: expected a name of at most %zu bytes, found %zu",
                      sizeof provider_ - 1, std::strlen(asked));
  }
  std::snprintf(provider_, sizeof provider_, "%s", asked);
  const size_t length = std::strlen(asked), suffix = std::strlen("ExecutionProvider");
  const bool is_whole = length > suffix && is(asked + length - suffix, "ExecutionProvider");
  std::snprintf(ep_name_, sizeof ep_name_, "%s%s", asked, is_whole ? "" : "ExecutionProvider");
  for (const auto& known : kProviders)
    if (is(asked, known.ours)) std::snprintf(ep_name_, sizeof ep_name_, "%s", known.theirs);
  if (is_plugin) return open_plugin(params.onnxruntime_plugin, error);
  if (is(ep_name_, "CPUExecutionProvider")) return true;

  // Built in, or a plug-in that somebody else has registered in this process.
  char** available = nullptr;
  int count = 0;
  if (!check(functions_.GetAvailableProviders(&available, &count), GRT_ERROR_UNSUPPORTED, "ONNX Runtime",
             error))
    return false;
  bool is_built_in = false;
  for (int i = 0; i < count; i++) is_built_in = is_built_in || is(available[i], ep_name_);
  OrtStatus* released = functions_.ReleaseAvailableProviders(available, count);
  if (released != nullptr) functions_.ReleaseStatus(released);
  if (is_built_in) return true;
  if (!find_device(error)) return false;
  return device_ != nullptr || refuse_provider("it is not in this library", error);
}

bool OrtRuntime::open_plugin(const char* path, Error& error) {
  // It stays registered as long as the environment lives: other worlds may have found its devices too.
  char name[96];
  std::snprintf(name, sizeof name, "genie_rt_%s", provider_);
#if defined(_WIN32)
  wchar_t file[kMaxWidePath];
  if (!to_wide(path, file))
    return error.fail(GRT_ERROR_INPUT, "onnxruntime_plugin: expected a path in UTF-8, found none that is");
#else
  const char* file = path;
#endif
  OrtStatus* status = functions_.RegisterExecutionProviderLibrary(env_.get(), name, file);
  if (status != nullptr) {
    const Brief reason = take_message(status);
    if (std::strstr(reason.text, "already registered") == nullptr) {  // by another world
      return error.fail(
          GRT_ERROR_UNSUPPORTED,
          "%.150s: expected a plug-in of ONNX Runtime with the provider %s, found one that does not "
          "open: %.200s",
          path, provider_, reason.text);
    }
  }
  if (!find_device(error)) return false;
  return device_ != nullptr || refuse_provider("its plug-in offers no device on this machine", error);
}

// The first device of the provider, if there is one.
bool OrtRuntime::find_device(Error& error) {
  const OrtEpDevice* const* devices = nullptr;
  size_t count = 0;
  if (!check(functions_.GetEpDevices(env_.get(), &devices, &count), GRT_ERROR_UNSUPPORTED, "ONNX Runtime",
             error))
    return false;
  for (size_t i = 0; i < count && device_ == nullptr; i++) {
    const char* name = functions_.EpDevice_EpName(devices[i]);
    if (!is(name, ep_name_) && !is(name, provider_)) continue;
    device_ = devices[i];
    std::snprintf(ep_name_, sizeof ep_name_, "%s", name);
  }
  return true;
}

bool OrtRuntime::refuse_provider(const char* reason, Error& error) const {
  Names names;
  char** available = nullptr;
  int count = 0;
  OrtStatus* status = functions_.GetAvailableProviders(&available, &count);
  if (status == nullptr) {
    for (int i = 0; i < count; i++) names.add(available[i]);
    status = functions_.ReleaseAvailableProviders(available, count);
  }
  if (status != nullptr) functions_.ReleaseStatus(status);
  const OrtEpDevice* const* devices = nullptr;
  size_t num_devices = 0;
  status = functions_.GetEpDevices(env_.get(), &devices, &num_devices);
  for (size_t i = 0; status == nullptr && i < num_devices; i++)
    names.add(functions_.EpDevice_EpName(devices[i]));
  if (status != nullptr) functions_.ReleaseStatus(status);
  return error.fail(
      GRT_ERROR_UNSUPPORTED,
      "expected ONNX Runtime with the provider %s, found %s: %.160s; take a library or a plug-in that "
      "has it, or onnxruntime_provider \"CPU\"",
      provider_, names.text, reason);
}

bool OrtRuntime::append_provider(OrtSessionOptions* options, Error& error) const {
  if (is(ep_name_, "CPUExecutionProvider") && device_ == nullptr) return true;
  const OrtFunctions& ort = functions_;
  OrtStatus* status = nullptr;
  if (device_ != nullptr) {
    status =
        ort.SessionOptionsAppendExecutionProvider_V2(options, env_.get(), &device_, 1, nullptr, nullptr, 0);
  } else if (is(provider_, "CUDA") || is(provider_, "TensorRT")) {
    if (is(provider_, "TensorRT")) {
      Handle<OrtTensorRTProviderOptionsV2> settings(ort.ReleaseTensorRTProviderOptions);
      status = ort.CreateTensorRTProviderOptions(settings.out());
      if (status == nullptr)
        status = ort.SessionOptionsAppendExecutionProvider_TensorRT_V2(options, settings.get());
    }
    if (status == nullptr) {  // also for what TensorRT cannot run
      Handle<OrtCUDAProviderOptionsV2> settings(ort.ReleaseCUDAProviderOptions);
      status = ort.CreateCUDAProviderOptions(settings.out());
      if (status == nullptr)
        status = ort.SessionOptionsAppendExecutionProvider_CUDA_V2(options, settings.get());
    }
  } else {
    status = ort.SessionOptionsAppendExecutionProvider(options, provider_, nullptr, nullptr, 0);
  }
  return status == nullptr || refuse_provider(take_message(status).text, error);
}

// Parts of a graph that a provider cannot run go to the CPU, as everywhere in ONNX Runtime. A provider that
// got nothing at all was not what was asked for.
bool OrtRuntime::check_assignment(const char* file, const OrtSession* session, Error& error) const {
  if (is(ep_name_, "CPUExecutionProvider")) return true;
  const OrtEpAssignedSubgraph* const* parts = nullptr;
  size_t count = 0, own = 0, all = 0;
  if (!check(functions_.Session_GetEpGraphAssignmentInfo(session, &parts, &count), GRT_ERROR_UNSUPPORTED,
             file, error))
    return false;
  for (size_t i = 0; i < count; i++) {
    const char* name = nullptr;
    const OrtEpAssignedNode* const* nodes = nullptr;
    size_t num_nodes = 0;
    if (!check(functions_.EpAssignedSubgraph_GetEpName(parts[i], &name), GRT_ERROR_UNSUPPORTED, file,
               error) ||
        !check(functions_.EpAssignedSubgraph_GetNodes(parts[i], &nodes, &num_nodes), GRT_ERROR_UNSUPPORTED,
               file, error))
      return false;
    all += num_nodes;
    own += is(name, ep_name_) ? num_nodes : 0;
  }
  if (own > 0) return true;
  char reason[128];
  std::snprintf(reason, sizeof reason, "it took none of the %zu operators of %.60s", all, file);
  return refuse_provider(reason, error);
}

}  // namespace grt
