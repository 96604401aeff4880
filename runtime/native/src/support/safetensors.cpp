#include "support/safetensors.hpp"

#include <algorithm>

namespace grt {

namespace {

bool wrong_entry(JsonValue entry, const char* what, Error& error) {
  return error.fail(GRT_ERROR_BUNDLE, "%s %s", show_text(entry.key()).text, what);
}

// Whole numbers from 0 to 2^48 - 1, at most `most` of them.
bool read_sizes(JsonValue list, uint32_t most, int64_t* sizes) {
  if (!list.is(JsonKind::kList) || list.count() > most) return false;
  for (JsonValue size = list.first(); size.exists(); size = list.next(size)) {
    if (!size.is(JsonKind::kWhole) || size.whole() < 0 || size.whole() >= int64_t{1} << 48) return false;
    *sizes++ = size.whole();
  }
  return true;
}

// The bytes of a tensor, or -1 if they are more than any file has.
int64_t bytes_of(const StoredTensor& tensor) {
  int64_t product = tensor.is_bf16 ? 2 : 4;
  for (int32_t i = 0; i < tensor.rank; i++) {
    if (tensor.shape[i] == 0) return 0;
  }
  for (int32_t i = 0; i < tensor.rank; i++) {
    if (product > (int64_t{1} << 50) / tensor.shape[i]) return -1;
    product *= tensor.shape[i];
  }
  return product;
}

bool read_entry(JsonValue entry, uint64_t start, StoredTensor& tensor, Error& error) {
  const JsonValue dtype = entry.get("dtype"), shape = entry.get("shape"), place = entry.get("data_offsets");
  if (!entry.is(JsonKind::kObject) || entry.count() != 3 || !dtype.exists() || !shape.exists() ||
      !place.exists()) {
    return wrong_entry(entry, "without dtype, shape and data_offsets, and these alone", error);
  }
  if (!dtype.is(JsonKind::kText) || !(dtype.text().is("F32") || dtype.text().is("BF16"))) {
    return error.fail(GRT_ERROR_BUNDLE, "%s: expected dtype F32 or BF16, found %s",
                      show_text(entry.key()).text, dtype.show().text);
  }
  tensor.name = entry.key();
  tensor.is_bf16 = dtype.text().is("BF16");
  if (!read_sizes(shape, 8, tensor.shape)) {
    return wrong_entry(entry, "with a shape that is none of up to 8 sizes", error);
  }
  tensor.rank = static_cast<int32_t>(shape.count());
  int64_t offsets[2] = {};
  if (place.count() != 2 || !read_sizes(place, 2, offsets)) {
    return wrong_entry(entry, "with data_offsets that are no two places", error);
  }
  if (offsets[1] - offsets[0] != bytes_of(tensor) || offsets[1] < offsets[0]) {
    return error.fail(GRT_ERROR_BUNDLE, "%s: %lld bytes for a shape that has others in %s",
                      show_text(entry.key()).text, static_cast<long long>(offsets[1] - offsets[0]),
                      tensor.is_bf16 ? "BF16" : "F32");
  }
  tensor.offset = start + static_cast<uint64_t>(offsets[0]);
  tensor.length = static_cast<uint64_t>(offsets[1] - offsets[0]);
  return true;
}

}  // namespace

bool StoredTensors::parse(const uint8_t* head, size_t head_bytes, uint64_t file_bytes,
                          const Allocator& allocator, Error& error) {
  uint64_t size = 0;
  for (size_t i = 0; i < 8 && i < head_bytes; i++) size |= uint64_t{head[i]} << (8 * i);
  if (head_bytes < 8 || file_bytes < 8 || size > kMaxHeaderBytes || size > file_bytes - 8 ||
      size > head_bytes - 8) {
    return error.fail(GRT_ERROR_BUNDLE, "a header of %llu bytes in a file of %llu",
                      static_cast<unsigned long long>(size), static_cast<unsigned long long>(file_bytes));
  }
  JsonDocument json;
  if (!json.parse(head + 8, static_cast<size_t>(size), allocator, error)) {
    if (error.status != GRT_ERROR_BUNDLE) return false;
    const Error reason = error;
    return error.fail(GRT_ERROR_BUNDLE, "a header that is no JSON: %s", reason.message);
  }
  const JsonValue root = json.root();
  if (!root.is(JsonKind::kObject)) return error.fail(GRT_ERROR_BUNDLE, "a header that is no object");
  Buffer<StoredTensor> made;
  if (!made.create(allocator, root.count() - root.get("__metadata__").exists(), error)) return false;
  StoredTensor* next = made.begin();
  for (JsonValue entry = root.first(); entry.exists(); entry = root.next(entry)) {
    if (entry.key().is("__metadata__")) continue;
    StoredTensor tensor;
    if (!read_entry(entry, 8 + size, tensor, error)) return false;
    *next++ = tensor;
  }
  std::sort(made.begin(), made.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.length < b.length;
  });
  uint64_t place = 8 + size;
  for (const StoredTensor& tensor : made) {
    if (tensor.offset != place) {
      return error.fail(GRT_ERROR_BUNDLE, "%s at byte %llu, and the one before it ends at %llu",
                        show_text(tensor.name).text, static_cast<unsigned long long>(tensor.offset),
                        static_cast<unsigned long long>(place));
    }
    place += tensor.length;
  }
  if (place != file_bytes) {
    return error.fail(GRT_ERROR_BUNDLE, "tensors up to byte %llu in a file of %llu",
                      static_cast<unsigned long long>(place), static_cast<unsigned long long>(file_bytes));
  }
  tensors = std::move(made);
  json_ = std::move(json);  // which moves its texts' owner, not the texts
  return true;
}

size_t count_not_finite(const uint8_t* data, size_t bytes, bool is_bf16) {
  // Eight bytes at a time: 1 added to an exponent of all ones carries into the sign's bit, and no further.
  const uint64_t exponent = is_bf16 ? 0x7F807F807F807F80 : 0x7F8000007F800000;
  const uint64_t one = is_bf16 ? 0x0080008000800080 : 0x0080000000800000;
  const uint64_t sign = is_bf16 ? 0x8000800080008000 : 0x8000000080000000;
  uint64_t any = 0;
  size_t at = 0;
  for (; at + 8 <= bytes; at += 8) {
    uint64_t numbers;
    std::memcpy(&numbers, data + at, 8);
    any |= (numbers & exponent) + one;
  }
  if (at < bytes) {
    uint64_t numbers = 0;
    std::memcpy(&numbers, data + at, bytes - at);
    any |= (numbers & exponent) + one;
  }
  if ((any & sign) == 0) return 0;
  size_t count = 0;
  const size_t size = is_bf16 ? 2 : 4;
  for (at = 0; at + size <= bytes; at += size) {
    const unsigned high = data[at + size - 1], next = data[at + size - 2];
    count += (high & 0x7F) == 0x7F && (next & 0x80) != 0;
  }
  return count;
}

}  // namespace grt
