#include "support/png.hpp"

#include "support/inflate.hpp"

namespace grt {

namespace {

constexpr uint8_t kSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

uint32_t read_32(const uint8_t* data) {
  return uint32_t{data[0]} << 24 | uint32_t{data[1]} << 16 | uint32_t{data[2]} << 8 | data[3];
}

// CRC-32 as PNG has it, of a chunk's name and data: four bits at a time.
uint32_t checksum(const uint8_t* data, size_t size) {
  static constexpr uint32_t kTable[16] = {
      0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
      0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; i++) {
    crc ^= data[i];
    crc = crc >> 4 ^ kTable[crc & 15];
    crc = crc >> 4 ^ kTable[crc & 15];
  }
  return ~crc;
}

struct Chunk {
  const uint8_t* data;
  size_t size;

  bool is(const char* name) const { return std::memcmp(data - 4, name, 4) == 0; }
};

// The chunk at `at`, which goes on to the next one; false where there is none.
bool next_chunk(const uint8_t* data, size_t size, size_t& at, Chunk& chunk) {
  if (size - at < 12) return false;
  const uint32_t length = read_32(data + at);
  if (length > size - at - 12) return false;
  chunk = {data + at + 8, length};
  at += size_t{12} + length;
  return true;
}

bool is_chunk_name(const uint8_t* name) {
  for (int i = 0; i < 4; i++) {
    const uint8_t c = name[i];
    const bool is_word =
        (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    if (!is_word) return false;
  }
  return true;
}

// Chunks that say something about the picture, and how short they may not be.
constexpr struct {
  const char* name;
  size_t least;
} kShortest[] = {{"IHDR", 13}, {"tRNS", 6}, {"gAMA", 4}, {"cHRM", 32},
                 {"sRGB", 1},  {"pHYs", 9}, {"acTL", 8}, {"fcTL", 26}};

const char* kind_name(int colour) {
  switch (colour) {
    case 0:
      return "a grey one";
    case 2:
      return "RGB";
    case 3:
      return "one with a palette";
    case 4:
      return "a grey one with alpha";
    case 6:
      return "RGB with alpha";
    default:
      return "one of an unknown kind";
  }
}

struct Header {
  uint32_t width = 0, height = 0;
  int depth = 0, colour = -1;
  bool is_interlaced = false, is_known_filter = true;
};

// The pixels of one pass: all of them, or one of the seven of an interlaced picture.
struct Pass {
  int32_t x, y, step_x, step_y;
};
constexpr Pass kWhole[] = {{0, 0, 1, 1}};
constexpr Pass kAdam7[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                           {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

int32_t count_along(int32_t size, int32_t first, int32_t step) {
  return size > first ? (size - first + step - 1) / step : 0;
}

uint8_t paeth(int left, int above, int corner) {
  const int guess = left + above - corner;
  const int to_left = guess < left ? left - guess : guess - left;
  const int to_above = guess < above ? above - guess : guess - above;
  const int to_corner = guess < corner ? corner - guess : guess - corner;
  if (to_left <= to_above && to_left <= to_corner) return static_cast<uint8_t>(left);
  return static_cast<uint8_t>(to_above <= to_corner ? above : corner);
}

// Undoes the filter of a row in place; `above` is the row before it, or null.
bool undo_filter(uint8_t filter, uint8_t* row, const uint8_t* above, size_t size, size_t pixel) {
  if (filter > 4) return false;
  for (size_t i = 0; i < size; i++) {
    const int left = i >= pixel ? row[i - pixel] : 0, up = above != nullptr ? above[i] : 0;
    const int corner = i >= pixel && above != nullptr ? above[i - pixel] : 0;
    int guess = 0;
    if (filter == 1) guess = left;
    if (filter == 2) guess = up;
    if (filter == 3) guess = (left + up) / 2;
    if (filter == 4) guess = paeth(left, up, corner);
    row[i] = static_cast<uint8_t>(row[i] + guess);
  }
  return true;
}

// What is wrong with the chunks before the pixels, or null.
const char* read_header(const uint8_t* data, size_t size, size_t& at, Header& header) {
  if (size < sizeof kSignature || std::memcmp(data, kSignature, sizeof kSignature) != 0) {
    return "no signature of PNG";
  }
  at = sizeof kSignature;
  for (;;) {
    const size_t begin = at;
    if (size - at < 8 || !is_chunk_name(data + at + 4)) return "no chunk where one is expected";
    Chunk chunk{data + at + 8, 0};
    if (chunk.is("IDAT")) return nullptr;
    if (chunk.is("IEND")) return "no pixels";
    if (!next_chunk(data, size, at, chunk)) return "a chunk that ends early";
    if (read_32(chunk.data + chunk.size) != checksum(data + begin + 4, 4 + chunk.size)) {
      return "a chunk whose checksum is wrong";
    }
    for (const auto& each : kShortest) {
      if (chunk.is(each.name) && chunk.size < each.least) return "a chunk that is too short";
    }
    if (!chunk.is("IHDR")) continue;
    header.width = read_32(chunk.data);
    header.height = read_32(chunk.data + 4);
    header.depth = chunk.data[8];
    header.colour = chunk.data[9];
    header.is_interlaced = chunk.data[12] != 0;
    if (chunk.data[11] != 0) return "an unknown filter";
  }
}

}  // namespace

bool decode_png(const uint8_t* data, size_t size, int32_t height, int32_t width, uint8_t* rgb,
                const char* shown, const Allocator& allocator, Error& error) {
  const auto refuse = [&](const char* found) {
    return error.fail(GRT_ERROR_BUNDLE,
                      "%s: expected a PNG picture, found a file that cannot be decoded (%s)", shown, found);
  };
  Header header;
  size_t at = 0;
  if (const char* problem = read_header(data, size, at, header)) return refuse(problem);
  const bool is_rgb = header.colour == 2 && (header.depth == 8 || header.depth == 16);
  if (!is_rgb || header.width != static_cast<uint32_t>(width) ||
      header.height != static_cast<uint32_t>(height)) {
    return error.fail(GRT_ERROR_BUNDLE,
                      "%s: expected an RGB picture %d high and %d wide, found %s, %u high and %u wide", shown,
                      height, width, kind_name(header.colour), header.height, header.width);
  }

  // The pixels' chunks, one after the other; what comes behind them says nothing that is needed.
  Buffer<uint8_t> packed, rows;
  if (!packed.create(allocator, size - at, error)) return false;
  size_t packed_size = 0;
  bool is_cut = false;
  while (size - at >= 8 && std::memcmp(data + at + 4, "IDAT", 4) == 0) {
    const size_t length = read_32(data + at);
    is_cut = length > size - at - 8;  // there may be enough of it
    const size_t taken = is_cut ? size - at - 8 : length;
    if (taken > 0) std::memcpy(packed.data() + packed_size, data + at + 8, taken);
    packed_size += taken;
    at += 8 + taken;
    at += size - at < 4 ? size - at : 4;
  }

  const size_t pixel = header.depth == 16 ? 6 : 3;
  const Pass* passes = header.is_interlaced ? kAdam7 : kWhole;
  const int num_passes = header.is_interlaced ? 7 : 1;
  size_t total = 0;
  for (int i = 0; i < num_passes; i++) {
    const size_t across = static_cast<size_t>(count_along(width, passes[i].x, passes[i].step_x));
    const size_t down = static_cast<size_t>(count_along(height, passes[i].y, passes[i].step_y));
    if (across > 0) total += down * (1 + across * pixel);
  }
  if (!rows.create(allocator, total, error)) return false;
  if (const char* problem = inflate_zlib(packed.data(), packed_size, rows.data(), total))
    return refuse(problem);

  uint8_t* row = rows.data();
  for (int i = 0; i < num_passes; i++) {
    const Pass& pass = passes[i];
    const int32_t across = count_along(width, pass.x, pass.step_x);
    const size_t row_size = static_cast<size_t>(across) * pixel;
    const uint8_t* above = nullptr;
    if (across == 0) continue;
    for (int32_t y = pass.y; y < height; y += pass.step_y, row += 1 + row_size) {
      if (!undo_filter(row[0], row + 1, above, row_size, pixel)) return refuse("an unknown filter");
      above = row + 1;
      uint8_t* to =
          rgb + (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(pass.x)) * 3;
      for (int32_t x = 0; x < across; x++, to += 3 * pass.step_x) {
        const uint8_t* from = above + static_cast<size_t>(x) * pixel;
        for (size_t c = 0; c < 3; c++) to[c] = from[c * (pixel / 3)];
      }
    }
  }
  return true;
}

}  // namespace grt
