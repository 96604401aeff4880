#include "bounded.hpp"
#include "support/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const grt::fuzz::Bounded bounded(14 * size + 512);
  grt::StoredTensors stored;
  grt::Error error;
  if (!stored.parse(data, size, size, bounded.allocator(), error)) {
    grt::fuzz::check_refusal(error);
    return 0;
  }
  uint64_t place = size;
  for (size_t i = stored.tensors.size(); i-- > 0;) {  // they end where the file does, without a gap
    const grt::StoredTensor& tensor = stored.tensors[i];
    GRT_MUST(tensor.offset + tensor.length == place && tensor.offset >= 8);
    place = tensor.offset;
    uint64_t bytes = tensor.is_bf16 ? 2 : 4;
    for (int32_t k = 0; k < tensor.rank; k++) bytes *= static_cast<uint64_t>(tensor.shape[k]);
    GRT_MUST(bytes == tensor.length);
    grt::count_not_finite(data + tensor.offset, static_cast<size_t>(tensor.length), tensor.is_bf16);
  }
  return 0;
}
