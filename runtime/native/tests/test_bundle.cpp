// Bundles: those that are shipped open, from a folder and from memory; and ways to break one are refused with
// the file's name. What goes wrong with folders is in test_folder.cpp.
#include <functional>

#include "check.hpp"
#include "tiny_bundle.hpp"

namespace {

constexpr const char* kShipped[] = {"runtime/bundles/demo", "runtime/bundles/demo-logged",
                                    "examples/worlds/little-game"};

void shipped() {
  for (const char* folder : kShipped) {
    grt::Files files;
    grt::Bundle bundle;
    grt::Error error;
    if (!GRT_CHECK(grt::Files::open_folder(folder, grt::Allocator(), files, error) &&
                   grt::Bundle::open(files, grt::Allocator(), bundle, error))) {
      std::fprintf(stderr, "    %s\n", error.message);
      continue;
    }
    GRT_CHECK(std::strstr(folder, bundle.manifest.name) != nullptr);
    GRT_CHECK_EQ(bundle.tensors.size(),
                 bundle.manifest.config.lam_codebook_dim > 0 ? size_t{175} : size_t{174});
    GRT_CHECK_EQ(bundle.pictures.size(), bundle.manifest.prompts.size() * 64 * 64 * 3);
    GRT_CHECK(bundle.manifest.prompts.size() > 0);
    const grt::Tensor* tensor = bundle.find("dynamics.transformer.blocks.5.down.weight");
    GRT_REQUIRE(tensor != nullptr);
    GRT_CHECK(tensor->is_bf16 && tensor->rank == 2 && tensor->shape[0] == 192 && tensor->shape[1] == 768);
    GRT_CHECK_EQ(tensor->count(), int64_t{192 * 768});
    tensor = bundle.find("dynamics.copy_logit");
    GRT_REQUIRE(tensor != nullptr);
    GRT_CHECK(!tensor->is_bf16 && tensor->rank == 0 && tensor->count() == 1);
    GRT_CHECK(bundle.find("dynamics.copy_logi") == nullptr && bundle.find("z") == nullptr);
    // the same from memory, without the files that play does not need
    std::vector<std::string> names{"bundle.json", "weights.safetensors"}, contents;
    for (const grt::Prompt& prompt : bundle.manifest.prompts) names.push_back(prompt.name);
    for (const std::string& name : names)
      contents.push_back(tiny::read_file((std::string(folder) + "/" + name).c_str()));
    std::vector<grt_file> memory;
    for (size_t i = 0; i < names.size(); i++) {
      memory.push_back({names[i].c_str(), contents[i].data(), contents[i].size()});
    }
    grt::Bundle again;
    if (!GRT_CHECK(grt::Files::over_memory(memory.data(), memory.size(), grt::Allocator(), files, error) &&
                   grt::Bundle::open(files, grt::Allocator(), again, error))) {
      std::fprintf(stderr, "    %s\n", error.message);
      continue;
    }
    contents.clear();  // nothing of it is needed any more
    GRT_CHECK(again.pictures.size() == bundle.pictures.size() &&
              std::memcmp(again.pictures.data(), bundle.pictures.data(), bundle.pictures.size()) == 0);
    for (size_t i = 0; i < bundle.tensors.size(); i++) {
      const grt::Tensor &a = bundle.tensors[i], &b = again.tensors[i];
      const size_t bytes = static_cast<size_t>(a.count()) * (a.is_bf16 ? 2 : 4);
      GRT_CHECK_TEXT(a.name, b.name);
      GRT_CHECK(std::memcmp(a.data, b.data, bytes) == 0);
      GRT_CHECK(i == 0 || std::strcmp(bundle.tensors[i - 1].name, a.name) < 0);
    }
  }
}

void tiny_one() {
  const tiny::Bundle files = tiny::make();
  grt::Bundle bundle;
  grt::Error error;
  if (!GRT_CHECK(tiny::open(files, bundle, error))) std::fprintf(stderr, "    %s\n", error.message);
  GRT_REQUIRE(error.status == GRT_OK);
  GRT_CHECK_EQ(bundle.tensors.size(), files.tensors.size());
  for (const auto& [name, tensor] : files.tensors) {
    const grt::Tensor* found = bundle.find(name.c_str());
    GRT_REQUIRE(found != nullptr);
    GRT_CHECK_EQ(found->is_bf16, tensor.dtype == "BF16");
    GRT_CHECK(std::memcmp(found->data, tensor.data.data(), tensor.data.size()) == 0);
  }
  GRT_CHECK_EQ(bundle.pictures.size(), size_t{2 * 9 * 13 * 3});
  for (int y = 0; y < 9; y++) {
    for (int x = 0; x < 13; x++) {
      for (int c = 0; c < 3; c++) {
        const int expected = (37 * x + 59 * y + 101 * c + 7 * x * y) % 256;
        const size_t at = static_cast<size_t>((y * 13 + x) * 3 + c);
        GRT_CHECK(bundle.pictures[at] == expected && bundle.pictures[at + 9 * 13 * 3] == expected);
      }
    }
  }
  GRT_CHECK_EQ(bundle.int8_limit("dynamics.transformer.blocks.0.up"), 3.25f);
  GRT_CHECK_EQ(bundle.int8_limit("tokenizer.decoder.blocks.1.spatial.qkv"), 2.0f);
  GRT_CHECK_EQ(bundle.int8_limit("dynamics.transformer.blocks.0.down"), 0.0f);
  bundle.drop_weights();
  GRT_CHECK_TEXT(bundle.tensors[0].name, files.tensors.begin()->first.c_str());
}

// A change to a bundle; what is broken is sealed again where `is_sealed`.
struct Break {
  const char* file;  // that the message names
  const char* part;
  bool is_sealed;
  std::function<void(tiny::Bundle&)> change;
};

void set_number(tiny::Tensor& tensor, size_t index, uint32_t bits) {
  const size_t size = tensor.dtype == "BF16" ? 2 : 4;
  for (size_t i = 0; i < size; i++)
    tensor.data[index * size + i] = static_cast<char>(bits >> (8 * (4 - size + i)));
}

std::vector<Break> breaks() {
  const std::string weights = "weights.safetensors", up = "dynamics.transformer.blocks.0.up.weight";
  const auto picture = [](const char* name) {
    return [name](tiny::Bundle& b) {
      b.files["prompts/001.png"] =
          tiny::read_file((std::string("runtime/native/tests/data/png/") + name + ".png").c_str());
    };
  };
  const auto tensor = [](const char* name, auto change) {
    return [=](tiny::Bundle& b) { change(b.tensors[name]); };
  };
  const auto flip = [](const char* name, size_t at) {
    return [=](tiny::Bundle& b) {
      b.files[name][at < b.files[name].size() ? at : b.files[name].size() - 1] ^= 1;
    };
  };
  const auto with_bytes = [](auto change) {  // of the weights, whose records are made right
    return [=](tiny::Bundle& b) {
      std::string bytes = b.files["weights.safetensors"];
      change(bytes);
      const std::string before = b.files["weights.safetensors"];
      grt::Sha256 old_hash, new_hash;
      uint8_t old_digest[32], new_digest[32];
      old_hash.update(before.data(), before.size());
      new_hash.update(bytes.data(), bytes.size());
      old_hash.finish(old_digest);
      new_hash.finish(new_digest);
      b.replace(std::string(grt::to_hex(old_digest).text) + "\", \"size\": " + std::to_string(before.size()),
                std::string(grt::to_hex(new_digest).text) + "\", \"size\": " + std::to_string(bytes.size()));
      b.files["weights.safetensors"] = bytes;
    };
  };
  return {
      // files that are not what bundle.json says
      {"bundle.json", "expected JSON in UTF-8", false, [](tiny::Bundle& b) { b.manifest.clear(); }},
      {"bundle.json", "expected JSON in UTF-8", false, [](tiny::Bundle& b) { b.manifest.pop_back(); }},
      {"bundle.json", "of at most 1000000 bytes", false,
       [](tiny::Bundle& b) { b.manifest += std::string(1000000, ' '); }},
      {"weights.safetensors", "found nothing of that name", false,
       [](tiny::Bundle& b) { b.files.erase("weights.safetensors"); }},
      {"prompts/000.png", "found nothing of that name", false,
       [](tiny::Bundle& b) { b.files.erase("prompts/000.png"); }},
      {"weights.safetensors", "found 3; fetch the file again (a Git LFS pointer", false,
       [](tiny::Bundle& b) { b.files["weights.safetensors"] = "git"; }},
      {"weights.safetensors", " bytes, found ", false,
       [](tiny::Bundle& b) { b.files["weights.safetensors"].pop_back(); }},
      {"weights.safetensors", " bytes, found ", false,
       [](tiny::Bundle& b) { b.files["weights.safetensors"] += '\0'; }},
      {"prompts/001.png", "found 0; fetch", false,
       [](tiny::Bundle& b) { b.files["prompts/001.png"].clear(); }},
      {"README.md", "expected 7 bytes, found 8", false, [](tiny::Bundle& b) { b.files["README.md"] += "x"; }},
      {"pass.onnx", "bytes, found 0", false, [](tiny::Bundle& b) { b.files["pass.onnx"].clear(); }},
      {"lam.safetensors", "bytes, found 4", false,
       [](tiny::Bundle& b) { b.files["lam.safetensors"] = "four"; }},
      {"weights.safetensors", "expected sha256 ", false, flip("weights.safetensors", 0)},
      {"weights.safetensors", "expected sha256 ", false, flip("weights.safetensors", 100)},
      {"weights.safetensors", "; fetch the file again", false, flip("weights.safetensors", SIZE_MAX)},
      {"prompts/000.png", "expected sha256 ", false, flip("prompts/000.png", 60)},
      {"prompts/001.png", "expected sha256 ", false, flip("prompts/001.png", SIZE_MAX)},
      // pictures
      {"prompts/001.png", "expected an RGB picture 9 high and 13 wide, found a grey one", true,
       picture("no-grey")},
      {"prompts/001.png", "found one with a palette", true, picture("no-palette")},
      {"prompts/001.png", "found RGB with alpha", true, picture("no-alpha")},
      {"prompts/001.png", "found RGB, 10 high", true, picture("no-tall")},
      {"prompts/001.png", "9 high and 14 wide", true, picture("no-wide")},
      {"prompts/001.png", "2147483647 high", true, picture("no-huge")},
      {"prompts/001.png", "cannot be decoded (a stream that ends early)", true, picture("no-half")},
      {"prompts/001.png", "cannot be decoded (an unknown filter)", true, picture("no-filter")},
      {"prompts/001.png", "cannot be decoded (no signature of PNG)", true, picture("no-jpeg")},
      {"prompts/001.png", "cannot be decoded (no signature of PNG)", true, picture("no-bytes")},
      // tensors
      {"weights.safetensors", "that 'dynamics.token_in.weight' is missing; export again", true,
       [](tiny::Bundle& b) { b.tensors.erase("dynamics.token_in.weight"); }},
      {"weights.safetensors", "that 'dynamics.copy_logit' and 1 more is missing", true,
       [](tiny::Bundle& b) {
         b.tensors.erase("dynamics.copy_logit"), b.tensors.erase("tokenizer.codebook");
       }},
      {"weights.safetensors", " and 76 more is missing", true, [](tiny::Bundle& b) { b.tensors.clear(); }},
      {"weights.safetensors", "that 'extra' is unknown", true,
       [](tiny::Bundle& b) { b.tensors["extra"] = b.tensors["dynamics.copy_logit"]; }},
      {"weights.safetensors", "that 'a' and 1 more is unknown", true,
       [](tiny::Bundle& b) { b.tensors["z"] = b.tensors["a"] = b.tensors["dynamics.copy_logit"]; }},
      {"weights.safetensors", "'dynamics.copy_logit' is missing", true,
       [](tiny::Bundle& b) {
         b.tensors["dynamics.copy_logits"] = b.tensors["dynamics.copy_logit"];
         b.tensors.erase("dynamics.copy_logit");
       }},
      {"weights.safetensors", "is missing", true, [](tiny::Bundle& b) { b.tensors.erase("lam_codebook"); }},
      {"weights.safetensors", "'tokenizer.decoder.blocks.2.up.weight' is unknown", true,
       [](tiny::Bundle& b) {
         b.tensors["tokenizer.decoder.blocks.2.up.weight"] =
             b.tensors["tokenizer.decoder.blocks.1.up.weight"];
       }},
      {"weights.safetensors", "'lam_codebook' is unknown", true,
       [](tiny::Bundle& b) {
         const size_t at = b.head.find("\"lam\": {");
         b.head = b.head.substr(0, at) + "\"lam\": null}" + b.head.substr(b.head.find("\"conv\"}}") + 8);
       }},
      {"weights.safetensors", "'dynamics.copy_logit' and 1 more is unknown", true,
       [](tiny::Bundle& b) {
         b.head.replace(b.head.find("\"copy_logit\": true"), 18, "\"copy_logit\": false");
       }},
      {"weights.safetensors", "'dynamics.code_in.weight' is unknown", true,
       [](tiny::Bundle& b) {
         b.head.replace(b.head.find("\"tie_codebook\": true"), 20, "\"tie_codebook\": false");
       }},
      {"weights.safetensors", "'dynamics.previous_in.weight' is unknown", true,
       [](tiny::Bundle& b) {
         b.head.replace(b.head.find("\"previous_token\": true"), 22, "\"previous_token\": false");
       }},
      {"weights.safetensors", "up.weight: expected shape [24, 16], found [16, 24]", true,
       [=](tiny::Bundle& b) {
         b.tensors[up].shape = {16, 24};
       }},
      {"weights.safetensors", "expected shape [24, 16], found [384]", true,
       [=](tiny::Bundle& b) { b.tensors[up].shape = {384}; }},
      {"weights.safetensors", "expected shape [24, 16], found [24, 16, 1]", true,
       [=](tiny::Bundle& b) {
         b.tensors[up].shape = {24, 16, 1};
       }},
      {"weights.safetensors", "dynamics.copy_logit: expected shape [], found [1]", true,
       tensor("dynamics.copy_logit", [](tiny::Tensor& t) { t.shape = {1}; })},
      {"weights.safetensors", "expected shape [8, 4]", true,
       [](tiny::Bundle& b) {
         b.head.replace(b.head.find("\"window\": 4"), 11, "\"window\": 5"),
             b.tensors["tokenizer.codebook"].shape = {4, 8};
       }},
      {"weights.safetensors", "age_bias: expected shape [2, 5], found [2, 4]", true,
       [](tiny::Bundle& b) { b.head.replace(b.head.find("\"window\": 4"), 11, "\"window\": 5"); }},
      {"weights.safetensors", "action_embedding: expected shape [3, 16], found [5, 16]", true,
       [](tiny::Bundle& b) {
         for (int i = 0; i < 2; i++)
           b.head.replace(b.head.find("\"num_actions\": 4"), 16, "\"num_actions\": 2");
         b.tail.replace(b.tail.find("[3, 0, 3]"), 9, "[1, 0, 1]");
       }},
      {"weights.safetensors", "expected dtype F32 or BF16, found 'F16'", true,
       tensor("tokenizer.codebook", [](tiny::Tensor& t) { t.dtype = "F16"; })},
      {"weights.safetensors", "bytes for a shape that has others in F32", true,
       tensor("tokenizer.codebook", [](tiny::Tensor& t) { t.dtype = "F32"; })},
      // numbers
      {"weights.safetensors", "dynamics.copy_logit: expected finite numbers, found 1 NaN or Inf", true,
       tensor("dynamics.copy_logit", [](tiny::Tensor& t) { set_number(t, 0, 0x7FC00000); })},
      {"weights.safetensors", "mask_embedding: expected finite numbers, found 1 NaN or Inf", true,
       tensor("dynamics.mask_embedding", [](tiny::Tensor& t) { set_number(t, 3, 0xFF800000); })},
      {"weights.safetensors", "tokenizer.codebook: expected finite numbers, found 2 NaN or Inf", true,
       tensor("tokenizer.codebook",
              [](tiny::Tensor& t) { set_number(t, 0, 0x7F800000), set_number(t, 31, 0x7F810000); })},
      {"weights.safetensors", "patch_out.weight: expected finite numbers, found 324 NaN", true,
       tensor("tokenizer.patch_out.weight", [](tiny::Tensor& t) { t.data.assign(t.data.size(), '\xff'); })},
      // the file as a whole
      {"weights.safetensors", "expected a safetensors file, found a header of 0 bytes", false,
       with_bytes([](std::string& bytes) { bytes.clear(); })},
      {"weights.safetensors", "expected a safetensors file, found a header", false,
       with_bytes([](std::string& bytes) { bytes[7] = '\x7f'; })},
      {"weights.safetensors", "a header that is no JSON", false,
       with_bytes([](std::string& bytes) { bytes[8] = '['; })},
      {"weights.safetensors", "a header that is no JSON", false,
       with_bytes([](std::string& bytes) { bytes[0]++; })},
      {"weights.safetensors", "tensors up to byte", false,
       with_bytes([](std::string& bytes) { bytes += '\0'; })},
      {"weights.safetensors", "tensors up to byte", false,
       with_bytes([](std::string& bytes) { bytes.pop_back(); })},
      {"weights.safetensors", "found a header of 2336927755350992246 bytes in a file of 43", false,
       with_bytes(
           [](std::string& bytes) { bytes = std::string("version https://git-lfs.github.com/spec/v1\n"); })},
      {"weights.safetensors", "a header that is no object", false,
       with_bytes([](std::string& bytes) { bytes = tiny::Bundle::with_length("[]"); })},
      {"weights.safetensors", "more than once", false,
       with_bytes([](std::string& bytes) { bytes = tiny::Bundle::with_length("{\"a\":1,\"a\":1}"); })},
  };
}

void broken() {
  size_t count = 0;
  for (const Break& each : breaks()) {
    tiny::Bundle files = tiny::make();
    each.change(files);
    if (each.is_sealed) files.seal();
    grt::Bundle bundle;
    grt::Error error;
    if (!GRT_CHECK(!tiny::open(files, bundle, error))) std::fprintf(stderr, "    %s\n", each.part);
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
    GRT_CHECK(std::strncmp(error.message, each.file, std::strlen(each.file)) == 0);
    GRT_CHECK_CONTAINS(error.message, each.part);
    GRT_CHECK(bundle.manifest.name[0] == 0 && bundle.tensors.size() == 0);
    count++;
  }
  GRT_CHECK(count >= 60);
}

struct Hooks {
  size_t held = 0, count = 0, fail_at = SIZE_MAX;
};

// Wherever memory runs out, there is a status and nothing is left.
void out_of_memory() {
  Hooks state;
  grt_allocator hooks;
  grt_allocator_init(&hooks);
  hooks.user = &state;
  hooks.allocate = [](void* user, size_t size, size_t) -> void* {
    Hooks& hooks = *static_cast<Hooks*>(user);
    if (hooks.count++ == hooks.fail_at) return nullptr;
    hooks.held += size;
    return std::malloc(size);
  };
  hooks.release = [](void* user, void* memory, size_t size) {
    static_cast<Hooks*>(user)->held -= size;
    std::free(memory);
  };
  const tiny::Bundle files = tiny::make();
  bool is_open = false;
  for (state.fail_at = 0; !is_open && state.fail_at < 1000; state.fail_at++) {
    grt::Error error;
    {
      grt::Bundle bundle;
      state.count = 0;
      is_open = tiny::open(files, bundle, error, grt::Allocator(hooks));
      GRT_CHECK_STATUS(error.status, is_open ? GRT_OK : GRT_ERROR_OUT_OF_MEMORY);
    }
    GRT_CHECK_EQ(state.held, size_t{0});
  }
  GRT_CHECK(is_open);
  GRT_CHECK(state.fail_at > 20);
}

void progress() {
  const tiny::Bundle files = tiny::make();
  struct Seen {
    uint64_t calls = 0, done = 0, total = 0, stop_at = UINT64_MAX;
  } seen;
  const auto call = [](void* user, uint64_t done, uint64_t total) -> int32_t {
    Seen& seen = *static_cast<Seen*>(user);
    GRT_CHECK(done >= seen.done && done <= total);
    seen.done = done;
    seen.total = total;
    return ++seen.calls >= seen.stop_at;
  };
  grt::Bundle bundle;
  grt::Error error;
  GRT_CHECK(tiny::open(files, bundle, error, grt::Allocator(), {call, &seen}));
  GRT_CHECK(seen.calls >= 2 && seen.done == seen.total && seen.total > 0);
  seen = {};
  seen.stop_at = 2;
  grt::Bundle other;
  GRT_CHECK(!tiny::open(files, other, error, grt::Allocator(), {call, &seen}));
  GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_CANCELLED));
  GRT_CHECK_EQ(seen.calls, uint64_t{2});
}

void wrong_memory() {
  grt::Files files;
  grt::Error error;
  const grt_file nameless{nullptr, "x", 1}, dataless{"bundle.json", nullptr, 1},
      empty{"bundle.json", nullptr, 0};
  for (const grt_file* file : {&nameless, &dataless}) {
    GRT_CHECK(!grt::Files::over_memory(file, 1, grt::Allocator(), files, error));
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_INPUT));
  }
  GRT_CHECK(!grt::Files::over_memory(nullptr, 1, grt::Allocator(), files, error));
  GRT_CHECK(grt::Files::over_memory(&empty, 1, grt::Allocator(), files, error));
  grt::Bundle bundle;
  GRT_CHECK(!grt::Bundle::open(files, grt::Allocator(), bundle, error));
  GRT_CHECK_CONTAINS(error.message, "bundle.json: expected JSON");
  GRT_CHECK(grt::Files::over_memory(nullptr, 0, grt::Allocator(), files, error));
  GRT_CHECK(!grt::Bundle::open(files, grt::Allocator(), bundle, error));
  GRT_CHECK_TEXT(error.message, "bundle.json: expected the bundle's manifest, found nothing of that name");
}

}  // namespace

int main() {
  shipped();
  tiny_one();
  broken();
  out_of_memory();
  progress();
  wrong_memory();
  return grt::test::failures();
}
