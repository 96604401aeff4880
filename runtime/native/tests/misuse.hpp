// Wrong calls, and what they have to give.
#pragma once

#include "api_fixture.hpp"

namespace grt::test {

inline const TinyFiles* tiny_files;
inline int num_kinds = 0;

// What a wrong call returned and said; `part` has to be in the message.
class Wrong {
 public:
  Wrong() { grt_error_init(&error_); }
  grt_error* operator&() { return &error_; }

  void expect(grt_status found, grt_status expected, const char* part, int line) {
    num_kinds++;
    const bool ok = found == expected && std::strstr(error_.message, part) != nullptr;
    if (!check(ok, __FILE__, line, "a misuse gives its status and message")) {
      std::fprintf(stderr, "    found %s \"%s\", expected %s with \"%s\"\n", grt_status_name(found),
                   error_.message, grt_status_name(expected), part);
    }
    grt_error_init(&error_);
  }

 private:
  grt_error error_;
};

#define WRONG(call, status, part) wrong.expect((call), (status), (part), __LINE__)

// Some number for an enumeration that has no such value. It is only ever copied as bytes.
template <typename T>
void set_number(T& place, int32_t number) {
  static_assert(sizeof place == sizeof number);
  std::memcpy(&place, &number, sizeof number);
}

}  // namespace grt::test
