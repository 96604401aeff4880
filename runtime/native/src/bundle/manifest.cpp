#include <algorithm>

#include "bundle/bundle.hpp"
#include "bundle/memory_bound.hpp"
#include "bundle/object.hpp"
#include "bundle/printable.hpp"
#include "bundle/read_config.hpp"
#include "bundle/records.hpp"
#include "support/file.hpp"
#include "support/sha256.hpp"
#include "support/utf8.hpp"

namespace grt {

namespace {

constexpr uint64_t kMaxManifestBytes = 1000000;
constexpr int64_t kSchemaVersion = 1;

bool is_action_name(Text name) {
  size_t characters = 0;
  for (size_t i = 0; i < name.size; characters++) {
    uint32_t character = 0;
    const size_t length = decode_utf8(name.data + i, name.size - i, character);
    if (length == 0 || !is_printable(character)) return false;
    i += length;
  }
  return characters >= 1 && characters <= 64 && name.data[0] != ' ' && name.data[name.size - 1] != ' ';
}

bool names_twice(const Buffer<NamedAction>& actions, const Allocator& allocator, const char*& twice,
                 Error& error) {
  Buffer<const char*> names;
  twice = nullptr;
  if (!names.create(allocator, actions.size(), error)) return false;
  for (size_t i = 0; i < names.size(); i++) names[i] = actions[i].name;
  std::sort(names.begin(), names.end(), [](const char* a, const char* b) { return std::strcmp(a, b) < 0; });
  for (size_t i = 1; i < names.size(); i++) {
    if (std::strcmp(names[i - 1], names[i]) == 0) twice = names[i];
  }
  return true;
}

// One name per action of the dynamics, or one per entry of action_codes.
bool read_actions(const Reading& reading, const Object& top, JsonValue names, JsonValue codes,
                  Text default_name, const Allocator& allocator, Manifest& manifest) {
  const int32_t num_actions = manifest.config.dynamics.num_actions;
  const bool has_codes = codes.exists() && codes.count() > 0;
  if (has_codes && codes.count() > kMaxNamedActions) {
    return reading.refuse(top.at("action_codes"), "expected at most %u, found %u", kMaxNamedActions,
                          codes.count());
  }
  const uint32_t wanted = has_codes ? codes.count() : static_cast<uint32_t>(num_actions);
  if (names.count() != wanted) {
    return reading.refuse(top.at("action_names"), "expected %u names, one per %s, found %u", wanted,
                          has_codes ? "entry of action_codes" : "action of the dynamics", names.count());
  }
  if (!manifest.actions.create(allocator, wanted, reading.error)) return false;
  int32_t index = 0;
  manifest.default_action = -1;
  for (JsonValue name = names.first(); name.exists(); name = names.next(name), index++) {
    if (!name.is(JsonKind::kText) || !is_action_name(name.text())) {
      return top.refuse("action_names", "1 to 64 printable characters with no space at the ends", name);
    }
    NamedAction& action = manifest.actions[static_cast<size_t>(index)];
    copy_text(name.text(), action.name);
    action.code = index;
    if (default_name.is(action.name)) manifest.default_action = index;
  }
  index = 0;
  for (JsonValue code = codes.first(); code.exists(); code = codes.next(code), index++) {
    if (!code.is(JsonKind::kWhole) || code.whole() < 0 || code.whole() >= num_actions) {
      char expected[48];
      std::snprintf(expected, sizeof expected, "numbers from 0 to %d", num_actions - 1);
      return top.refuse("action_codes", expected, code);
    }
    manifest.actions[static_cast<size_t>(index)].code = static_cast<int32_t>(code.whole());
  }
  const char* twice;
  if (!names_twice(manifest.actions, allocator, twice, reading.error)) return false;
  if (twice != nullptr) {
    return reading.refuse(top.at("action_names"), "expected every name once, found '%.64s' more often",
                          twice);
  }
  if (manifest.default_action < 0) {
    return reading.refuse(top.at("default_action"), "expected one of action_names, found %s",
                          show_text(default_name).text);
  }
  return true;
}

bool read_plans(const Reading& reading, JsonValue plans, const Place& place, const Allocator& allocator,
                Manifest& manifest) {
  if (!plans.get("default").exists()) {
    return reading.refuse(place, "expected a plan named \"default\", found none");
  }
  if (plans.count() > kMaxPlans) {
    return reading.refuse(place, "expected at most %u, found %u", kMaxPlans, plans.count());
  }
  if (!manifest.plans.create(allocator, plans.count(), reading.error)) return false;
  NamedPlan* plan = manifest.plans.begin();
  for (JsonValue entry = plans.first(); entry.exists(); entry = plans.next(entry), plan++) {
    if (!is_name(entry.key())) {
      return reading.refuse(place, "expected %s, found %s", kNameRule, show_text(entry.key()).text);
    }
    copy_text(entry.key(), plan->name);
    plan->plan = Plan();
    if (!read_plan(reading, entry, {&place, nullptr, entry.key()}, manifest.config, plan->plan)) return false;
  }
  return true;
}

// Before all other checks: another version may well have other keys.
bool check_version(const char* file, JsonValue root, Error& error) {
  if (!root.is(JsonKind::kObject)) return true;
  const JsonValue version = root.get("schema_version");
  const bool is_whole = version.is(JsonKind::kWhole);
  if (is_whole && version.whole() == kSchemaVersion) return true;
  const bool is_newer = is_whole && version.whole() > kSchemaVersion;
  return error.fail(GRT_ERROR_BUNDLE,
                    "%s: expected schema_version %d, the only one that this genie-rt reads, found %s; %s",
                    file, static_cast<int>(kSchemaVersion), version.exists() ? version.show().text : "none",
                    is_newer ? "install a newer genie-rt" : "export the bundle again");
}

bool read_values(const Reading& reading, JsonValue root, const Allocator& allocator, Manifest& manifest) {
  const Object top(reading, root, {nullptr, "Manifest", {}});
  Text name, preset, default_action;
  JsonValue config, names, plans, provenance, files, graphs, codes, int8;
  return top.has_only({"schema_version", "name", "preset", "config", "action_names", "default_action",
                       "plans", "provenance", "files", "graphs", "action_codes", "int8"}) &&
         top.name("name", name) && top.name("preset", preset) && top.object("config", config) &&
         top.list("action_names", names) && top.text("default_action", default_action) &&
         top.object("plans", plans) && top.object("provenance", provenance) && top.object("files", files) &&
         top.object("graphs", graphs, false) && top.list("action_codes", codes, false) &&
         top.object("int8", int8, false) && (copy_text(name, manifest.name), true) &&
         read_config(reading, config, top.at("config"), manifest.config) &&
         read_actions(reading, top, names, codes, default_action, allocator, manifest) &&
         read_plans(reading, plans, top.at("plans"), allocator, manifest) &&
         read_files(reading, files, top.at("files"), allocator, manifest) &&
         read_graphs(reading, graphs, top.at("graphs"), manifest) &&
         read_int8(reading, int8, top.at("int8"), allocator, manifest);
}

}  // namespace

const FileRecord* Manifest::find_file(const char* name) const {
  const FileRecord* found =
      std::lower_bound(files.begin(), files.end(), name,
                       [](const FileRecord& a, const char* b) { return std::strcmp(a.name, b) < 0; });
  return found != files.end() && std::strcmp(found->name, name) == 0 ? found : nullptr;
}

bool parse_manifest(const uint8_t* data, size_t size, const char* file, const Allocator& allocator,
                    Manifest& manifest, Error& error) {
  if (size > kMaxManifestBytes) {
    return error.fail(GRT_ERROR_BUNDLE, "%s: expected at most %llu bytes, found more", file,
                      static_cast<unsigned long long>(kMaxManifestBytes));
  }
  JsonDocument json;
  if (!json.parse(data, size, allocator, error)) {
    if (error.status != GRT_ERROR_BUNDLE) return false;
    const Error reason = error;
    return error.fail(GRT_ERROR_BUNDLE, "%s: expected JSON in UTF-8, found %.200s", file, reason.message);
  }
  Manifest made;
  if (!check_version(file, json.root(), error)) return false;
  if (!read_values({file, error}, json.root(), allocator, made)) return false;
  int32_t passes = 1;
  for (const NamedPlan& plan : made.plans) passes = std::max(passes, plan.plan.passes);
  if (!check_memory(made.config, made.find_file(kWeightsFile)->size, file, passes, error)) return false;
  Sha256 sha256;
  sha256.update(data, size);
  sha256.finish(made.digest);
  manifest = std::move(made);
  return true;
}

bool read_manifest(const Files& files, const Allocator& allocator, Manifest& manifest, Error& error) {
  char shown[Files::kMaxShown];
  files.show(kManifestFile, shown);
  File file;
  if (!file.open(files, kManifestFile, "the bundle's manifest", error)) return false;
  if (file.size() > kMaxManifestBytes) {
    return error.fail(
        GRT_ERROR_BUNDLE, "%s: expected the bundle's manifest of at most %llu bytes, found %llu", shown,
        static_cast<unsigned long long>(kMaxManifestBytes), static_cast<unsigned long long>(file.size()));
  }
  Buffer<uint8_t> data;
  if (!data.create(allocator, static_cast<size_t>(file.size()), error)) return false;
  if (!file.read(data.data(), data.size(), error)) return false;
  return parse_manifest(data.data(), data.size(), shown, allocator, manifest, error);
}

}  // namespace grt
