// Graphs, as the engine of ONNX Runtime reads and checks them: one that takes x [2, 3] and u [Q] and gives y
// [2, 3], beside weights v [3] and w [2, 3], as tests/hostile_graphs.py has them.
#include "bounded.hpp"
#include "onnxruntime/check.hpp"

namespace {

using namespace grt;

void add(List<Value>& to, const char* name, int32_t rank, int64_t first, int64_t second) {
  Value value;
  Error error;
  std::snprintf(value.name, sizeof value.name, "%s", name);
  value.dtype = GRT_ONNX_FLOAT32;
  value.shape.rank = rank;
  value.shape.sides[0] = first;
  value.shape.sides[1] = second;
  GRT_MUST(to.add(value, error));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Allocator plain;
  Error error;
  Buffer<uint8_t> weights;
  Bundle bundle;
  GRT_MUST(weights.create(plain, 156, error) && bundle.tensors.create(plain, 2, error));
  bundle.tensors[0] = {.name = "v", .data = weights.data() + 120, .rank = 1, .shape = {3}};
  bundle.tensors[1] = {.name = "w", .data = weights.data() + 132, .rank = 2, .shape = {2, 3}};
  Signature signature(plain);
  add(signature.inputs, "x", 2, 2, 3);
  add(signature.inputs, "u", 1, 0, 0);
  add(signature.outputs, "y", 2, 2, 3);
  Limits limits;
  limits.nodes = 40;
  limits.operations = limits.memory_bytes = 100000;
  limits.subset = 8;
  limits.slots = 2;

  const grt::fuzz::Bounded bounded(200 * size + 65536);
  Model model(bounded.allocator());
  Complaint complaint("graph.onnx", error);
  const bool ok = model.read({data, size}, limits.nodes, complaint) &&
                  check_graph(model, bundle, weights, signature, limits, bounded.allocator(), complaint);
  if (!ok) grt::fuzz::check_refusal(error);
  GRT_MUST(!ok || (model.nodes.size() >= 1 && model.nodes.size() <= 40));
  return 0;
}
