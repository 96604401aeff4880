// What is wrong with a graph file, in one sentence: "... expected a graph as genie-rt export writes it, found
// ...".
#pragma once

#include "support/error.hpp"

namespace grt {

class Complaint {
 public:
  // `file` is what messages call it; it has to live as long.
  Complaint(const char* file, Error& error) : file_(file), error_(error) {}

  // Says what was found, and returns false.
  [[gnu::format(printf, 2, 3)]] bool fail(const char* format, ...) {
    char found[320];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(found, sizeof found, format, arguments);
    va_end(arguments);
    return error_.fail(GRT_ERROR_BUNDLE,
                       "%s: expected a graph as genie-rt export writes it, found %s; export again", file_,
                       found);
  }

  // For what has other reasons, such as memory.
  Error& error() { return error_; }
  const char* file() const { return file_; }

 private:
  const char* file_;
  Error& error_;
};

}  // namespace grt
