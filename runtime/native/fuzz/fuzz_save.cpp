// Save states: whatever the bytes are, a session refuses them or plays on from them.
//
// The bytes are tried as they are and, so that the fuzzer gets past the checksum, with one that is right. Run
// it in the repository's root.

#include <vector>

#include "../tests/tiny_bundle.hpp"
#include "bounded.hpp"
#include "genie_rt.h"
#include "support/digest.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

struct Player {
  Player() {
    const tiny::Bundle bundle = tiny::make();
    std::vector<grt_file> files;
    files.push_back({"bundle.json", bundle.manifest.data(), bundle.manifest.size()});
    for (const auto& [name, data] : bundle.files) files.push_back({name.c_str(), data.data(), data.size()});
    grt_world* world = nullptr;
    GRT_MUST(grt_world_load_memory(files.data(), files.size(), nullptr, &world, nullptr) == GRT_OK);
    GRT_MUST(grt_session_create(world, nullptr, &session, nullptr) == GRT_OK);
    grt_world_free(world);
  }
  ~Player() { grt_session_free(session); }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  // A session that is somewhere.
  void reset() { GRT_MUST(grt_session_reset_prompt(session, 0, 1, nullptr, nullptr) == GRT_OK); }

  uint64_t digest() const {
    grt_session_state state;
    grt_session_state_init(&state);
    GRT_MUST(grt_session_get_state(session, &state, nullptr) == GRT_OK);
    return state.digest;
  }

  Bytes save() const {
    Bytes bytes(1 << 16);
    size_t written = 0;
    GRT_MUST(grt_session_save(session, bytes.data(), bytes.size(), &written, nullptr) == GRT_OK);
    bytes.resize(written);
    return bytes;
  }

  grt_session* session = nullptr;
};

void try_to_load(Player& player, const uint8_t* data, size_t size) {
  player.reset();
  const uint64_t before = player.digest();
  grt_error error;
  grt_error_init(&error);
  const grt_status status = grt_session_load(player.session, data, size, &error);
  if (status != GRT_OK) {
    GRT_MUST(status == GRT_ERROR_INPUT && error.message[0] != 0);
    GRT_MUST(player.digest() == before);
    return;
  }
  // It says the same again, and its future too.
  const Bytes bytes = player.save();
  GRT_MUST(grt_session_load(player.session, bytes.data(), bytes.size(), nullptr) == GRT_OK);
  GRT_MUST(player.save() == bytes);
  const auto play = [&] {
    for (int32_t i = 0; i < 3; i++) {
      // Numbers may be so large that the model overflows, which a step says.
      const grt_status stepped = grt_session_step(player.session, i, nullptr, nullptr, nullptr);
      GRT_MUST(stepped == GRT_OK || stepped == GRT_ERROR_DEVICE);
    }
    return player.digest();
  };
  const uint64_t end = play();
  GRT_MUST(grt_session_load(player.session, bytes.data(), bytes.size(), nullptr) == GRT_OK);
  GRT_MUST(play() == end);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Player player;
  try_to_load(player, data, size);
  if (size < 128) return 0;
  Bytes sealed(data, data + size);
  const uint64_t checksum = grt::digest(data, size - sizeof checksum);
  std::memcpy(sealed.data() + size - sizeof checksum, &checksum, sizeof checksum);
  try_to_load(player, sealed.data(), sealed.size());
  return 0;
}
