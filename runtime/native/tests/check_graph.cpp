// Reads graphs as the engine of ONNX Runtime does, for tests in Python: tests/hostile_graphs.py has them.
//
//     check_graph WEIGHTS GRAPH...
//
// Prints "ok" or what is wrong, a line for each. The weights are a file of the tensors v [3] and w [2, 3]; a
// graph takes x and u and gives y.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "onnxruntime/graph.hpp"
#include "support/file.hpp"
#include "support/safetensors.hpp"

namespace {

using namespace grt;

bool read_file(const char* path, Buffer<uint8_t>& data, Error& error) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return error.fail(GRT_ERROR_INPUT, "%s: expected a file, found none", path);
  std::fseek(file, 0, SEEK_END);
  const long size = std::ftell(file);
  std::rewind(file);
  const bool ok = data.create(Allocator(), static_cast<size_t>(size), error) &&
                  std::fread(data.data(), 1, data.size(), file) == data.size();
  std::fclose(file);
  return ok;
}

bool add(List<Value>& to, const char* name, int32_t rank, int64_t first, int64_t second, Error& error) {
  Value value;
  std::snprintf(value.name, sizeof value.name, "%s", name);
  value.dtype = GRT_ONNX_FLOAT32;
  value.shape.rank = rank;
  value.shape.sides[0] = first;
  value.shape.sides[1] = second;
  return to.add(value, error);
}

bool check(const char* path, const Bundle& bundle, const Buffer<uint8_t>& weights, Error& error) {
  const Allocator allocator;
  Limits limits;
  limits.nodes = 40;
  limits.operations = limits.memory_bytes = 100000;
  limits.subset = 8;
  limits.slots = 2;
  Signature signature(allocator);
  Buffer<uint8_t> data;
  Model model(allocator);
  Complaint complaint("tiny.onnx", error);
  return add(signature.inputs, "x", 2, 2, 3, error) && add(signature.inputs, "u", 1, 0, 0, error) &&
         add(signature.outputs, "y", 2, 2, 3, error) && read_file(path, data, error) &&
         model.read({data.data(), data.size()}, limits.nodes, complaint) &&
         check_graph(model, bundle, weights, signature, limits, allocator, complaint);
}

bool report(const char* name, bool ok, const Error& error) {
  std::printf("%s%s\n", name, ok ? "ok" : error.message);
  return ok;
}

bool check_one(const Files& files, const Bundle& bundle, const Buffer<uint8_t>& weights, const char* graph,
               GraphKind kind, const Plan* plan, int& num_found) {
  bool ok = true;
  for (const char* suffix : {"", ".int8"}) {
    char name[96];
    std::snprintf(name, sizeof name, "%.80s%s.onnx", graph, suffix);
    const FileRecord* record = bundle.manifest.find_file(name);
    if (record == nullptr) continue;
    num_found++;
    Error error;
    const bool is_read = Graph(kind, Allocator()).read(files, *record, bundle, weights, plan, error);
    std::snprintf(name, sizeof name, "%.80s%s: ", graph, suffix);
    ok = report(name, is_read, error) && ok;
  }
  return ok;
}

// All graphs of a bundle, each with its own contract.
int check_bundle(const char* folder) {
  const Allocator allocator;
  Error error;
  Files files;
  Bundle bundle;
  if (!Files::open_folder(folder, allocator, files, error) ||
      !Bundle::open(files, allocator, bundle, error)) {
    std::fprintf(stderr, "%s\n", error.message);
    return 2;
  }
  const Buffer<uint8_t> weights = bundle.take_weights();
  bool ok = true;
  int num_found = 0;
  for (size_t i = 0; i < kNumParts; i++)
    ok =
        check_one(files, bundle, weights, kPartNames[i], static_cast<GraphKind>(i), nullptr, num_found) && ok;
  for (const NamedPlan& named : bundle.manifest.plans) {
    char name[80];
    std::snprintf(name, sizeof name, "frame-%s", named.name);
    ok = check_one(files, bundle, weights, name, GraphKind::kFrame, &named.plan, num_found) && ok;
  }
  return ok && num_found > 0 ? 0 : 1;
}

int run(int count, char** arguments) {
  const Allocator allocator;
  Error error;
  Buffer<uint8_t> weights;
  StoredTensors stored;
  Bundle bundle;
  Buffer<char> names;
  if (count < 2 || !read_file(arguments[1], weights, error) ||
      !stored.parse(weights.data(), weights.size(), weights.size(), allocator, error) ||
      !bundle.tensors.create(allocator, stored.tensors.size(), error) ||
      !names.create(allocator, 1000, error)) {
    std::fprintf(stderr, "%s\n", error.message);
    return 2;
  }
  char* name = names.data();
  for (size_t i = 0; i < stored.tensors.size(); i++) {
    const StoredTensor& from = stored.tensors[i];
    Tensor& tensor = bundle.tensors[i];
    std::memcpy(name, from.name.data, from.name.size);
    tensor.name = name;
    name += from.name.size + 1;
    tensor.data = weights.data() + from.offset;
    tensor.is_bf16 = from.is_bf16;
    tensor.rank = from.rank;
    for (int32_t axis = 0; axis < from.rank; axis++) tensor.shape[axis] = from.shape[axis];
  }
  std::sort(bundle.tensors.begin(), bundle.tensors.end(),
            [](const Tensor& a, const Tensor& b) { return std::strcmp(a.name, b.name) < 0; });
  bool ok = true;
  for (int i = 2; i < count; i++) {
    Error found;
    const bool is_read = check(arguments[i], bundle, weights, found);
    ok = report("", is_read, found) && ok;
  }
  return ok ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 3 && std::strcmp(arguments[1], "--bundle") == 0) return check_bundle(arguments[2]);
  return run(count, arguments);
}
