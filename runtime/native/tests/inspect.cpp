// Prints what the library makes of bundles: one line of JSON for each folder, for comparison with Python.
// With --manifest the arguments are files like bundle.json, which are read alone; with --time it prints
// instead the time that opening takes. Ends with 1 if one of them is refused.
#include <chrono>
#include <cstdio>
#include <cstring>

#include "bundle/bundle.hpp"
#include "bundle/plan.hpp"
#include "support/file.hpp"
#include "support/sha256.hpp"

namespace {

void print_text(const char* text) {
  std::putchar('"');
  for (; *text != 0; text++) {
    if (*text == '"' || *text == '\\') std::putchar('\\');
    if (static_cast<unsigned char>(*text) < 0x20) {
      std::printf("\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(*text)));
    } else {
      std::putchar(*text);
    }
  }
  std::putchar('"');
}

void print_transformer(const char* name, const grt::TransformerConfig& config) {
  std::printf("\"%s\": [%d, %d, %d, %d, %d, %d]", name, config.num_layers, config.width, config.num_heads,
              config.head_width, config.mlp_width, config.window);
}

void print_manifest(const grt::Manifest& manifest) {
  const grt::TokenizerConfig& tokenizer = manifest.config.tokenizer;
  const grt::DynamicsConfig& dynamics = manifest.config.dynamics;
  std::printf("\"name\": ");
  print_text(manifest.name);
  std::printf(", \"digest\": \"%s\", \"tokenizer\": [%d, %d, %d, %d, %d, %d], ",
              grt::to_hex(manifest.digest).text, tokenizer.height, tokenizer.width, tokenizer.patch,
              tokenizer.decoder_patch, tokenizer.codebook_size, tokenizer.codebook_dim);
  print_transformer("encoder", tokenizer.encoder);
  std::printf(", ");
  print_transformer("decoder", tokenizer.decoder);
  std::printf(", ");
  print_transformer("dynamics", dynamics.transformer);
  std::printf(", \"switches\": [%d, %d, %d, %d, %d, %d], \"lam\": %d, \"actions\": [", dynamics.num_actions,
              dynamics.merge, dynamics.embedding_dim, dynamics.tie_codebook, dynamics.previous_token,
              dynamics.copy_logit, manifest.config.lam_codebook_dim);
  for (size_t i = 0; i < manifest.actions.size(); i++) {
    std::printf(i > 0 ? ", [" : "[");
    print_text(manifest.actions[i].name);
    std::printf(", %d]", manifest.actions[i].code);
  }
  std::printf("], \"default_action\": %d, \"plans\": {", manifest.default_action);
  for (size_t i = 0; i < manifest.plans.size(); i++) {
    const grt::Plan& plan = manifest.plans[i].plan;
    std::printf("%s\"%s\": [\"%s\", %d, %.17g, %.17g, %.17g, \"%s\", %.17g]", i > 0 ? ", " : "",
                manifest.plans[i].name, grt::order_name(plan.order), plan.passes, plan.temperature,
                plan.noise, plan.threshold, grt::reuse_name(plan.reuse), plan.fresh);
  }
  std::printf("}, \"files\": {");
  for (size_t i = 0; i < manifest.files.size(); i++) {
    const grt::FileRecord& record = manifest.files[i];
    std::printf("%s\"%s\": [\"%s\", %llu]", i > 0 ? ", " : "", record.name, grt::to_hex(record.sha256).text,
                static_cast<unsigned long long>(record.size));
  }
  std::printf("}, \"prompts\": [");
  for (size_t i = 0; i < manifest.prompts.size(); i++) {
    std::printf("%s\"%s\"", i > 0 ? ", " : "", manifest.prompts[i].name);
  }
  std::printf("], \"int8\": {");
  for (size_t i = 0; i < manifest.int8_limits.size(); i++) {
    std::printf("%s\"%s\": %.9g", i > 0 ? ", " : "", manifest.int8_limits[i].linear,
                static_cast<double>(manifest.int8_limits[i].amax));
  }
  std::printf("}");
}

void print_tensors(const grt::Bundle& bundle) {
  std::printf(", \"tensors\": {");
  for (size_t i = 0; i < bundle.tensors.size(); i++) {
    const grt::Tensor& tensor = bundle.tensors[i];
    const size_t bytes = static_cast<size_t>(tensor.count()) * (tensor.is_bf16 ? 2 : 4);
    grt::Sha256 sha256;
    sha256.update(tensor.data, bytes);
    uint8_t digest[32];
    sha256.finish(digest);
    std::printf("%s\"%s\": [\"%s\", [", i > 0 ? ", " : "", tensor.name, tensor.is_bf16 ? "BF16" : "F32");
    for (int32_t j = 0; j < tensor.rank; j++) {
      std::printf("%s%lld", j > 0 ? ", " : "", static_cast<long long>(tensor.shape[j]));
    }
    std::printf("], \"%s\"]", grt::to_hex(digest).text);
  }
  grt::Sha256 sha256;
  sha256.update(bundle.pictures.data(), bundle.pictures.size());
  uint8_t digest[32];
  sha256.finish(digest);
  std::printf("}, \"pictures\": \"%s\"", grt::to_hex(digest).text);
}

bool open_manifest(const char* path, grt::Manifest& manifest, grt::Error& error) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return error.fail(GRT_ERROR_INPUT, "%s: cannot be opened", path);
  static uint8_t data[1100000];
  const size_t size = std::fread(data, 1, sizeof data, file);
  std::fclose(file);
  return grt::parse_manifest(data, size, path, grt::Allocator(), manifest, error);
}

bool open_bundle(const char* path, grt::Bundle& bundle, grt::Error& error) {
  grt::Files files;
  return grt::Files::open_folder(path, grt::Allocator(), files, error) &&
         grt::Bundle::open(files, grt::Allocator(), bundle, error);
}

void print_time(const char* path) {
  double least = 1e9;
  for (int i = 0; i < 20; i++) {
    grt::Bundle bundle;
    grt::Error error;
    const auto begin = std::chrono::steady_clock::now();
    if (!open_bundle(path, bundle, error)) std::printf("%s\n", error.message);
    const double time =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    if (i == 0) std::printf("%s: first %.2f ms", path, time);
    if (time < least) least = time;
  }
  std::printf(", best of 20 %.2f ms\n", least);
}

}  // namespace

int main(int argc, char** argv) {
  bool is_manifest = false, is_timed = false, is_any_refused = false;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--manifest") == 0) {
      is_manifest = true;
    } else if (std::strcmp(argv[i], "--time") == 0) {
      is_timed = true;
    } else if (is_timed) {
      print_time(argv[i]);
    } else {
      grt::Bundle bundle;
      grt::Error error;
      const bool ok =
          is_manifest ? open_manifest(argv[i], bundle.manifest, error) : open_bundle(argv[i], bundle, error);
      is_any_refused |= !ok;
      std::printf("{");
      if (ok) {
        print_manifest(bundle.manifest);
        if (!is_manifest) print_tensors(bundle);
      } else {
        std::printf("\"status\": %d, \"error\": ", static_cast<int>(error.status));
        print_text(error.message);
      }
      std::printf("}\n");
    }
  }
  return is_any_refused ? 1 : 0;
}
