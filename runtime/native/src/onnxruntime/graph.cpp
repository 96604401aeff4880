#include "onnxruntime/graph.hpp"

#include <cstring>

#include "support/file.hpp"
#include "support/sha256.hpp"

namespace grt {

namespace {

// Largest file of a graph, which holds no weights: the largest of the demo's has 0.4 MB.
constexpr uint64_t kMaxGraphBytes = uint64_t{64} << 20;

}  // namespace

bool Graph::read(const Files& files, const FileRecord& record, const Bundle& bundle,
                 const Buffer<uint8_t>& weights, const Plan* plan, Error& error) {
  std::snprintf(name_, sizeof name_, "%s", record.name);
  if (plan != nullptr) plan_ = *plan;
  const ModelConfig& config = bundle.manifest.config;
  const Limits limits = limits_of(config, kind_, plan_.passes, weights.size());
  Model model(allocator_);
  Complaint complaint(name_, error);
  return signature_.create(config, kind_, plan, error) && read_file(files, record, error) &&
         model.read({data_.data(), data_.size()}, limits.nodes, complaint) &&
         check_graph(model, bundle, weights, signature_, limits, allocator_, complaint) &&
         list_weights(model, bundle, error);
}

bool Graph::read_file(const Files& files, const FileRecord& record, Error& error) {
  File file;
  if (!file.open(files, record.name, "a graph of the bundle", error)) return false;
  char shown[Files::kMaxShown];
  files.show(record.name, shown);
  if (record.size > kMaxGraphBytes) {
    return error.fail(GRT_ERROR_BUNDLE, "%s: expected at most %llu bytes, found %llu", shown,
                      static_cast<unsigned long long>(kMaxGraphBytes),
                      static_cast<unsigned long long>(record.size));
  }
  if (file.size() != record.size) {
    return error.fail(GRT_ERROR_BUNDLE, "%s: expected %llu bytes, found %llu; fetch the file again", shown,
                      static_cast<unsigned long long>(record.size),
                      static_cast<unsigned long long>(file.size()));
  }
  const auto size = static_cast<size_t>(record.size);
  if (!data_.create(allocator_, size, error) || !file.read(data_.data(), size, error)) return false;
  Sha256 sha256;
  sha256.update(data_.data(), size);
  uint8_t digest[Sha256::kBytes];
  sha256.finish(digest);
  if (std::memcmp(digest, record.sha256, sizeof digest) == 0) return true;
  return error.fail(GRT_ERROR_BUNDLE, "%s: expected sha256 %s, found %s; fetch the file again", shown,
                    to_hex(record.sha256).text, to_hex(digest).text);
}

bool Graph::list_weights(const Model& model, const Bundle& bundle, Error& error) {
  size_t count = 0;
  for (const Initializer& tensor : model.initializers) count += tensor.is_stored ? 1 : 0;
  if (!stored_.create(allocator_, count, error) ||
      !input_names_.create(allocator_, signature_.inputs.size(), error))
    return false;
  count = 0;
  for (const Initializer& tensor : model.initializers) {
    if (!tensor.is_stored) continue;
    const Tensor* weight = find_weight(bundle, model.name(tensor.mention));
    stored_[count++] = {weight->name, weight};
  }
  for (size_t i = 0; i < signature_.inputs.size(); i++) input_names_[i] = signature_.inputs[i].name;
  return true;
}

bool Graph::load(const OrtRuntime& runtime, Error& error) const {
  if (is_ready_.load(std::memory_order_acquire)) return true;
  Locked locked(lock_);
  if (is_ready_.load(std::memory_order_relaxed)) return true;
  Handle<OrtSession> session;
  if (!runtime.make_session(name_, {data_.data(), data_.size()}, stored_, signature_, session, error))
    return false;
  session_.swap(session);
  data_ = Buffer<uint8_t>();
  stored_ = Buffer<StoredWeight>();
  is_ready_.store(true, std::memory_order_release);
  return true;
}

}  // namespace grt
