#include <cmath>

#include "bounded.hpp"
#include "support/json.hpp"

namespace {

size_t walk(grt::JsonValue value, int depth) {
  GRT_MUST(depth <= 66);
  size_t count = 1;
  GRT_MUST(std::strlen(value.show().text) < grt::JsonValue::kMaxShown);
  if (value.is(grt::JsonKind::kFraction) || value.is(grt::JsonKind::kWhole))
    GRT_MUST(std::isfinite(value.number()));
  if (value.is(grt::JsonKind::kText)) GRT_MUST(value.text().data[value.text().size] == 0);
  uint32_t entries = 0;
  for (grt::JsonValue entry = value.first(); entry.exists(); entry = value.next(entry), entries++) {
    if (value.is(grt::JsonKind::kObject)) GRT_MUST(entry.key().data[entry.key().size] == 0);
    count += walk(entry, depth + 1);
  }
  const bool has_entries = value.is(grt::JsonKind::kObject) || value.is(grt::JsonKind::kList);
  if (has_entries) GRT_MUST(entries == value.count());
  return count;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const grt::fuzz::Bounded bounded(11 * size + 256);
  grt::JsonDocument json;
  grt::Error error;
  if (json.parse(data, size, bounded.allocator(), error)) {
    GRT_MUST(walk(json.root(), 0) <= size);
  } else {
    grt::fuzz::check_refusal(error);
  }
  return 0;
}
