// Pictures in the caller's memory, in three formats and with any pitch.
#pragma once

#include <cstdint>

#include "support/error.hpp"

namespace grt {

// Whether an image of the caller can hold width x height pixels; `parameter` names it in the message. A copy
// with the pitch filled in goes to `checked`.
[[nodiscard]] bool check_image(const grt_image* image, int32_t width, int32_t height, const char* parameter,
                               grt_image& checked, Error& error);

// RGB rows [height, width, 3] to a checked image, and back.
void write_image(const grt_image& image, int32_t width, int32_t height, const uint8_t* rgb);
void read_image(const grt_image& image, int32_t width, int32_t height, uint8_t* rgb);

}  // namespace grt
