// The frame of every call of the header that can fail: hands the message over, and returns the status.
#pragma once

#include "api/structs.hpp"

namespace grt {

// Writes a message as far as it fits, in UTF-8.
void write_message(grt_error* out, const Error& error);

// Runs `body(error)`, which returns whether it succeeded. A grt_error that was not set up is refused: there
// would be no place for the message.
template <typename Body>
grt_status call(grt_error* out, Body body) {
  if (out != nullptr && !is_struct_size<grt_error>(out->struct_size)) return GRT_ERROR_INPUT;
  Error error;
  const bool ok = body(error);
  if (ok) error = {};
  if (out != nullptr) write_message(out, error);
  return ok ? GRT_OK : error.status;
}

}  // namespace grt
