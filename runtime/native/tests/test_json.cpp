// JSON: what is read, and what is refused as Python's runtime/untrusted_json.py refuses it.
#include "support/json.hpp"

#include <cmath>
#include <string>

#include "check.hpp"

namespace {

bool parse(const std::string& text, grt::JsonDocument& json, grt::Error& error) {
  return json.parse(reinterpret_cast<const uint8_t*>(text.data()), text.size(), grt::Allocator(), error);
}

void takes(const std::string& text) {
  grt::JsonDocument json;
  grt::Error error;
  if (!GRT_CHECK(parse(text, json, error))) {
    std::fprintf(stderr, "    %.60s: %s\n", text.c_str(), error.message);
  }
}

void refuses(const std::string& text, const char* part) {
  grt::JsonDocument json;
  grt::Error error;
  if (!GRT_CHECK(!parse(text, json, error))) std::fprintf(stderr, "    taken: %.60s\n", text.c_str());
  GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
  GRT_CHECK_CONTAINS(error.message, part);
}

std::string nested(int levels, const char* open, const char* close) {
  std::string text;
  for (int i = 0; i < levels; i++) text += open;
  text += "1";
  for (int i = 0; i < levels; i++) text += close;
  return text;
}

void values() {
  grt::JsonDocument json;
  grt::Error error;
  const std::string source =
      R"( {"a": [1, -2, 0.5, true, false, null, "x\n\u00e9\ud83d\ude00\u0000y"], "b": {}, )"
      R"("": {"c": 9223372036854775807, "d": 9223372036854775808, "e": -9223372036854775809, )"
      R"("f": 1e2, "g": -0}, "h": []} )";
  GRT_REQUIRE(parse(source, json, error));
  const grt::JsonValue root = json.root(), list = root.get("a");
  GRT_CHECK(root.is(grt::JsonKind::kObject));
  GRT_CHECK_EQ(root.count(), 4u);
  GRT_CHECK(!root.get("c").exists());
  GRT_CHECK(!list.get("a").exists());
  GRT_CHECK_EQ(list.count(), 7u);
  grt::JsonValue entry = list.first();
  GRT_CHECK_EQ(entry.whole(), 1);
  entry = list.next(entry);
  GRT_CHECK_EQ(entry.whole(), -2);
  entry = list.next(entry);
  GRT_CHECK(entry.is(grt::JsonKind::kFraction) && entry.number() == 0.5);
  entry = list.next(entry);
  GRT_CHECK(entry.is(grt::JsonKind::kTrue));
  entry = list.next(entry);
  GRT_CHECK(entry.is(grt::JsonKind::kFalse));
  entry = list.next(entry);
  GRT_CHECK(entry.is(grt::JsonKind::kNull));
  entry = list.next(entry);
  const grt::Text text = entry.text();
  GRT_CHECK(std::string(text.data, text.size) == std::string("x\n\xc3\xa9\xf0\x9f\x98\x80\0y", 10));
  GRT_CHECK(!list.next(entry).exists());
  GRT_CHECK(!root.get("b").first().exists());
  GRT_CHECK(!root.get("h").first().exists());
  const grt::JsonValue inner = root.get("");
  GRT_CHECK_EQ(inner.get("c").whole(), INT64_MAX);
  GRT_CHECK_EQ(inner.get("d").whole(), INT64_MAX);
  GRT_CHECK_EQ(inner.get("e").whole(), INT64_MIN);
  GRT_CHECK(inner.get("f").is(grt::JsonKind::kFraction) && inner.get("f").number() == 100);
  GRT_CHECK(inner.get("g").is(grt::JsonKind::kWhole) && inner.get("g").whole() == 0);
  GRT_CHECK(inner.first().key().is("c"));
  GRT_CHECK(inner.next(inner.first()).key().is("d"));
}

void taken() {
  for (const char* text : {"1",
                           "-1.5e+3",
                           "\"\"",
                           "[]",
                           "{}",
                           " \t\r\n[ ] ",
                           "[1,[2,[3]]]",
                           "true",
                           "null",
                           "0",
                           "-0",
                           "0.0",
                           "1E9",
                           "1e308",
                           "0e999999",
                           "1e-999",
                           "\"\\\\ud800\"",
                           "\"\x7f\"",
                           "{\"a\":{\"a\":1},\"b\":{\"a\":1}}",
                           "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
                           "{\"a\":1,\"A\":2,\"\":3}"}) {
    takes(text);
  }
  takes(std::string(41, '9'));
  takes("-" + std::string(40, '9'));
  takes("0." + std::string(2000, '9'));
  takes(nested(65, "[", "]"));
  takes(nested(65, "{\"a\":", "}"));
  takes(std::string("\"\xef\xbf\xbf\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\""));
}

void refused() {
  for (const char* text : {"",
                           " ",
                           "[",
                           "{",
                           "[1",
                           "[1,",
                           "[1,]",
                           "[,1]",
                           "{,}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{'a':1}",
                           "{1:2}",
                           "[1 2]",
                           "{\"a\" 1}",
                           "tru",
                           "nul",
                           "None",
                           "True",
                           "1 2",
                           "[]]",
                           "01",
                           "1.",
                           ".5",
                           "+1",
                           "1e",
                           "1e+",
                           "0x10",
                           "--1",
                           "-",
                           "NaN",
                           "Infinity",
                           "-Infinity",
                           "\"",
                           "\"a",
                           "\"\\\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\\u",
                           "/**/1",
                           "\xef\xbb\xbf{}",
                           "\"\t\"",
                           "\"\n\"",
                           "[\"a\":1]"}) {
    refuses(text, "at byte");
  }
  refuses("1e400", "not finite");
  refuses("-1e999", "not finite");
  refuses("1" + std::string(400, '0') + ".5", "not finite");
  refuses("1.8e308", "not finite");
  refuses(std::string(42, '9'), "too many digits");
  refuses("-" + std::string(41, '9'), "too many digits");
  refuses(nested(66, "[", "]"), "64 levels");
  refuses(nested(66, "{\"a\":", "}"), "64 levels");
  refuses(std::string(100000, '['), "64 levels");
  for (const char* half : {"\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\"",
                           "\"\\udc00\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\n\""}) {
    refuses(half, "surrogate");
  }
  for (const char* bytes : {"\"\x80\"", "\"\xc0\x80\"", "\"\xc1\xbf\"", "\"\xe0\x80\x80\"",
                            "\"\xed\xa0\x80\"", "\"\xf0\x80\x80\x80\"", "\"\xf4\x90\x80\x80\"",
                            "\"\xf5\x80\x80\x80\"", "\"\xc3\"", "\"\xe2\x82\"", "\"\xff\""}) {
    refuses(bytes, "UTF-8");
  }
  refuses("{\"a\":1,\"b\":2,\"a\":3}", "the key 'a' more than once");
  refuses("[{\"x\":{\"\":1,\"\\u0000\":2,\"\":3}}]", "the key '' more than once");
  refuses("{\"\\u0061\":1,\"a\":2}", "the key 'a' more than once");
}

// A wide object whose keys are all different is sorted, not compared each with each.
void many_keys() {
  std::string text = "{";
  for (int i = 0; i < 200000; i++) {
    char key[32];
    std::snprintf(key, sizeof key, "\"%d\":0,", i * 7919 % 200000);
    text += key;
  }
  takes(text + "\"x\":0}");
  refuses(text + "\"199999\":0}", "the key '199999' more than once");
}

struct Counted {
  size_t held = 0, most = 0, left = SIZE_MAX;
};

void* allocate(void* user, size_t size, size_t) {
  Counted& counted = *static_cast<Counted*>(user);
  if (counted.left-- == 0) return nullptr;
  counted.held += size;
  if (counted.held > counted.most) counted.most = counted.held;
  return std::malloc(size);
}

void release(void* user, void* memory, size_t size) {
  static_cast<Counted*>(user)->held -= size;
  std::free(memory);
}

void memory() {
  Counted counted;
  grt_allocator hooks;
  grt_allocator_init(&hooks);
  hooks.allocate = allocate;
  hooks.release = release;
  hooks.user = &counted;
  for (const char* unit :
       {"1,", "[],", "\"\",", "{\"\":1},", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",", "0.5,"}) {
    std::string text = "[";
    for (int i = 0; i < 1000; i++) text += unit;
    text += "1]";
    grt::JsonDocument json;
    grt::Error error;
    const uint8_t* data = reinterpret_cast<const uint8_t*>(text.data());
    counted = {};
    GRT_CHECK(json.parse(data, text.size(), grt::Allocator(hooks), error));
    GRT_CHECK(counted.most <= 11 * text.size() + 256);
    size_t num_failed = 0;
    for (bool ok = false; !ok; num_failed += !ok) {
      grt::JsonDocument other;
      const size_t held = counted.held;
      counted.left = num_failed;
      ok = other.parse(data, text.size(), grt::Allocator(hooks), error);
      if (ok) break;
      GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_OUT_OF_MEMORY));
      GRT_CHECK_EQ(counted.held, held);
    }
    GRT_CHECK(num_failed >= 1 && num_failed <= 3);
    counted.left = SIZE_MAX;
  }
}

void shown() {
  GRT_CHECK_TEXT(grt::show_text({"a'b\\", 4}).text, "'a\\'b\\\\'");
  GRT_CHECK_TEXT(grt::show_text({"\x1b[2J\xe2\x80\xae", 7}).text, "'\\u{1b}[2J\\u{202e}'");
  const std::string many(1000, 'x');
  GRT_CHECK(std::strlen(grt::show_text({many.data(), many.size()}).text) < grt::JsonValue::kMaxShown);
  const std::string wide = [] {
    std::string text;
    for (int i = 0; i < 100; i++) text += "\xf4\x8f\xbf\xbf";
    return text;
  }();
  GRT_CHECK(std::strlen(grt::show_text({wide.data(), wide.size()}).text) < grt::JsonValue::kMaxShown);
}

}  // namespace

int main() {
  values();
  taken();
  refused();
  many_keys();
  memory();
  shown();
  return grt::test::failures();
}
