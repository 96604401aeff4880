// Checks for the test programs: each prints what failed and goes on; main returns `failures()`.
//
//     int main() {
//       GRT_CHECK(1 + 1 == 2);
//       GRT_CHECK_EQ(count, 3);
//       GRT_CHECK_STATUS(grt_world_load(nullptr, nullptr, &world, &error), GRT_ERROR_INPUT);
//       return grt::test::failures();
//     }
#pragma once

#include <atomic>
#include <cstdio>
#include <cstring>
#include <type_traits>

namespace grt::test {

inline std::atomic<int> num_failed{0};
inline std::atomic<int> num_checked{0};

inline bool check(bool ok, const char* file, int line, const char* what) {
  num_checked++;
  if (ok) return true;
  num_failed++;
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  return false;
}

template <typename A, typename B>
bool check_equal(const A& found, const B& expected, const char* file, int line, const char* what) {
  if (check(found == expected, file, line, what)) return true;
  if constexpr (std::is_convertible_v<A, double> && std::is_convertible_v<B, double>) {
    std::fprintf(stderr, "    found %.17g, expected %.17g\n", static_cast<double>(found),
                 static_cast<double>(expected));
  }
  return false;
}

inline bool check_text(const char* found, const char* expected, const char* file, int line,
                       const char* what) {
  const bool ok = found != nullptr && expected != nullptr && std::strcmp(found, expected) == 0;
  if (check(ok, file, line, what)) return true;
  std::fprintf(stderr, "    found \"%s\", expected \"%s\"\n", found != nullptr ? found : "(null)",
               expected != nullptr ? expected : "(null)");
  return false;
}

inline bool check_contains(const char* found, const char* part, const char* file, int line,
                           const char* what) {
  if (check(found != nullptr && std::strstr(found, part) != nullptr, file, line, what)) return true;
  std::fprintf(stderr, "    found \"%s\", expected \"%s\" in it\n", found != nullptr ? found : "(null)",
               part);
  return false;
}

// What main returns: 0 if every check held, and if there was one.
inline int failures() {
  std::fprintf(stderr, "%d checks, %d failed\n", num_checked.load(), num_failed.load());
  return num_failed == 0 && num_checked > 0 ? 0 : 1;
}

}  // namespace grt::test

#define GRT_CHECK(condition) grt::test::check((condition), __FILE__, __LINE__, #condition)
#define GRT_CHECK_EQ(found, expected) \
  grt::test::check_equal((found), (expected), __FILE__, __LINE__, #found " == " #expected)
#define GRT_CHECK_TEXT(found, expected) \
  grt::test::check_text((found), (expected), __FILE__, __LINE__, #found " is " #expected)
#define GRT_CHECK_CONTAINS(found, part) \
  grt::test::check_contains((found), (part), __FILE__, __LINE__, #found " contains " #part)
#define GRT_CHECK_STATUS(call, status) GRT_CHECK_EQ(static_cast<int>(call), static_cast<int>(status))

// Leaves the function where the rest of it would have nothing to go on with.
#define GRT_REQUIRE(condition)         \
  do {                                 \
    if (!GRT_CHECK(condition)) return; \
  } while (0)
