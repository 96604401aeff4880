// A picture of the size that its own header says, and the same bytes as a stream of their own.
#include <vector>

#include "bounded.hpp"
#include "support/inflate.hpp"
#include "support/png.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int32_t width = size > 19 && data[19] > 0 ? data[19] : 1,
                height = size > 23 && data[23] > 0 ? data[23] : 1;
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  {
    const grt::fuzz::Bounded bounded(size + 6 * pixels + 8 * static_cast<size_t>(height) + 64);
    std::vector<uint8_t> rgb(pixels * 3);
    grt::Error error;
    if (!grt::decode_png(data, size, height, width, rgb.data(), "a.png", bounded.allocator(), error)) {
      grt::fuzz::check_refusal(error);
    }
  }
  std::vector<uint8_t> out(pixels);
  const char* found = grt::inflate_zlib(data, size, out.data(), out.size());
  GRT_MUST(found == nullptr || found[0] != 0);
  return 0;
}
