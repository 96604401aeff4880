#include "bundle/object.hpp"

#include <algorithm>

namespace grt {

namespace {

constexpr size_t kMaxPlace = 160;
constexpr size_t kMaxCompared = 32;  // characters of a key that is compared with known ones

void write_place(const Place& place, char (&text)[kMaxPlace]) {
  if (place.parent != nullptr) write_place(*place.parent, text);
  const size_t used = std::strlen(text), room = kMaxPlace - used;
  if (place.name != nullptr) {
    std::snprintf(text + used, room, "%s%s", used > 0 ? "." : "", place.name);
  } else {
    std::snprintf(text + used, room, "[%.40s]", show_text(place.key).text);
  }
}

// How many letters have to be put in, taken out or changed.
size_t distance(Text a, const char* b) {
  const size_t length = std::strlen(b);
  if (a.size > kMaxCompared || length > kMaxCompared) return kMaxCompared;
  size_t row[kMaxCompared + 1];
  for (size_t j = 0; j <= length; j++) row[j] = j;
  for (size_t i = 0; i < a.size; i++) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < length; j++) {
      const size_t changed = diagonal + (a.data[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, diagonal + 1});
    }
  }
  return row[length];
}

// The known key that is nearest, null if none is near.
const char* nearest(Text key, std::initializer_list<const char*> known) {
  const char* best = nullptr;
  size_t least = 1 + key.size / 2;
  for (const char* each : known) {
    if (const size_t steps = distance(key, each); steps < least) {
      least = steps;
      best = each;
    }
  }
  return best;
}

}  // namespace

bool Reading::refuse(const Place& place, const char* format, ...) const {
  char where[kMaxPlace] = "", message[GRT_MESSAGE_BYTES];
  write_place(place, where);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return error.fail(GRT_ERROR_BUNDLE, "%s: %s: %s", file, where, message);
}

bool Object::has_only(std::initializer_list<const char*> known) const {
  if (!value_.is(JsonKind::kObject)) {
    return reading_.refuse(place_, "expected an object, found %s", value_.show().text);
  }
  for (JsonValue entry = value_.first(); entry.exists(); entry = value_.next(entry)) {
    const Text key = entry.key();
    if (std::any_of(known.begin(), known.end(), [&](const char* each) { return key.is(each); })) continue;
    if (const char* near = nearest(key, known)) {
      return reading_.refuse(place_, "unknown key %s; did you mean '%s'?", show_text(key).text, near);
    }
    char valid[200] = "";
    for (const char* each : known) {
      const size_t used = std::strlen(valid);
      std::snprintf(valid + used, sizeof valid - used, "%s%s", used > 0 ? ", " : "", each);
    }
    return reading_.refuse(place_, "unknown key %s; valid keys are %s", show_text(key).text, valid);
  }
  return true;
}

JsonValue Object::get(const char* key, bool required, bool& ok) const {
  const JsonValue found = value_.get(key);
  ok = found.exists() || !required || reading_.refuse(place_, "the key '%s' is missing", key);
  return found;
}

bool Object::refuse(const char* key, const char* expected, JsonValue found) const {
  return reading_.refuse(at(key), "expected %s, found %s", expected, found.show().text);
}

bool Object::whole(const char* key, int64_t low, int64_t high, int32_t& value, bool required) const {
  bool ok;
  const JsonValue found = get(key, required, ok);
  if (!found.exists()) return ok;
  if (!found.is(JsonKind::kWhole) || found.whole() < low || found.whole() > high) {
    char expected[80];
    std::snprintf(expected, sizeof expected, "a whole number from %lld to %lld", static_cast<long long>(low),
                  static_cast<long long>(high));
    return refuse(key, expected, found);
  }
  value = static_cast<int32_t>(found.whole());
  return true;
}

bool Object::number(const char* key, double low, double high, double& value, bool required) const {
  bool ok;
  const JsonValue found = get(key, required, ok);
  if (!found.exists()) return ok;
  if (as_number(found, low, high, value)) return true;
  char expected[80];
  std::snprintf(expected, sizeof expected, "a number from %g to %g", low, high);
  return refuse(key, expected, found);
}

bool Object::truth(const char* key, bool& value) const {
  const JsonValue found = value_.get(key);
  if (!found.exists()) return true;
  if (!found.is_bool()) return refuse(key, "true or false", found);
  value = found.is(JsonKind::kTrue);
  return true;
}

bool Object::text(const char* key, Text& value, bool required) const {
  bool ok;
  const JsonValue found = get(key, required, ok);
  if (!found.exists()) return ok;
  if (!found.is(JsonKind::kText)) return refuse(key, "a text", found);
  value = found.text();
  return true;
}

bool Object::name(const char* key, Text& value) const {
  if (!text(key, value)) return false;
  return is_name(value) || refuse(key, kNameRule, value_.get(key));
}

bool Object::choice(const char* key, std::initializer_list<const char*> known, int32_t& value) const {
  const JsonValue found = value_.get(key);
  if (!found.exists()) return true;
  if (found.is(JsonKind::kText)) {
    int32_t index = 0;
    for (const char* each : known) {
      if (found.text().is(each)) return value = index, true;
      index++;
    }
  }
  char expected[120] = "";
  for (const char* each : known) {
    const size_t used = std::strlen(expected);
    std::snprintf(expected + used, sizeof expected - used, "%s%s", used > 0 ? ", " : "one of ", each);
  }
  return refuse(key, expected, found);
}

bool Object::list(const char* key, JsonValue& value, bool required) const {
  bool ok;
  const JsonValue found = get(key, required, ok);
  if (!found.exists()) return ok;
  if (!found.is(JsonKind::kList)) return refuse(key, "a list", found);
  value = found;
  return true;
}

bool Object::object(const char* key, JsonValue& value, bool required) const {
  bool ok;
  const JsonValue found = get(key, required, ok);
  if (!found.exists() || (!required && found.is(JsonKind::kNull))) return ok;
  if (!found.is(JsonKind::kObject)) return refuse(key, "an object", found);
  value = found;
  return true;
}

bool is_name(Text text) {
  if (text.size < 1 || text.size > 64) return false;
  for (size_t i = 0; i < text.size; i++) {
    const char c = text.data[i];
    const bool is_alphanumeric = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!is_alphanumeric && (i == 0 || (c != '.' && c != '_' && c != '-'))) return false;
  }
  return true;
}

bool as_number(JsonValue value, double low, double high, double& number) {
  constexpr int64_t kMostExact = int64_t{1} << 53;
  if (!value.is(JsonKind::kFraction) && !value.is(JsonKind::kWhole)) return false;
  if (value.is(JsonKind::kWhole) && (value.whole() > kMostExact || value.whole() < -kMostExact)) return false;
  const double found = value.number();
  if (!(low <= found && found <= high)) return false;
  number = found;
  return true;
}

}  // namespace grt
