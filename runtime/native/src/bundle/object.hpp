// Objects of bundle.json, key by key; whatever is not as it has to be is refused by its name.
#pragma once

#include <initializer_list>

#include "support/json.hpp"

namespace grt {

// Where a value stands, for messages: "Manifest.plans['fast'].passes".
struct Place {
  const Place* parent = nullptr;
  const char* name = nullptr;  // of a field, or null: the key below
  Text key;
};

// The file that is read, and where its refusal goes.
struct Reading {
  const char* file;
  Error& error;

  // "FILE: PLACE: MESSAGE", with the status GRT_ERROR_BUNDLE. Returns false.
  [[gnu::format(printf, 3, 4)]] bool refuse(const Place& place, const char* format, ...) const;
};

class Object {
 public:
  Object(const Reading& reading, JsonValue value, const Place& place)
      : reading_(reading), value_(value), place_(place) {}

  // It is an object, and has no other keys than these.
  bool has_only(std::initializer_list<const char*> known) const;

  // Fields. Of one that is absent and not required `value` stays as it is.
  bool whole(const char* key, int64_t low, int64_t high, int32_t& value, bool required = true) const;
  bool number(const char* key, double low, double high, double& value, bool required = true) const;
  bool truth(const char* key, bool& value) const;
  bool text(const char* key, Text& value, bool required = true) const;
  bool name(const char* key, Text& value) const;  // as `is_name` has it
  bool choice(const char* key, std::initializer_list<const char*> known, int32_t& value) const;

  // A list or object; `value` stays absent where the key is and is not required, or where it is null.
  bool list(const char* key, JsonValue& value, bool required = true) const;
  bool object(const char* key, JsonValue& value, bool required = true) const;

  Place at(const char* key) const { return {&place_, key, {}}; }
  const Place& place() const { return place_; }
  bool refuse(const char* key, const char* expected, JsonValue found) const;

 private:
  JsonValue get(const char* key, bool required, bool& ok) const;

  const Reading& reading_;
  JsonValue value_;
  Place place_;
};

// 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit.
bool is_name(Text text);
inline constexpr char kNameRule[] = "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit";

// A number within bounds, as JSON's value of a float: whole ones up to 2^53 are numbers too.
bool as_number(JsonValue value, double low, double high, double& number);

// Copies a text that is known to fit, with NUL.
template <size_t kSize>
void copy_text(Text text, char (&to)[kSize]) {
  const size_t size = text.size < kSize ? text.size : kSize - 1;
  std::memcpy(to, text.data, size);
  to[size] = 0;
}

}  // namespace grt
