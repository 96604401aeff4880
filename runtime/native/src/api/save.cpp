// grt_world_save_size, grt_session_save, grt_session_load.

#include "api/save.hpp"

#include <bit>

#include "api/call.hpp"
#include "api/session.hpp"
#include "engine/page_layout.hpp"
#include "support/digest.hpp"

namespace grt {
namespace {

static_assert(std::endian::native == std::endian::little, "states are written as they lie in memory");

constexpr char kMagic[8] = "GRTSAVE";

struct Header {
  char magic[8];
  uint32_t version, precision;
  uint8_t weights_digest[32];
  uint64_t seed;
  int64_t frame_index;
  int32_t action, shown_action;
  uint32_t pending, has_change;
  uint32_t num_tokens, num_positions, num_dynamics, num_decoder, num_spatial;
  uint32_t frame_height, frame_width, zero;
  uint64_t total_bytes;
};
static_assert(sizeof(Header) == 120);

uint64_t bytes_of(const ModelConfig& config, uint64_t num_dynamics, uint64_t num_decoder) {
  const uint64_t floats = static_cast<uint64_t>(config.num_positions()) +
                          num_dynamics * PageLayout::of_dynamics(config).packed_floats() +
                          num_decoder * PageLayout::of_decoder(config).packed_floats();
  return sizeof(Header) + static_cast<uint64_t>(config.tokenizer.num_tokens()) * sizeof(int32_t) +
         floats * sizeof(float) + picture_bytes(config) + sizeof(uint64_t);
}

class Writer {
 public:
  explicit Writer(void* to) : to_(static_cast<uint8_t*>(to)) {}

  void bytes(const void* from, size_t size) {
    if (size > 0) std::memcpy(to_, from, size);
    to_ += size;
  }

  void zeros(size_t size) {
    if (size > 0) std::memset(to_, 0, size);
    to_ += size;
  }

  void page(const PageLayout& layout, const float* page) {
    const size_t head = static_cast<size_t>(layout.head_width) * sizeof(float);
    const auto heads = static_cast<size_t>(layout.floats()) / static_cast<size_t>(layout.head_stride());
    if (layout.head_width == layout.head_stride()) return bytes(page, heads * head);
    for (size_t i = 0; i < heads; i++) bytes(page + i * static_cast<size_t>(layout.head_stride()), head);
  }

 private:
  uint8_t* to_;
};

class Reader {
 public:
  explicit Reader(const void* from) : from_(static_cast<const uint8_t*>(from)) {}

  const uint8_t* skip(size_t size) {
    const uint8_t* here = from_;
    from_ += size;
    return here;
  }

  void bytes(void* to, size_t size) {
    if (size > 0) std::memcpy(to, from_, size);
    from_ += size;
  }

  // Padding becomes zero.
  void page(const PageLayout& layout, float* page) {
    const auto width = static_cast<size_t>(layout.head_width),
               stride = static_cast<size_t>(layout.head_stride());
    const auto heads = static_cast<size_t>(layout.floats()) / stride;
    if (width == stride) return bytes(page, heads * width * sizeof(float));
    for (size_t i = 0; i < heads; i++) {
      bytes(page + i * stride, width * sizeof(float));
      std::memset(page + i * stride + width, 0, (stride - width) * sizeof(float));
    }
  }

 private:
  const uint8_t* from_;
};

bool all_finite(const uint8_t* floats, size_t count) {
  uint32_t bad = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t bits;
    std::memcpy(&bits, floats + i * sizeof(float), sizeof bits);
    bad |= (bits & 0x7F800000) == 0x7F800000;
  }
  return bad == 0;
}

void write_state(const grt_session& session, void* buffer, size_t total) {
  const grt_world& world = *session.world;
  const ModelConfig& config = world.config();
  const Row& row = session.row;
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kSaveVersion;
  header.precision = static_cast<uint32_t>(world.precision);
  std::memcpy(header.weights_digest, world.weights_digest, sizeof header.weights_digest);
  header.seed = row.seed;
  header.frame_index = row.frame_index;
  header.action = row.action;
  header.shown_action = row.shown_action;
  header.pending = row.pending;
  header.has_change = row.has_change;
  header.num_tokens = static_cast<uint32_t>(row.tokens.size());
  header.num_positions = static_cast<uint32_t>(row.change.size());
  header.num_dynamics = static_cast<uint32_t>(row.num_dynamics);
  header.num_decoder = static_cast<uint32_t>(row.num_decoder);
  header.num_spatial = row.spatial != nullptr;
  header.frame_height = static_cast<uint32_t>(world.frame_height());
  header.frame_width = static_cast<uint32_t>(world.frame_width());
  header.total_bytes = total;

  Writer writer(buffer);
  writer.bytes(&header, sizeof header);
  writer.bytes(row.tokens.data(), row.tokens.size() * sizeof(int32_t));
  // Equal states have equal bytes: what is left over is not written.
  if (row.has_change) {
    writer.bytes(row.change.data(), row.change.size() * sizeof(float));
  } else {
    writer.zeros(row.change.size() * sizeof(float));
  }
  const PageLayout dynamics = PageLayout::of_dynamics(config), decoder = PageLayout::of_decoder(config);
  for (int32_t i = 0; i < row.num_dynamics; i++) {
    writer.page(dynamics, row.dynamics[static_cast<size_t>(i)]->data);
  }
  for (int32_t i = 0; i < row.num_decoder; i++) {
    writer.page(decoder, row.decoder[static_cast<size_t>(i)]->data);
  }
  if (row.spatial != nullptr) writer.page(dynamics, row.spatial->data);
  writer.bytes(row.picture.data(), row.picture.size());
  const uint64_t checksum = digest(buffer, total - sizeof(uint64_t));
  writer.bytes(&checksum, sizeof checksum);
}

bool check_number(const char* name, int64_t value, int64_t least, int64_t most, Error& error) {
  if (value >= least && value <= most) return true;
  return error.fail(GRT_ERROR_INPUT, "state: expected %s from %lld to %lld, found %lld", name,
                    static_cast<long long>(least), static_cast<long long>(most),
                    static_cast<long long>(value));
}

bool check_header(const grt_world& world, const Header& header, size_t size, Error& error) {
  const ModelConfig& config = world.config();
  if (std::memcmp(header.magic, kMagic, sizeof header.magic) != 0) {
    return error.fail(GRT_ERROR_INPUT, "state: expected bytes of grt_session_save, found others");
  }
  if (header.version != kSaveVersion) {
    return error.fail(GRT_ERROR_INPUT, "state: expected version %d, found %u: save it with this library",
                      kSaveVersion, header.version);
  }
  if (std::memcmp(header.weights_digest, world.weights_digest, sizeof header.weights_digest) != 0) {
    return error.fail(GRT_ERROR_INPUT,
                      "state: expected one of the bundle %s, found one of other weights (sha256 "
                      "%02x%02x%02x%02x..., not %02x%02x%02x%02x...)",
                      world.manifest().name, header.weights_digest[0], header.weights_digest[1],
                      header.weights_digest[2], header.weights_digest[3], world.weights_digest[0],
                      world.weights_digest[1], world.weights_digest[2], world.weights_digest[3]);
  }
  if (header.precision != static_cast<uint32_t>(world.precision)) {
    const char* names[] = {"an unknown precision", "float32", "int8"};
    return error.fail(GRT_ERROR_INPUT,
                      "state: expected one in %s, found one in %s; load the world in that precision",
                      names[world.precision], names[header.precision <= 2 ? header.precision : 0]);
  }
  const int64_t tokens = config.tokenizer.num_tokens(), positions = config.num_positions();
  const int64_t frames = header.frame_index;
  constexpr int64_t kMostFrames = int64_t{1} << 62;
  if (!check_number("a frame index", frames, 0, kMostFrames, error) ||
      !check_number("an action", header.action, kNullAction, config.dynamics.num_actions - 1, error) ||
      !check_number("the place of an action", header.shown_action, kNullAction, INT32_MAX, error) ||
      !check_number("\"pending\"", header.pending, 0, 1, error) ||
      !check_number("\"has_change\"", header.has_change, 0, 1, error) ||
      !check_number("tokens", header.num_tokens, tokens, tokens, error) ||
      !check_number("positions", header.num_positions, positions, positions, error) ||
      !check_number("spatial pages", header.num_spatial, 0, 1, error) ||
      !check_number("a height", header.frame_height, world.frame_height(), world.frame_height(), error) ||
      !check_number("a width", header.frame_width, world.frame_width(), world.frame_width(), error) ||
      !check_number("a reserved number", header.zero, 0, 0, error)) {
    return false;
  }
  // No more pages than there were frames.
  const int64_t committed = frames + (header.pending != 0 ? 0 : 1);
  const int64_t window = config.dynamics.transformer.window - 1, shown = config.tokenizer.decoder.window - 1;
  if (!check_number("pages of the dynamics", header.num_dynamics, 0, window < committed ? window : committed,
                    error) ||
      !check_number("pages of the decoder", header.num_decoder, 0, shown < frames + 1 ? shown : frames + 1,
                    error)) {
    return false;
  }
  const uint64_t total = bytes_of(config, header.num_dynamics + header.num_spatial, header.num_decoder);
  if (header.total_bytes != total || size < total) {
    return error.fail(GRT_ERROR_INPUT, "state: expected %llu bytes, found %llu and %zu in the buffer",
                      static_cast<unsigned long long>(total),
                      static_cast<unsigned long long>(header.total_bytes), size);
  }
  return true;
}

bool check_body(const grt_world& world, const Header& header, const uint8_t* buffer, Error& error) {
  const ModelConfig& config = world.config();
  const auto total = static_cast<size_t>(header.total_bytes);
  uint64_t checksum;
  std::memcpy(&checksum, buffer + total - sizeof checksum, sizeof checksum);
  const uint64_t computed = digest(buffer, total - sizeof checksum);
  if (checksum != computed) {
    return error.fail(GRT_ERROR_INPUT,
                      "state: expected the checksum %016llx, found %016llx: the bytes are damaged",
                      static_cast<unsigned long long>(computed), static_cast<unsigned long long>(checksum));
  }
  Reader reader(buffer);
  reader.skip(sizeof header);
  for (uint32_t i = 0; i < header.num_tokens; i++) {
    int32_t token;
    reader.bytes(&token, sizeof token);
    if (!check_number("a token", token, 0, config.tokenizer.codebook_size - 1, error)) return false;
  }
  const size_t floats =
      header.num_positions +
      (size_t{header.num_dynamics} + header.num_spatial) *
          static_cast<size_t>(PageLayout::of_dynamics(config).packed_floats()) +
      size_t{header.num_decoder} * static_cast<size_t>(PageLayout::of_decoder(config).packed_floats());
  if (!all_finite(reader.skip(floats * sizeof(float)), floats)) {
    return error.fail(GRT_ERROR_INPUT, "state: expected finite numbers, found NaN or Inf");
  }
  return true;
}

// The place among the names, if it still stands for the action; else the first that does.
int32_t place_of(const grt_world& world, int32_t code, int32_t place) {
  const auto& actions = world.manifest().actions;
  if (code == kNullAction) return kNullAction;
  if (place >= 0 && place < world.num_actions() && actions[static_cast<size_t>(place)].code == code) {
    return place;
  }
  for (int32_t i = 0; i < world.num_actions(); i++) {
    if (actions[static_cast<size_t>(i)].code == code) return i;
  }
  return kNullAction;
}

// Fills the row from bytes that were checked. Its claims suffice.
void read_state(grt_session& session, const Header& header, const uint8_t* buffer) {
  const grt_world& world = *session.world;
  const PageLayout dynamics = PageLayout::of_dynamics(world.config());
  const PageLayout decoder = PageLayout::of_decoder(world.config());
  PagePool& dynamics_pool = session.world->pools.dynamics;
  PagePool& decoder_pool = session.world->pools.decoder;
  Row& row = session.row;
  Reader reader(buffer);
  reader.skip(sizeof header);
  row.seed = header.seed;
  row.frame_index = header.frame_index;
  row.action = header.action;
  row.shown_action = place_of(world, header.action, header.shown_action);
  row.pending = header.pending != 0;
  row.has_change = header.has_change != 0;
  reader.bytes(row.tokens.data(), row.tokens.size() * sizeof(int32_t));
  reader.bytes(row.change.data(), row.change.size() * sizeof(float));
  for (; row.num_dynamics < static_cast<int32_t>(header.num_dynamics); row.num_dynamics++) {
    Page* page = row.dynamics[static_cast<size_t>(row.num_dynamics)] = dynamics_pool.take();
    reader.page(dynamics, page->data);
  }
  for (; row.num_decoder < static_cast<int32_t>(header.num_decoder); row.num_decoder++) {
    Page* page = row.decoder[static_cast<size_t>(row.num_decoder)] = decoder_pool.take();
    reader.page(decoder, page->data);
  }
  if (header.num_spatial != 0) {
    Page* page = dynamics_pool.take();
    reader.page(dynamics, page->data);
    row.set_spatial(page);
  }
  reader.bytes(row.picture.data(), row.picture.size());
}

}  // namespace

uint64_t picture_bytes(const ModelConfig& config) {
  return uint64_t{3} * static_cast<uint64_t>(config.tokenizer.frame_height()) *
         static_cast<uint64_t>(config.tokenizer.frame_width());
}

uint64_t most_save_bytes(const ModelConfig& config) {
  return bytes_of(config, static_cast<uint64_t>(config.dynamics.transformer.window),
                  static_cast<uint64_t>(config.tokenizer.decoder.window - 1));
}

}  // namespace grt

using namespace grt;

grt_status grt_world_save_size(const grt_world* world, size_t* size, grt_error* error) {
  return call(error, [&](Error& e) {
    if (world == nullptr) return e.fail(GRT_ERROR_INPUT, "world: expected a grt_world, found NULL");
    if (size == nullptr) return e.fail(GRT_ERROR_INPUT, "size: expected a place for it, found NULL");
    const uint64_t most = most_save_bytes(world->config());
    if (most > SIZE_MAX) {
      return e.fail(GRT_ERROR_UNSUPPORTED,
                    "expected states that this processor can address, found %llu bytes",
                    static_cast<unsigned long long>(most));
    }
    *size = static_cast<size_t>(most);
    return true;
  });
}

grt_status grt_session_save(const grt_session* session, void* buffer, size_t size, size_t* written,
                            grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr || !check_has_frame(*session, e)) return false;
    if (buffer == nullptr || written == nullptr) {
      return e.fail(GRT_ERROR_INPUT, "%s, found NULL",
                    buffer == nullptr ? "buffer: expected memory for the bytes"
                                      : "written: expected a place for the number of bytes");
    }
    const Row& row = session->row;
    const auto num_spatial = static_cast<uint64_t>(row.spatial != nullptr);
    const uint64_t total =
        bytes_of(session->world->config(), static_cast<uint64_t>(row.num_dynamics) + num_spatial,
                 static_cast<uint64_t>(row.num_decoder));
    if (size < total) {
      return e.fail(GRT_ERROR_INPUT,
                    "buffer: expected %llu bytes or more, found %zu; grt_world_save_size says how many "
                    "always suffice",
                    static_cast<unsigned long long>(total), size);
    }
    write_state(*session, buffer, static_cast<size_t>(total));
    *written = static_cast<size_t>(total);
    return true;
  });
}

grt_status grt_session_load(grt_session* session, const void* buffer, size_t size, grt_error* error) {
  return call(error, [&](Error& e) {
    const Turn turn(session, e);
    if (turn.session() == nullptr) return false;
    if (buffer == nullptr) return e.fail(GRT_ERROR_INPUT, "buffer: expected a state, found NULL");
    Header header;
    if (size < sizeof header) {
      return e.fail(GRT_ERROR_INPUT, "state: expected %zu bytes or more, found %zu", sizeof header, size);
    }
    std::memcpy(&header, buffer, sizeof header);
    const auto* bytes = static_cast<const uint8_t*>(buffer);
    if (!check_header(*session->world, header, size, e) || !check_body(*session->world, header, bytes, e)) {
      return false;
    }
    drop_peeks(*session);
    settle(*session);
    if (header.num_spatial != 0 && session->plan.reuse != GRT_REUSE_FRAMES) {
      // A page that this session's plan does not count on.
      Claims needed = session->claims;
      needed.dynamics++;
      if (!raise_claims(*session, needed, e)) return false;
    }
    session->row.clear(&session->claims);
    read_state(*session, header, bytes);
    settle(*session);
    return true;
  });
}
