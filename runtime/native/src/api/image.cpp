#include "api/image.hpp"

#include <cstring>

#include "api/structs.hpp"

namespace grt {
namespace {

size_t pixel_bytes(grt_format format) { return format == GRT_FORMAT_RGB8 ? 3 : 4; }

}  // namespace

bool check_image(const grt_image* image, int32_t width, int32_t height, const char* parameter,
                 grt_image& checked, Error& error) {
  grt_image copy = {};
  if (!read_struct(image, copy, parameter, "grt_image", error)) return false;
  const int32_t format = number_of(copy.format);
  if (format != GRT_FORMAT_RGB8 && format != GRT_FORMAT_RGBA8 && format != GRT_FORMAT_BGRA8) {
    return error.fail(
        GRT_ERROR_INPUT,
        "%s: expected the format GRT_FORMAT_RGB8, GRT_FORMAT_RGBA8 or GRT_FORMAT_BGRA8, found %d", parameter,
        format);
  }
  if (copy.pixels == nullptr) {
    return error.fail(GRT_ERROR_INPUT, "%s: expected memory for %d x %d pixels, found pixels NULL", parameter,
                      width, height);
  }
  // A row is at most 2^21 pixels, so only the pitch can be too large to multiply.
  const size_t row = static_cast<size_t>(width) * pixel_bytes(copy.format);
  if (copy.pitch == 0) copy.pitch = row;
  if (copy.pitch < row) {
    return error.fail(GRT_ERROR_INPUT, "%s: expected a pitch of %zu bytes or more for %d pixels, found %zu",
                      parameter, row, width, copy.pitch);
  }
  const size_t gaps = static_cast<size_t>(height) - 1;
  const bool fits = copy.size >= row && (gaps == 0 || copy.pitch <= (copy.size - row) / gaps);
  if (!fits) {
    return error.fail(GRT_ERROR_INPUT,
                      "%s: expected %d rows of %zu bytes, %zu bytes apart, found a size of %zu bytes",
                      parameter, height, row, copy.pitch, copy.size);
  }
  checked = copy;
  return true;
}

void write_image(const grt_image& image, int32_t width, int32_t height, const uint8_t* rgb) {
  const auto count = static_cast<size_t>(width);
  for (int32_t y = 0; y < height; y++) {
    const uint8_t* from = rgb + static_cast<size_t>(y) * count * 3;
    uint8_t* to = static_cast<uint8_t*>(image.pixels) + static_cast<size_t>(y) * image.pitch;
    if (image.format == GRT_FORMAT_RGB8) {
      std::memcpy(to, from, count * 3);
    } else {
      const int red = image.format == GRT_FORMAT_RGBA8 ? 0 : 2;
      for (size_t x = 0; x < count; x++, from += 3, to += 4) {
        to[red] = from[0];
        to[1] = from[1];
        to[2 - red] = from[2];
        to[3] = 255;
      }
    }
  }
}

void read_image(const grt_image& image, int32_t width, int32_t height, uint8_t* rgb) {
  const auto count = static_cast<size_t>(width);
  for (int32_t y = 0; y < height; y++) {
    const uint8_t* from = static_cast<const uint8_t*>(image.pixels) + static_cast<size_t>(y) * image.pitch;
    uint8_t* to = rgb + static_cast<size_t>(y) * count * 3;
    if (image.format == GRT_FORMAT_RGB8) {
      std::memcpy(to, from, count * 3);
    } else {
      const int red = image.format == GRT_FORMAT_RGBA8 ? 0 : 2;
      for (size_t x = 0; x < count; x++, from += 4, to += 3) {
        to[0] = from[red];
        to[1] = from[1];
        to[2] = from[2 - red];
      }
    }
  }
}

}  // namespace grt
