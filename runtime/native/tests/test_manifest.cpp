// bundle.json: what it says is taken over, and 200 ways to break it are refused, each by its name.
#include "check.hpp"
#include "tiny_bundle.hpp"

namespace {

bool parse(const std::string& text, grt::Manifest& manifest, grt::Error& error) {
  return grt::parse_manifest(reinterpret_cast<const uint8_t*>(text.data()), text.size(), "a/bundle.json",
                             grt::Allocator(), manifest, error);
}

void taken_over() {
  grt::Manifest manifest;
  grt::Error error;
  const std::string text = tiny::make().manifest;
  if (!GRT_CHECK(parse(text, manifest, error))) std::fprintf(stderr, "    %s\n", error.message);
  GRT_REQUIRE(error.status == GRT_OK);
  GRT_CHECK_TEXT(manifest.name, "tiny");
  const grt::TokenizerConfig& tokenizer = manifest.config.tokenizer;
  GRT_CHECK(tokenizer.height == 9 && tokenizer.width == 13 && tokenizer.patch == 4);
  GRT_CHECK(tokenizer.decoder_patch == 3 && tokenizer.codebook_size == 8 && tokenizer.codebook_dim == 4);
  GRT_CHECK(tokenizer.rows() == 3 && tokenizer.columns() == 4 && tokenizer.num_tokens() == 12);
  GRT_CHECK(tokenizer.frame_height() == 7 && tokenizer.frame_width() == 10);
  GRT_CHECK(tokenizer.decoder.num_layers == 2 && tokenizer.decoder.width == 12 &&
            tokenizer.decoder.num_heads == 2 && tokenizer.decoder.head_width == 4 &&
            tokenizer.decoder.mlp_width == 20 && tokenizer.decoder.window == 3);
  GRT_CHECK_EQ(tokenizer.encoder.window, 2);
  GRT_CHECK_EQ(manifest.config.dynamics.transformer.mlp_width, 24);
  GRT_CHECK_EQ(manifest.config.dynamics.num_actions, 4);
  GRT_CHECK_EQ(manifest.config.lam_codebook_dim, 2);
  GRT_CHECK_EQ(manifest.actions.size(), size_t{3});
  GRT_CHECK_TEXT(manifest.actions[2].name, "right");
  GRT_CHECK(manifest.actions[0].code == 3 && manifest.actions[1].code == 0);
  GRT_CHECK_EQ(manifest.default_action, 1);
  GRT_CHECK_EQ(manifest.plans.size(), size_t{2});
  GRT_CHECK_TEXT(manifest.plans[0].name, "default");
  GRT_CHECK(manifest.plans[0].plan.passes == 4 && manifest.plans[0].plan.temperature == 0.4);
  GRT_CHECK(manifest.plans[1].plan.order == GRT_ORDER_HALTON &&
            manifest.plans[1].plan.reuse == GRT_REUSE_PASSES && manifest.plans[1].plan.threshold == 0.99);
  GRT_CHECK_EQ(manifest.files.size(), size_t{11});
  GRT_CHECK_EQ(manifest.prompts.size(), size_t{2});
  GRT_CHECK_TEXT(manifest.prompts[1].name, "prompts/001.png");
  GRT_CHECK(manifest.find_file("pass-at.onnx") != nullptr && manifest.find_file("pass-a") == nullptr);
  GRT_CHECK_EQ(manifest.int8_limits.size(), size_t{2});
  GRT_CHECK_TEXT(manifest.int8_limits[0].linear, "dynamics.transformer.blocks.0.up");
  GRT_CHECK_EQ(manifest.int8_limits[0].amax, 3.25f);
  grt::Sha256 sha256;
  sha256.update(text.data(), text.size());
  uint8_t digest[32];
  sha256.finish(digest);
  GRT_CHECK(std::memcmp(digest, manifest.digest, 32) == 0);
}

struct Change {
  const char *from, *to;
  const char* part;  // of the message; null: it is still taken
};

const Change kChanges[] = {
    // JSON
    {"{\"schema", "[\"schema", "expected JSON in UTF-8"},
    {"\"tiny\"", "\"ti\xffny\"", "expected JSON in UTF-8"},
    {"\"name\": \"tiny\"", "\"name\": \"tiny\", \"name\": \"tiny\"", "the key 'name' more than once"},
    {"\"data\": \"none\"", "\"data\": NaN", "expected JSON"},
    {"\"data\": \"none\"", "\"data\": 1e999", "not finite"},
    {"\"data\": \"none\"", "\"data\": {\"a\": [1, {\"b\": []}], \"c\": \"\\u0000\\u00e9\"}", nullptr},
    // versions
    {"\"schema_version\": 1", "\"schema_version\": 2", "install a newer genie-rt"},
    {"\"schema_version\": 1", "\"schema_version\": 0", "found 0; export the bundle again"},
    {"\"schema_version\": 1", "\"schema_version\": \"1\"", "export the bundle again"},
    {"\"schema_version\": 1", "\"schema_version\": 1.0", "export the bundle again"},
    {"\"schema_version\": 1", "\"schema_version\": true", "export the bundle again"},
    {"\"schema_version\": 1, ", "", "found none"},
    // keys
    {"\"preset\"", "\"prest\"", "Manifest: unknown key 'prest'; did you mean 'preset'?"},
    {"\"preset\": \"demo\", ", "", "Manifest: the key 'preset' is missing"},
    {"\"preset\": \"demo\"", "\"preset\": \"demo\", \"x\": 1",
     "unknown key 'x'; valid keys are schema_version"},
    {"\"patch\": 4", "\"pach\": 4", "Manifest.config.tokenizer: unknown key 'pach'; did you mean 'patch'?"},
    {"\"patch\": 4, ", "", "Manifest.config.tokenizer: the key 'patch' is missing"},
    {"\"config\": {", "\"config\": 5, \"x\": {", "Manifest: unknown key 'x'"},
    {"\"provenance\": {", "\"provenance\": [], \"int8x\": {", "did you mean 'int8'?"},
    // names
    {"\"name\": \"tiny\"", "\"name\": \"\"", "Manifest.name: expected 1 to 64 of"},
    {"\"name\": \"tiny\"", "\"name\": \"-a\"", "Manifest.name: expected 1 to 64 of"},
    {"\"name\": \"tiny\"", "\"name\": \"a/b\"", "found 'a/b'"},
    {"\"name\": \"tiny\"", "\"name\": \"a\\u0000\"", "found 'a\\u{0}'"},
    {"\"name\": \"tiny\"", "\"name\": 7", "Manifest.name: expected a text, found 7"},
    {"\"name\": \"tiny\"", "\"name\": null", "found null"},
    {"\"name\": \"tiny\"", "\"name\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
     "Manifest.name"},
    {"\"preset\": \"demo\"", "\"preset\": \"d e\"", "Manifest.preset: expected 1 to 64 of"},
    // sizes
    {"\"height\": 9", "\"height\": 0",
     "Manifest.config.tokenizer.height: expected a whole number from 1 to 8192"},
    {"\"height\": 9", "\"height\": -9", "found -9"},
    {"\"height\": 9", "\"height\": 8193", "found 8193"},
    {"\"height\": 9", "\"height\": 9.0", "found 9.0"},
    {"\"height\": 9", "\"height\": \"9\"", "found '9'"},
    {"\"height\": 9", "\"height\": true", "found true"},
    {"\"height\": 9", "\"height\": 18446744073709551625", "found a number beyond 64 bits"},
    {"\"patch\": 4", "\"patch\": 257", "from 1 to 256"},
    {"\"codebook_size\": 8", "\"codebook_size\": 65537", "from 1 to 65536"},
    {"\"codebook_dim\": 4", "\"codebook_dim\": 4097", "from 1 to 4096"},
    {"\"num_layers\": 1", "\"num_layers\": 513", "Manifest.config.tokenizer.encoder.num_layers"},
    {"\"width\": 16", "\"width\": 65537", "Manifest.config.tokenizer.encoder.width"},
    {"\"num_heads\": 2", "\"num_heads\": 1025", "from 1 to 1024"},
    {"\"head_width\": 8", "\"head_width\": 1025", "from 1 to 1024"},
    {"\"mlp_width\": 24", "\"mlp_width\": 262145", "Manifest.config.dynamics.transformer.mlp_width"},
    {"\"window\": 4", "\"window\": 4097", "Manifest.config.dynamics.transformer.window"},
    {"\"encoder\": {", "\"encoder\": 1, \"x\": {", "unknown key 'x'"},
    {"\"dynamics\": {", "\"dynamics\": null, \"lam2\": {", "unknown key 'lam2'"},
    {"\"num_actions\": 4, \"merge\"", "\"num_actions\": 4097, \"merge\"", "from 1 to 4096"},
    {"\"num_actions\": 4, \"merge\"", "\"num_actions\": 5, \"merge\"", "as many latent actions"},
    {"\"merge\": 1, ", "", nullptr},
    {"\"merge\": 1", "\"merge\": 2", "merge to divide the token grid 3x4, found 2"},
    {"\"merge\": 1", "\"merge\": 17", "from 1 to 16"},
    {"\"embedding_dim\": 4", "\"embedding_dim\": 65537", "from 1 to 65536"},
    {"\"tie_codebook\": true", "\"tie_codebook\": 1",
     "Manifest.config.dynamics.tie_codebook: expected true or"},
    {"\"copy_logit\": true", "\"copy_logit\": \"no\"", "expected true or false, found 'no'"},
    {"\"copy_logit\": true", "\"copy_logit\": null", "expected true or false, found null"},
    {"\"copy_logit\": true", "\"copy_logit\": false", nullptr},
    // the latent action model
    {"\"kind\": \"conv\"", "\"kind\": \"st\"", "Manifest.config.lam: unknown key"},
    {", \"kind\": \"conv\"", "", "Manifest.config.lam: unknown key"},
    {"\"bottleneck\": \"fsq\"", "\"bottleneck\": \"vq\"", nullptr},
    {"\"bottleneck\": \"fsq\"", "\"bottleneck\": \"fs\"",
     "Manifest.config.lam.bottleneck: expected one of fsq, lfq"},
    {"\"past_frames\": 2", "\"past_frames\": 65", "from 1 to 64"},
    {"\"lam\": {\"num_actions\": 4", "\"lam\": {\"num_actions\": 3", "2, 4, 8, ..."},
    {"\"lam\": {\"num_actions\": 4", "\"lam\": {\"num_actions\": 8", "as many latent actions"},
    {"\"lam\": {", "\"lam\": [], \"dynamic\": {", "unknown key 'dynamic'; did you mean 'dynamics'?"},
    // actions
    {"\"left\", ", "", "expected 3 names, one per entry of action_codes, found 2"},
    {"\"action_codes\": [3, 0, 3]", "\"action_codes\": []",
     "expected 4 names, one per action of the dynamics"},
    {"\"action_codes\": [3, 0, 3]", "\"action_codes\": [3, 0, 4]", "expected numbers from 0 to 3, found 4"},
    {"\"action_codes\": [3, 0, 3]", "\"action_codes\": [3, -1, 3]", "found -1"},
    {"\"action_codes\": [3, 0, 3]", "\"action_codes\": [3, 0.0, 3]", "found 0.0"},
    {"\"action_codes\": [3, 0, 3]", "\"action_codes\": {}", "Manifest.action_codes: expected a list"},
    {"\"action_codes\": [3, 0, 3]", "\"action_codes\": null", "Manifest.action_codes: expected a list"},
    {"\"left\"", "\"stay\"", "every name once, found 'stay'"},
    {"\"left\"", "\"\"", "1 to 64 printable characters"},
    {"\"left\"", "\" left\"", "1 to 64 printable characters"},
    {"\"left\"", "\"left \"", "1 to 64 printable characters"},
    {"\"left\"", "\"le\\u0000ft\"", "1 to 64 printable characters"},
    {"\"left\"", "\"le\\u202eft\"", "found 'le\\u{202e}ft'"},
    {"\"left\"", "\"le\\u00a0ft\"", "1 to 64 printable characters"},
    {"\"left\"", "5", "found 5"},
    {"\"left\"", "\"\xe2\x86\x90 links, \xe5\xb7\xa6\"", nullptr},
    {"\"default_action\": \"stay\"", "\"default_action\": \"sta\"",
     "expected one of action_names, found 'sta'"},
    {"\"default_action\": \"stay\"", "\"default_action\": 1", "Manifest.default_action: expected a text"},
    // plans
    {"\"default\": {", "\"defaul\": {", "a plan named \"default\""},
    {"\"fast\": {", "\"fa st\": {", "found 'fa st'"},
    {"\"fast\": {", "\"fast\": 5, \"faster\": {", "Manifest.plans['fast']: expected an object, found 5"},
    {"\"order\": \"halton\"", "\"order\": \"hilbert\"",
     "Manifest.plans['fast'].order: expected one of maskgit, ada"},
    {"\"order\": \"halton\"", "\"order\": \"maskgit\"",
     "\"passes\" needs the order \"random\" or \"halton\""},
    {"\"passes\": 4", "\"passes\": 0",
     "Manifest.plans['default'].passes: expected a whole number from 1 to 4096"},
    {"\"passes\": 4", "\"passes\": 13", "expected at most 12, the tokens of a frame"},
    {"\"passes\": 4", "\"passes\": 12", nullptr},
    {"\"passes\": 4", "\"passes\": 4.0", "found 4.0"},
    {"\"passes\": 1", "\"passes\": 13", "expected at most 12, the positions of a frame"},
    {"\"temperature\": 0.4", "\"temperature\": 0", "expected a number from 1e-06 to 1e+06, found 0"},
    {"\"temperature\": 0.4", "\"temperature\": 1", nullptr},
    {"\"temperature\": 0.4", "\"temperature\": \"0.4\"", "found '0.4'"},
    {"\"temperature\": 0.4", "\"temperature\": 1000000.1", "found 1000000.1"},
    {"\"temperature\": 0.4", "\"temperature\": 99999999999999999999", "beyond 64 bits"},
    {"\"noise\": 1.0", "\"noise\": -1", "from 0 to 1e+06"},
    {"\"threshold\": 0.99", "\"threshold\": 1.01", "from 1e-09 to 1"},
    {"\"threshold\": 0.99", "\"threshold\": 0", "from 1e-09 to 1"},
    {"\"fresh\": 0.75", "\"fresh\": 0.0", "from 1e-09 to 1"},
    {"\"reuse\": \"none\"", "\"reuse\": \"frames\"", nullptr},
    {"\"reuse\": \"none\"", "\"reuse\": \"frame\"", "expected one of none, passes, frames"},
    {"\"passes\": 4, \"temperature\": 0.4, \"noise\": 1.0, \"threshold\": 0.99, \"reuse\": \"none\"",
     "\"passes\": 1, \"reuse\": \"frames\"", "\"frames\" needs 2 passes or more"},
    {"\"noise\": 1.0", "\"noize\": 1.0", "did you mean 'noise'?"},
    // files
    {"\"weights.safetensors\"", "\"weight.safetensors\"", "found 'weight.safetensors'"},
    {"\"README.md\"", "\"../README.md\"", "found '../README.md'"},
    {"\"README.md\"", "\"readme.md\"", "in the bundle's folder, found 'readme.md'"},
    {"\"prompts/000.png\"", "\"prompts/../000.png\"", "found 'prompts/../000.png'"},
    {"\"prompts/000.png\"", "\"prompts/.png\"", "found 'prompts/.png'"},
    {"\"prompts/000.png\"", "\"prompts/a/b.png\"", "found 'prompts/a/b.png'"},
    {"\"prompts/000.png\"", "\"prompts\\\\000.png\"", "found 'prompts\\\\000.png'"},
    {"\"prompts/000.png\"", "\"prompts/000.png\\u0000\"", "found 'prompts/000.png\\u{0}'"},
    {"\"prompts/000.png\"", "\"/etc/passwd\"", "found '/etc/passwd'"},
    {"\"prompts/000.png\"", "\"C:000.png\"", "found 'C:000.png'"},
    {"\"size\": 7", "\"size\": -1", "Manifest.files['README.md'].size: expected 0 to 68719476736 bytes"},
    {"\"size\": 7", "\"size\": 68719476737", "found 68719476737"},
    {"\"size\": 7", "\"size\": 68719476736", "sizes of at most 68719476736 bytes together"},
    {"\"size\": 7", "\"size\": 7.0", "found 7.0"},
    {"\"size\": 7", "\"size\": \"7\"", "found '7'"},
    {", \"size\": 7", "", "the key 'size' is missing"},
    {"\"size\": 7", "\"size\": 7, \"mode\": 5", "unknown key 'mode'"},
    {"\"sha256\": \"", "\"sha256\": \"0", "64 digits of 0-9 a-f"},
    {"\"sha256\": \"", "\"sha256\": 7, \"size2\": \"", "unknown key 'size2'"},
    {"\"files\": {", "\"files\": [{", "expected JSON"},
    // graphs
    {"\"opset\": 23", "\"opset\": 0", "Manifest.graphs.opset: expected a whole number from 1 to 1000"},
    {"\"opset\": 23, ", "", "the key 'opset' is missing"},
    {"[\"float32\"]", "[]", "Manifest.graphs.precisions: expected some of float32, float16, int8"},
    {"[\"float32\"]", "[\"float64\"]", "found 'float64'"},
    {"[\"float32\"]", "[\"float32\", \"float32\"]", "every name once"},
    {"[\"float32\"]", "[\"float32\", \"int8\"]", "a record of encode.int8.onnx in files"},
    {"[\"float32\"]", "[\"int8\"]", "a record of encode.int8.onnx in files"},
    {"[\"float32\"]", "5", "Manifest.graphs.precisions: expected a list, found 5"},
    {"[\"default\"]", "[\"default\", \"best\"]", "some of the plans, found 'best'"},
    {"[\"default\"]", "[\"default\", \"fast\"]", "a record of frame-fast.onnx in files"},
    {"[\"default\"]", "[]", "the precision and plan of every .onnx file, found 'frame-default.onnx'"},
    {"[\"default\"]", "[\"default\", \"default\"]", "every name once"},
    {"\"decode.onnx\"", "\"decoder.onnx\"", "a record of decode.onnx in files"},
    {"\"lam.safetensors\"", "\"other.onnx\"", "every .onnx file, found 'other.onnx'"},
    {"\"lam.safetensors\"", "\"pass.int8.onnx\"", "every .onnx file, found 'pass.int8.onnx'"},
    {"\"graphs\": {\"opset\"", "\"graphs\": null, \"x\": {\"opset\"", "unknown key 'x'"},
    {"\"fast\": {", "\"fast.int8\": {", "no plan whose name ends with .fp16 or .int8"},
    {"\"bounds\": {\"int8\"", "\"bounds\": {\"float32\"", "expected int8 alone"},
    {"\"bounds\": {\"int8\": {", "\"bounds\": null, \"x\": {\"int8\": {", "unknown key 'x'"},
    {"\"means\": 0.1", "\"means\": 0.46", "from 0 to 0.45"},
    {"\"means\": 0.1", "\"means\": 0", "above 0"},
    {"\"logit\": 0.5", "\"logit\": 0.76", "from 0 to 0.75"},
    {"\"psnr_db\": 48", "\"psnr_db\": 41", "from 42 to 200"},
    {"\"psnr_db\": 48", "\"psnr_db\": 48, \"x\": 1", "unknown key 'x'"},
    {"\"psnr_change_db\": {\"int8\": -0.25}", "\"psnr_change_db\": {\"int8\": -101}", "-100 to 100 dB"},
    {"\"psnr_change_db\": {\"int8\": -0.25}", "\"psnr_change_db\": {\" \": -1}", "expected 1 to 64 of"},
    {"\"psnr_change_db\": {\"int8\": -0.25}", "\"psnr_change_db\": null", "expected an object, found null"},
    // int8
    {"\"limits\": {", "\"limits\": {\"dynamics.transformer.blocks.1.up\": 1, ",
     "found 'dynamics.transformer.blocks.1.up'"},
    {"blocks.0.up", "blocks.00.up", "expected linears of the model"},
    {"blocks.0.up", "blocks.-0.up", "expected linears of the model"},
    {"blocks.0.up", "blocks..up", "expected linears of the model"},
    {"blocks.0.up", "blocks.0.up.weight", "expected linears of the model"},
    {"blocks.0.up", "blocks.0", "expected linears of the model"},
    {"blocks.0.up", "blocks.99999999999.up", "expected linears of the model"},
    {"tokenizer.decoder.blocks.1.spatial.qkv", "tokenizer.decoder.blocks.2.spatial.qkv",
     "linears of the model"},
    {"tokenizer.decoder.blocks.1.spatial.qkv", "tokenizer.encoder.blocks.0.spatial.qkv", nullptr},
    {"tokenizer.decoder.blocks.1.spatial.qkv", "lam.blocks.0.up", "linears of the model"},
    {"3.25", "0", "expected numbers from 1e-30 to 1e+30, found 0"},
    {"3.25", "-1", "found -1"},
    {"3.25", "1e30", "found 1e30"},
    {"3.25", "9.99e29", nullptr},
    {"3.25", "1e-30", nullptr},
    {"3.25", "9e-31", "found 9e-31"},
    {"3.25", "null", "found null"},
    {"3.25", "\"3\"", "found '3'"},
    {"{\"limits\": {", "{\"limits\": {}, \"x\": {", "unknown key 'x'"},
    {"\"int8\": {\"limits\": {", "\"int8\": null}{", "expected JSON"},
    {"{\"dynamics.transformer.blocks.0.up\": 3.25, \"tokenizer.decoder.blocks.1.spatial.qkv\": 2}", "{}",
     "Manifest.int8.limits: expected one linear or more"},
    // memory
    {"\"window\": 4", "\"window\": 4096", nullptr},
    {"\"height\": 9, \"width\": 13", "\"height\": 8192, \"width\": 8192",
     "warrant, found sizes that take about"},
    {"\"embedding_dim\": 4", "\"embedding_dim\": 65536", nullptr},
};

void changes() {
  for (const Change& change : kChanges) {
    tiny::Bundle bundle = tiny::make();
    if (!GRT_CHECK(bundle.replace(change.from, change.to))) std::fprintf(stderr, "    %s\n", change.from);
    grt::Manifest manifest;
    grt::Error error;
    const bool is_taken = parse(bundle.manifest, manifest, error);
    if (!GRT_CHECK_EQ(is_taken, change.part == nullptr)) {
      std::fprintf(stderr, "    %s to %s: %s\n", change.from, change.to, error.message);
    }
    if (is_taken || change.part == nullptr) continue;
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
    GRT_CHECK(std::strncmp(error.message, "a/bundle.json: ", 15) == 0);
    GRT_CHECK_CONTAINS(error.message, change.part);
    GRT_CHECK(manifest.name[0] == 0);
  }
}

// Parts that are left out where they may be.
void optional() {
  tiny::Bundle bundle = tiny::make();
  for (const char* name : {"encode", "commit", "pass", "pass-at", "decode", "frame-default"}) {
    bundle.files.erase(std::string(name) + ".onnx");
  }
  for (const char* tail : {"}", ", \"graphs\": null, \"int8\": null}"}) {
    bundle.head.replace(bundle.head.find("[\"left\""), 25, "[\"a\", \"b\", \"c\", \"stay\"]");
    bundle.tail = tail;
    bundle.seal();
    grt::Manifest manifest;
    grt::Error error;
    if (!GRT_CHECK(parse(bundle.manifest, manifest, error))) std::fprintf(stderr, "    %s\n", error.message);
    GRT_CHECK_EQ(manifest.int8_limits.size(), size_t{0});
    bundle = tiny::make();
    for (const char* name : {"encode", "commit", "pass", "pass-at", "decode", "frame-default"}) {
      bundle.files.erase(std::string(name) + ".onnx");
    }
  }
}

void too_long() {
  tiny::Bundle bundle = tiny::make();
  bundle.manifest += std::string(1000001 - bundle.manifest.size(), ' ');
  grt::Manifest manifest;
  grt::Error error;
  GRT_CHECK(!parse(bundle.manifest, manifest, error));
  GRT_CHECK_TEXT(error.message, "a/bundle.json: expected at most 1000000 bytes, found more");
  bundle.manifest.pop_back();
  GRT_CHECK(parse(bundle.manifest, manifest, error));
  for (const char* text : {"[]", "5", "null", "\"x\""}) {
    GRT_CHECK(!parse(text, manifest, error));
    GRT_CHECK_CONTAINS(error.message, "a/bundle.json: Manifest: expected an object, found ");
  }
  GRT_CHECK(!parse("{}", manifest, error));
  GRT_CHECK_CONTAINS(error.message, "expected schema_version 1");
}

}  // namespace

int main() {
  taken_over();
  changes();
  optional();
  too_long();
  return grt::test::failures();
}
