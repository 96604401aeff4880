// Pictures of tests/data/png, which tests/runtime/native/make_pictures.py wrote: every filter, kind of block
// and interlacing; and those that are refused, with what is said of them.
#include "support/png.hpp"

#include <cstdio>
#include <string>
#include <vector>

#include "check.hpp"

namespace {

constexpr int32_t kHeight = 9, kWidth = 13;

std::vector<uint8_t> read(const std::string& name) {
  std::vector<uint8_t> data;
  std::FILE* file = std::fopen(("runtime/native/tests/data/png/" + name + ".png").c_str(), "rb");
  if (!GRT_CHECK(file != nullptr)) {
    std::fprintf(stderr, "    %s; run this in the repository's root\n", name.c_str());
    return data;
  }
  for (int byte; (byte = std::fgetc(file)) != EOF;) data.push_back(static_cast<uint8_t>(byte));
  std::fclose(file);
  return data;
}

bool decode(const std::vector<uint8_t>& data, uint8_t* rgb, grt::Error& error) {
  return grt::decode_png(data.data(), data.size(), kHeight, kWidth, rgb, "a.png", grt::Allocator(), error);
}

bool is_right(const uint8_t* rgb) {
  for (int y = 0; y < kHeight; y++) {
    for (int x = 0; x < kWidth; x++) {
      for (int c = 0; c < 3; c++) {
        if (rgb[(y * kWidth + x) * 3 + c] != (37 * x + 59 * y + 101 * c + 7 * x * y) % 256) return false;
      }
    }
  }
  return true;
}

void taken() {
  for (const char* name : {"filter-0",    "filter-1",           "filter-2",
                           "filter-3",    "filter-4",           "filters",
                           "pillow",      "pillow-smallest",    "stored",
                           "fixed-codes", "codes-alone",        "pieces",
                           "16-bit",      "interlaced",         "interlaced-16-bit",
                           "text",        "transparent-colour", "more-rows",
                           "without-end", "checksum-of-pixels"}) {
    uint8_t rgb[kHeight * kWidth * 3];
    std::memset(rgb, 0xEE, sizeof rgb);
    grt::Error error;
    if (!GRT_CHECK(decode(read(name), rgb, error) && is_right(rgb))) {
      std::fprintf(stderr, "    %s: %s\n", name, error.message);
    }
  }
}

void refused() {
  constexpr struct {
    const char *name, *part;
  } cases[] = {
      {"no-grey", "found a grey one, 9 high and 13 wide"},
      {"no-grey-alpha", "found a grey one with alpha"},
      {"no-grey-16-bit", "found a grey one"},
      {"no-black-and-white", "found a grey one"},
      {"no-palette", "found one with a palette"},
      {"no-alpha", "found RGB with alpha"},
      {"no-tall", "expected an RGB picture 9 high and 13 wide, found RGB, 10 high and 13 wide"},
      {"no-wide", "found RGB, 9 high and 14 wide"},
      {"no-huge", "found RGB, 2147483647 high and 2147483647 wide"},
      {"no-depth", "expected an RGB picture"},
      {"no-filter", "an unknown filter"},
      {"no-filter-method", "an unknown filter"},
      {"no-rows", "a stream that ends early"},
      {"no-checksum", "a chunk whose checksum is wrong"},
      {"no-chunk", "a chunk that ends early"},
      {"no-short-colour", "a chunk that is too short"},
      {"no-pixels", "no pixels"},
      {"no-header", "found one of an unknown kind"},
      {"no-stream", "no zlib stream"},
      {"no-checksum-of-rows", "a checksum that is wrong"},
      {"no-dictionary", "no zlib stream"},
      {"no-kind", "a block of an unknown kind"},
      {"no-length", "a block whose length is wrong"},
      {"no-distance", "a distance that is too far"},
      {"no-symbols", "a block of too many symbols"},
      {"no-codes", "a code that is none"},
      {"no-half", "a stream that ends early"},
      {"no-jpeg", "no signature of PNG"},
      {"no-bytes", "no signature of PNG"},
      {"no-more-than-a-signature", "no chunk where one is expected"},
  };
  for (const auto& each : cases) {
    uint8_t rgb[kHeight * kWidth * 3];
    grt::Error error;
    if (!GRT_CHECK(!decode(read(each.name), rgb, error))) std::fprintf(stderr, "    %s\n", each.name);
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
    GRT_CHECK_CONTAINS(error.message, "a.png: ");
    GRT_CHECK_CONTAINS(error.message, each.part);
  }
}

// Cut off anywhere, a picture is refused or, where only what is behind its pixels is gone, the same.
void cut() {
  for (const char* name : {"filters", "stored", "pieces", "text"}) {
    std::vector<uint8_t> data = read(name);
    while (!data.empty()) {
      data.pop_back();
      std::vector<uint8_t> exact(data);  // a read beyond its end is seen by a sanitizer
      exact.shrink_to_fit();
      uint8_t rgb[kHeight * kWidth * 3];
      grt::Error error;
      if (decode(exact, rgb, error)) GRT_CHECK(is_right(rgb));
    }
  }
}

}  // namespace

int main() {
  taken();
  refused();
  cut();
  return grt::test::failures();
}
