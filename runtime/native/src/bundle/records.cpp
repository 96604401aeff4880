#include "bundle/records.hpp"

#include <algorithm>
#include <iterator>

#include "bundle/parameters.hpp"
#include "support/sha256.hpp"

namespace grt {

namespace {

bool starts_with(Text text, const char* prefix) {
  const size_t size = std::strlen(prefix);
  return text.size >= size && std::memcmp(text.data, prefix, size) == 0;
}

bool ends_with(Text text, const char* suffix) {
  const size_t size = std::strlen(suffix);
  return text.size >= size && std::memcmp(text.data + text.size - size, suffix, size) == 0;
}

Text without(Text text, size_t front, size_t back) { return {text.data + front, text.size - front - back}; }

Text as_text(const char* text) { return {text, std::strlen(text)}; }

// A list of what may be there needs no list of what may not: "..", "/", "\\", "C:" and NUL cannot be spelled.
bool is_file_name(Text name) {
  if (name.is(kWeightsFile) || name.is("lam.safetensors") || name.is("README.md")) return true;
  if (ends_with(name, ".onnx")) return is_name(without(name, 0, 5));
  return starts_with(name, "prompts/") && name.size > 12 && ends_with(name, ".png") &&
         is_name(without(name, 8, 4));
}

bool read_record(const Reading& reading, JsonValue value, const Place& place, FileRecord& record) {
  const Object object(reading, value, place);
  Text digits;
  if (!object.has_only({"sha256", "size"}) || !object.text("sha256", digits)) return false;
  if (!from_hex(digits.data, digits.size, record.sha256)) {
    return object.refuse("sha256", "64 digits of 0-9 a-f", value.get("sha256"));
  }
  const JsonValue size = value.get("size");
  if (!size.exists()) return reading.refuse(place, "the key 'size' is missing");
  if (!size.is(JsonKind::kWhole) || size.whole() < 0 ||
      static_cast<uint64_t>(size.whole()) > kMaxTotalBytes) {
    return object.refuse("size", "0 to 68719476736 bytes", size);
  }
  record.size = static_cast<uint64_t>(size.whole());
  return true;
}

// What graphs of a number format are called: "pass.onnx", "pass.int8.onnx".
struct GraphFormat {
  const char *name, *suffix;
};
constexpr GraphFormat kGraphFormats[] = {{"float32", ""}, {"float16", ".fp16"}, {"int8", ".int8"}};
constexpr const char* kGraphs[] = {"encode", "commit", "pass", "pass-at", "decode"};

bool has_text(JsonValue list, Text wanted) {
  for (JsonValue entry = list.first(); entry.exists(); entry = list.next(entry)) {
    const Text text = entry.text();
    if (text.size == wanted.size && std::memcmp(text.data, wanted.data, text.size) == 0) return true;
  }
  return false;
}

// A list of texts, each once and of at most so many, that `is_known`.
template <typename IsKnown>
bool check_names(const Object& object, const char* key, JsonValue list, uint32_t most, const char* expected,
                 IsKnown&& is_known) {
  if (!list.exists()) return true;
  if (list.count() > most) return object.refuse(key, expected, list);
  for (JsonValue entry = list.first(); entry.exists(); entry = list.next(entry)) {
    if (!entry.is(JsonKind::kText) || !is_known(entry.text())) return object.refuse(key, expected, entry);
    for (JsonValue other = list.first(); other.text().data != entry.text().data; other = list.next(other)) {
      if (other.text().size == entry.text().size &&
          std::memcmp(other.text().data, entry.text().data, entry.text().size) == 0) {
        return object.refuse(key, "every name once", entry);
      }
    }
  }
  return true;
}

bool check_bounds(const Reading& reading, JsonValue bounds, const Place& place) {
  for (JsonValue entry = bounds.first(); entry.exists(); entry = bounds.next(entry)) {
    const Place at{&place, nullptr, entry.key()};
    if (!entry.key().is("int8")) {
      return reading.refuse(at, "expected int8 alone, since others round alike in every model, found it");
    }
    const Object object(reading, entry, at);
    double means = 0, logit = 0, psnr_db = 0;
    if (!object.has_only({"means", "logit", "psnr_db"}) || !object.number("means", 0, 0.45, means) ||
        !object.number("logit", 0, 0.75, logit) || !object.number("psnr_db", 42, 200, psnr_db)) {
      return false;
    }
    if (means <= 0) return object.refuse("means", "a number above 0, up to 0.45", entry.get("means"));
    if (logit <= 0) return object.refuse("logit", "a number above 0, up to 0.75", entry.get("logit"));
  }
  return true;
}

bool check_changes(const Reading& reading, JsonValue changes, const Place& place) {
  for (JsonValue entry = changes.first(); entry.exists(); entry = changes.next(entry)) {
    const Place at{&place, nullptr, entry.key()};
    double change;
    if (!is_name(entry.key())) return reading.refuse(at, "expected %s, found it", kNameRule);
    if (!as_number(entry, -100, 100, change)) {
      return reading.refuse(at, "expected -100 to 100 dB, found %s", entry.show().text);
    }
  }
  return true;
}

// Every graph that precisions and plans imply is listed, and no other.
bool check_graph_files(const Reading& reading, JsonValue precisions, JsonValue plans, const Place& place,
                       const Manifest& manifest) {
  const auto require = [&](const char* front, Text graph, const char* suffix) {
    char name[96];
    std::snprintf(name, sizeof name, "%s%.*s%s.onnx", front, static_cast<int>(graph.size), graph.data,
                  suffix);
    return manifest.find_file(name) != nullptr ||
           reading.refuse(place, "expected a record of %s in files, found none", name);
  };
  for (const GraphFormat& format : kGraphFormats) {
    if (!has_text(precisions, as_text(format.name))) continue;
    for (const char* graph : kGraphs) {
      if (!require("", as_text(graph), format.suffix)) return false;
    }
    for (JsonValue plan = plans.first(); plan.exists(); plan = plans.next(plan)) {
      if (!require("frame-", plan.text(), format.suffix)) return false;
    }
  }
  for (const FileRecord& record : manifest.files) {
    Text graph = as_text(record.name);
    if (!ends_with(graph, ".onnx")) continue;
    graph = without(graph, 0, 5);
    const GraphFormat* format = &kGraphFormats[0];
    for (const GraphFormat& each : kGraphFormats) {
      if (each.suffix[0] != 0 && ends_with(graph, each.suffix)) format = &each;
    }
    graph = without(graph, 0, std::strlen(format->suffix));
    const bool is_part =
        std::any_of(std::begin(kGraphs), std::end(kGraphs), [&](const char* each) { return graph.is(each); });
    const bool is_frame = starts_with(graph, "frame-") && has_text(plans, without(graph, 6, 0));
    if (!has_text(precisions, as_text(format->name)) || !(is_part || is_frame)) {
      return reading.refuse(place, "expected the precision and plan of every .onnx file, found '%s'",
                            record.name);
    }
  }
  return true;
}

// A linear of `linear_names` in Python: PART.blocks.L.LINEAR.
bool is_int8_linear(Text name, const ModelConfig& config) {
  const struct {
    const char* name;
    int32_t num_layers;
  } parts[] = {{kEncoder, config.tokenizer.encoder.num_layers},
               {kDecoder, config.tokenizer.decoder.num_layers},
               {kDynamics, config.dynamics.transformer.num_layers}};
  for (const auto& part : parts) {
    char front[48];
    std::snprintf(front, sizeof front, "%s.blocks.", part.name);
    if (!starts_with(name, front)) continue;
    const Text rest = without(name, std::strlen(front), 0);
    int32_t layer = 0;
    size_t digits = 0;
    while (digits < 4 && digits < rest.size && rest.data[digits] >= '0' && rest.data[digits] <= '9') {
      layer = 10 * layer + (rest.data[digits++] - '0');
    }
    const bool is_plain = digits > 0 && (digits == 1 || rest.data[0] != '0');
    if (!is_plain || layer >= part.num_layers || digits >= rest.size || rest.data[digits] != '.')
      return false;
    const Text linear = without(rest, digits + 1, 0);
    return std::any_of(std::begin(kInt8Linears), std::end(kInt8Linears),
                       [&](const char* each) { return linear.is(each); });
  }
  return false;
}

}  // namespace

bool is_prompt(const char* name) { return starts_with(as_text(name), "prompts/"); }

bool read_files(const Reading& reading, JsonValue value, const Place& place, const Allocator& allocator,
                Manifest& manifest) {
  if (value.count() > kMaxFiles) {
    return reading.refuse(place, "expected at most %u, found %u", kMaxFiles, value.count());
  }
  if (!manifest.files.create(allocator, value.count(), reading.error)) return false;
  uint64_t total = 0;
  size_t num_prompts = 0;
  FileRecord* record = manifest.files.begin();
  for (JsonValue entry = value.first(); entry.exists(); entry = value.next(entry), record++) {
    if (!is_file_name(entry.key())) {
      return reading.refuse(place,
                            "expected weights.safetensors, lam.safetensors, README.md, NAME.onnx or "
                            "prompts/NAME.png in the bundle's folder, found %s",
                            show_text(entry.key()).text);
    }
    copy_text(entry.key(), record->name);
    if (!read_record(reading, entry, {&place, nullptr, entry.key()}, *record)) return false;
    total += record->size;
    num_prompts += is_prompt(record->name);
  }
  if (total > kMaxTotalBytes) {
    return reading.refuse(place, "expected sizes of at most %llu bytes together, found %llu",
                          static_cast<unsigned long long>(kMaxTotalBytes),
                          static_cast<unsigned long long>(total));
  }
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const FileRecord& a, const FileRecord& b) { return std::strcmp(a.name, b.name) < 0; });
  if (manifest.find_file(kWeightsFile) == nullptr) {
    return reading.refuse(place, "expected a record of %s, found none", kWeightsFile);
  }
  if (!manifest.prompts.create(allocator, num_prompts, reading.error)) return false;
  Prompt* prompt = manifest.prompts.begin();
  for (const FileRecord& each : manifest.files) {
    if (is_prompt(each.name)) copy_text(as_text(each.name), (prompt++)->name);
  }
  return true;
}

bool read_graphs(const Reading& reading, JsonValue value, const Place& place, const Manifest& manifest) {
  if (!value.exists()) {
    for (const FileRecord& record : manifest.files) {
      if (ends_with(as_text(record.name), ".onnx")) {
        return reading.refuse(place, "expected the precision and plan of every .onnx file, found '%s'",
                              record.name);
      }
    }
    return true;
  }
  const Object object(reading, value, place);
  int32_t opset;
  JsonValue precisions, plans, bounds, changes;
  if (!object.has_only({"opset", "precisions", "frame_plans", "bounds", "psnr_change_db"}) ||
      !object.whole("opset", 1, 1000, opset) || !object.list("precisions", precisions) ||
      !object.list("frame_plans", plans, false)) {
    return false;
  }
  // Python takes null for neither of these
  for (const char* key : {"bounds", "psnr_change_db"}) {
    if (value.get(key).is(JsonKind::kNull)) return object.refuse(key, "an object", value.get(key));
  }
  if (!object.object("bounds", bounds, false) || !object.object("psnr_change_db", changes, false))
    return false;
  const auto is_format = [](Text text) {
    return std::any_of(std::begin(kGraphFormats), std::end(kGraphFormats),
                       [&](const GraphFormat& format) { return text.is(format.name); });
  };
  const auto is_plan = [&](Text text) {
    return std::any_of(manifest.plans.begin(), manifest.plans.end(),
                       [&](const NamedPlan& plan) { return text.is(plan.name); });
  };
  if (precisions.count() == 0) {
    return object.refuse("precisions", "some of float32, float16, int8", precisions);
  }
  if (!check_names(object, "precisions", precisions, 64, "some of float32, float16, int8", is_format) ||
      !check_names(object, "frame_plans", plans, kMaxPlans, "some of the plans", is_plan) ||
      !check_bounds(reading, bounds, object.at("bounds")) ||
      !check_changes(reading, changes, object.at("psnr_change_db"))) {
    return false;
  }
  for (const NamedPlan& plan : manifest.plans) {  // or its graph would be another plan's in another format
    for (const GraphFormat& format : kGraphFormats) {
      if (format.suffix[0] != 0 && ends_with(as_text(plan.name), format.suffix)) {
        return reading.refuse(place, "expected no plan whose name ends with .fp16 or .int8, found '%s'",
                              plan.name);
      }
    }
  }
  return check_graph_files(reading, precisions, plans, place, manifest);
}

bool read_int8(const Reading& reading, JsonValue value, const Place& place, const Allocator& allocator,
               Manifest& manifest) {
  if (!value.exists()) return true;
  const Object object(reading, value, place);
  JsonValue limits;
  if (!object.has_only({"limits"}) || !object.object("limits", limits)) return false;
  if (limits.count() == 0) return object.refuse("limits", "one linear or more", limits);
  if (!manifest.int8_limits.create(allocator, limits.count(), reading.error)) return false;
  const Place at = object.at("limits");
  Int8Limit* limit = manifest.int8_limits.begin();
  for (JsonValue entry = limits.first(); entry.exists(); entry = limits.next(entry), limit++) {
    if (!is_int8_linear(entry.key(), manifest.config)) {
      return reading.refuse(
          at, "expected linears of the model, such as dynamics.transformer.blocks.0.up, found %s",
          show_text(entry.key()).text);
    }
    double amax;
    if (!as_number(entry, 1e-30, 1e30, amax) || amax >= 1e30) {
      return reading.refuse({&at, nullptr, entry.key()}, "expected numbers from 1e-30 to 1e+30, found %s",
                            entry.show().text);
    }
    copy_text(entry.key(), limit->linear);
    limit->amax = static_cast<float>(amax);
  }
  std::sort(manifest.int8_limits.begin(), manifest.int8_limits.end(),
            [](const Int8Limit& a, const Int8Limit& b) { return std::strcmp(a.linear, b.linear) < 0; });
  return true;
}

}  // namespace grt
