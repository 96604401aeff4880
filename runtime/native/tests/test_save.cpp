// Save states: whole, equal for equal states, and refused when anything about them is wrong.

#include "api/save.hpp"
#include "api_fixture.hpp"
#include "support/digest.hpp"

namespace grt::test {
namespace {

const TinyFiles* tiny_files;

using Bytes = std::vector<uint8_t>;

Bytes save(const grt_session* session) {
  size_t size = 0, written = 0;
  Bytes bytes(1 << 16);
  GRT_CHECK_STATUS(grt_session_save(session, bytes.data(), bytes.size(), &written, nullptr), GRT_OK);
  bytes.resize(written);
  // Exactly that many are needed.
  Bytes again(written);
  GRT_CHECK_STATUS(grt_session_save(session, again.data(), written, &size, nullptr), GRT_OK);
  GRT_CHECK(again == bytes && size == written);
  GRT_CHECK_STATUS(grt_session_save(session, again.data(), written - 1, &size, nullptr), GRT_ERROR_INPUT);
  return bytes;
}

grt_status load(grt_session* session, const Bytes& bytes, grt_error* error = nullptr) {
  return grt_session_load(session, bytes.data(), bytes.size(), error);
}

// Puts the right checksum behind bytes that were changed.
void seal(Bytes& bytes) {
  const uint64_t checksum = digest(bytes.data(), bytes.size() - 8);
  std::memcpy(bytes.data() + bytes.size() - 8, &checksum, 8);
}

template <typename T>
Bytes with(const Bytes& bytes, size_t offset, T value) {
  Bytes changed = bytes;
  std::memcpy(changed.data() + offset, &value, sizeof value);
  seal(changed);
  return changed;
}

void test_round_trips() {
  grt_world* world = tiny_files->load();
  grt_world* elsewhere = tiny_files->load();
  size_t most = 0;
  GRT_CHECK_STATUS(grt_world_save_size(world, &most, nullptr), GRT_OK);
  size_t largest = 0;
  for (const grt_reuse reuse : {GRT_REUSE_NONE, GRT_REUSE_FRAMES}) {
    grt_plan plan = make_plan(GRT_ORDER_MASKGIT, reuse, 3);
    grt_session_params params;
    grt_session_params_init(&params);
    params.plan = &plan;
    grt_session *session = start(world, 8, &params), *other = start(elsewhere, 9, &params);
    grt_session* fresh = nullptr;
    for (int32_t i = 0; i < 10; i++) {
      const Bytes bytes = save(session);
      largest = bytes.size() > largest ? bytes.size() : largest;
      const std::vector<uint64_t> future = future_of(session);
      const grt_session_state state = state_of(session);
      GRT_CHECK_STATUS(load(other, bytes), GRT_OK);
      GRT_CHECK(save(other) == bytes);
      GRT_CHECK(future_of(other) == future);
      GRT_CHECK_EQ(state_of(other).action, state.action);
      GRT_CHECK_EQ(state_of(other).pending, state.pending);
      GRT_CHECK_EQ(state_of(other).seed, state.seed);
      // In a larger buffer, into a session that was never reset, and into itself.
      Bytes larger = bytes;
      larger.resize(most + 100, 7);
      GRT_CHECK_STATUS(grt_session_create(elsewhere, &params, &fresh, nullptr), GRT_OK);
      GRT_CHECK_STATUS(load(fresh, larger), GRT_OK);
      GRT_CHECK(future_of(fresh) == future);
      Frame a, b;
      GRT_CHECK_STATUS(grt_session_get_frame(fresh, &a.image, nullptr), GRT_OK);
      GRT_CHECK_STATUS(grt_session_get_frame(session, &b.image, nullptr), GRT_OK);
      GRT_CHECK(a == b);
      GRT_CHECK_STATUS(load(session, bytes), GRT_OK);
      GRT_CHECK(future_of(session) == future);
      grt_session_free(fresh);
      if (i % 2 == 0) GRT_CHECK_STATUS(grt_session_commit(session, nullptr), GRT_OK);
      step(session, i % 3);
      for (int32_t j = 0; j < 3; j++) step(other, j);
    }
    // A state with a spatial page goes into a session whose plan has none, and the other way round.
    grt_session* plain = start(world, 1);
    GRT_CHECK_STATUS(load(plain, save(session)), GRT_OK);
    GRT_CHECK(save(plain) == save(session));
    GRT_CHECK_STATUS(grt_session_set_plan(plain, &plan, nullptr), GRT_OK);
    GRT_CHECK(future_of(plain) == future_of(session));
    grt_session_free(session);
    grt_session_free(other);
    grt_session_free(plain);
  }
  GRT_CHECK_EQ(largest, most);  // once with a full window, committed or not, and a spatial page
  grt_world_free(world);
  grt_world_free(elsewhere);
}

// The actions of a bundle may get other names and places: the state still says what led to its frame.
void test_renamed_actions() {
  grt_world* world = tiny_files->load();
  tiny::Bundle renamed = tiny::make();
  GRT_CHECK(renamed.replace("[\"left\", \"stay\", \"right\"]", "[\"rest\", \"go\", \"run\"]"));
  GRT_CHECK(renamed.replace("\"default_action\": \"stay\"", "\"default_action\": \"rest\""));
  GRT_CHECK(renamed.replace("[3, 0, 3]", "[0, 3, 3]"));
  const TinyFiles files(renamed);
  grt_world* other_world = files.load();
  grt_session *session = start(world), *other = start(other_world);
  const int32_t expected[] = {1, 0, 2};  // the third place stands for the same as before
  for (int32_t action = 0; action < 3; action++) {
    step(session, action);
    GRT_CHECK_STATUS(load(other, save(session)), GRT_OK);
    GRT_CHECK_EQ(state_of(other).action, expected[action]);
    GRT_CHECK_EQ(digest_of(other), digest_of(session));
  }
  grt_session_free(session);
  grt_session_free(other);
  grt_world_free(world);
  grt_world_free(other_world);
}

void test_damage() {
  grt_world* world = tiny_files->load();
  grt_session *session = start(world), *victim = start(world, 3);
  for (int i = 0; i < 6; i++) step(session, i % 3);
  step(victim, 0);
  const Bytes bytes = save(session), before = save(victim);
  for (size_t i = 0; i < bytes.size(); i++) {
    Bytes damaged = bytes;
    damaged[i] ^= static_cast<uint8_t>(1 << i % 8);
    GRT_CHECK_STATUS(load(victim, damaged), GRT_ERROR_INPUT);
  }
  for (size_t size = 0; size < bytes.size(); size += size < 200 ? 1 : 97) {
    GRT_CHECK_STATUS(load(victim, Bytes(bytes.begin(), bytes.begin() + static_cast<long>(size))),
                     GRT_ERROR_INPUT);
  }
  GRT_CHECK(save(victim) == before);
  grt_session_free(session);
  grt_session_free(victim);
  grt_world_free(world);
}

// Lies with a right checksum: what each says when it is refused.
void test_lies() {
  grt_world* world = tiny_files->load();
  grt_session *session = start(world), *victim = start(world, 3);
  for (int i = 0; i < 6; i++) step(session, i % 3);
  const Bytes bytes = save(session), before = save(victim);
  const float nan = __builtin_nanf(""), infinity = __builtin_inff();
  const size_t tokens = 120, change = tokens + 4 * kTokens, pages = change + 4 * kTokens;
  const struct {
    Bytes bytes;
    const char* part;
  } lies[] = {
      {with(bytes, 0, 'X'), "grt_session_save"},
      {with(bytes, 8, uint32_t{2}), "version"},
      {with(bytes, 12, uint32_t{1}), "precision"},
      {with(bytes, 12, uint32_t{9}), "precision"},
      {with(bytes, 16, uint8_t(bytes[16] ^ 1)), "other weights"},
      {with(bytes, 47, uint8_t(bytes[47] ^ 1)), "other weights"},
      {with(bytes, 56, int64_t{-1}), "frame index"},
      {with(bytes, 56, INT64_MAX), "frame index"},
      {with(bytes, 56, int64_t{1}), "pages"},
      {with(bytes, 64, int32_t{4}), "action"},
      {with(bytes, 64, int32_t{-2}), "action"},
      {with(bytes, 68, int32_t{-2}), "action"},
      {with(bytes, 72, uint32_t{2}), "pending"},
      {with(bytes, 76, uint32_t{2}), "has_change"},
      {with(bytes, 80, uint32_t{13}), "tokens"},
      {with(bytes, 84, uint32_t{0}), "positions"},
      {with(bytes, 88, uint32_t{4}), "pages of the dynamics"},
      {with(bytes, 88, uint32_t{2}), "bytes"},
      {with(bytes, 88, UINT32_MAX), "pages of the dynamics"},
      {with(bytes, 92, uint32_t{3}), "pages of the decoder"},
      {with(bytes, 96, uint32_t{2}), "spatial"},
      {with(bytes, 96, uint32_t{1}), "bytes"},
      {with(bytes, 100, uint32_t{8}), "height"},
      {with(bytes, 104, uint32_t{8}), "width"},
      {with(bytes, 108, uint32_t{1}), "reserved"},
      {with(bytes, 112, uint64_t{bytes.size() + 1}), "bytes"},
      {with(bytes, 112, UINT64_MAX), "bytes"},
      {with(bytes, tokens, int32_t{-1}), "token"},
      {with(bytes, change - 4, int32_t{kCodes}), "token"},
      {with(bytes, change, nan), "finite"},
      {with(bytes, pages, infinity), "finite"},
      {with(bytes, bytes.size() - 8 - kFrameBytes - 4, -infinity), "finite"},
  };
  for (const auto& lie : lies) {
    grt_error error;
    grt_error_init(&error);
    GRT_CHECK_STATUS(load(victim, lie.bytes, &error), GRT_ERROR_INPUT);
    GRT_CHECK_CONTAINS(error.message, lie.part);
    GRT_CHECK_CONTAINS(error.message, "expected");
  }
  GRT_CHECK(save(victim) == before);
  // Fewer pages than there could be are no lie: other back ends may keep fewer.
  GRT_CHECK_STATUS(load(victim, with(bytes, 56, int64_t{1000})), GRT_OK);
  step(victim, 1);

  // A world in another precision.
  grt_world_params params;
  grt_world_params_init(&params);
  params.precision = GRT_PRECISION_FLOAT32;
  grt_world* in_float = tiny_files->load(&params);
  grt_session* of_float = start(in_float);
  GRT_CHECK_STATUS(load(of_float, bytes), GRT_ERROR_INPUT);
  grt_session_free(of_float);
  grt_world_free(in_float);
  // Other weights.
  tiny::Bundle other = tiny::make();
  other.tensors["dynamics.position"].data[0] ^= 1;
  other.seal();
  const TinyFiles files(other);
  grt_world* foreign = files.load();
  grt_session* of_foreign = start(foreign);
  grt_error error;
  grt_error_init(&error);
  GRT_CHECK_STATUS(load(of_foreign, bytes, &error), GRT_ERROR_INPUT);
  GRT_CHECK_CONTAINS(error.message, "other weights");
  grt_session_free(of_foreign);
  grt_world_free(foreign);
  grt_session_free(session);
  grt_session_free(victim);
  grt_world_free(world);
}

// The checksum as support/digest.hpp defines it, one word after the other.
uint64_t plain_digest(const Bytes& bytes, uint64_t start) {
  const auto mix = [](uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x00000100000001B3;
    return hash ^ hash >> 32;
  };
  uint64_t lanes[256];
  for (uint64_t i = 0; i < 256; i++) lanes[i] = i;
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = 0;
    for (size_t j = 0; j < 8 && i + j < bytes.size(); j++) word |= uint64_t{bytes[i + j]} << 8 * j;
    lanes[i / 8 % 256] = mix(lanes[i / 8 % 256], word);
  }
  uint64_t total = start;
  for (const uint64_t lane : lanes) total = mix(total, lane);
  return mix(total, bytes.size());
}

void test_digest() {
  for (const size_t size : {0, 1, 7, 8, 9, 2047, 2048, 2049, 4095, 4096, 10001}) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; i++) bytes[i] = static_cast<uint8_t>(i * 37 >> 2);
    GRT_CHECK_EQ(digest(bytes.data(), size, 5), plain_digest(bytes, 5));
  }
  GRT_CHECK_EQ(digest("genie", 5), uint64_t{0x1A65AD2F24F70BF2});
}

}  // namespace
}  // namespace grt::test

int main() {
  using namespace grt::test;
  const TinyFiles files;
  tiny_files = &files;
  test_digest();
  test_round_trips();
  test_renamed_actions();
  test_damage();
  test_lies();
  return failures();
}
