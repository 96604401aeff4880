// A whole, valid bundle of the smallest sizes, in memory, and the tools to tamper with it.
//
//     tiny::Bundle bundle = tiny::make();
//     bundle.replace("\"stay\"", "\"go\"");  // in bundle.json
//     grt::Error error;
//     grt::Bundle opened;
//     tiny::open(bundle, opened, error);
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "bundle/parameters.hpp"
#include "support/file.hpp"
#include "support/sha256.hpp"

namespace tiny {

inline constexpr char kConfig[] =
    R"({"tokenizer": {"height": 9, "width": 13, "patch": 4, "decoder_patch": 3, "codebook_size": 8,)"
    R"( "codebook_dim": 4, "encoder": {"num_layers": 1, "width": 16, "num_heads": 2, "head_width": 8,)"
    R"( "mlp_width": 16, "window": 2}, "decoder": {"num_layers": 2, "width": 12, "num_heads": 2,)"
    R"( "head_width": 4, "mlp_width": 20, "window": 3}}, "dynamics": {"transformer": {"num_layers": 1,)"
    R"( "width": 16, "num_heads": 2, "head_width": 8, "mlp_width": 24, "window": 4}, "num_actions": 4,)"
    R"( "merge": 1, "embedding_dim": 4, "tie_codebook": true, "previous_token": true, "copy_logit": true},)"
    R"( "lam": {"num_actions": 4, "past_frames": 2, "width": 8, "bottleneck": "fsq", "vq_dim": 8,)"
    R"( "kind": "conv"}})";

// A tensor of weights.safetensors.
struct Tensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

struct Bundle {
  std::string head, tail;                    // bundle.json before and behind the records of "files"
  std::map<std::string, std::string> files;  // all but bundle.json
  std::map<std::string, Tensor> tensors;     // become weights.safetensors in `seal`
  std::map<std::string, std::string> extra;  // not recorded

  std::string manifest;  // bundle.json

  // Writes the weights and bundle.json anew, with records that are right.
  void seal() {
    pack();
    manifest = head + "\"files\": {";
    const char* comma = "";
    for (const auto& [name, data] : files) {
      grt::Sha256 sha256;
      sha256.update(data.data(), data.size());
      uint8_t digest[32];
      sha256.finish(digest);
      manifest += comma;
      manifest += "\"" + name + "\": {\"sha256\": \"" + grt::to_hex(digest).text +
                  "\", \"size\": " + std::to_string(data.size()) + "}";
      comma = ", ";
    }
    manifest += "}" + tail;
  }

  // Puts another text in place of the first one like `from` in bundle.json; false if there is none.
  bool replace(const std::string& from, const std::string& to) {
    const size_t at = manifest.find(from);
    if (at == std::string::npos) return false;
    manifest.replace(at, from.size(), to);
    return true;
  }

  void pack() {
    std::string header, data;
    for (const auto& [name, tensor] : tensors) {
      header += header.empty() ? "{" : ", ";
      header += "\"" + name + "\": {\"dtype\": \"" + tensor.dtype + "\", \"shape\": [";
      for (size_t i = 0; i < tensor.shape.size(); i++) {
        header += (i > 0 ? ", " : "") + std::to_string(tensor.shape[i]);
      }
      header += "], \"data_offsets\": [" + std::to_string(data.size()) + ", " +
                std::to_string(data.size() + tensor.data.size()) + "]}";
      data += tensor.data;
    }
    header += header.empty() ? "{}" : "}";
    files["weights.safetensors"] = with_length(header) + data;
  }

  // A header of safetensors with its length before it.
  static std::string with_length(const std::string& header) {
    std::string whole;
    for (int i = 0; i < 8; i++) whole += static_cast<char>(uint64_t{header.size()} >> (8 * i) & 255);
    return whole + header;
  }
};

// Small numbers with many bits, as F32 or BF16.
inline Tensor make_tensor(const grt::Parameter& parameter, bool is_bf16) {
  Tensor tensor;
  tensor.dtype = is_bf16 ? "BF16" : "F32";
  size_t count = 1;
  for (int32_t i = 0; i < parameter.rank; i++) {
    tensor.shape.push_back(parameter.shape[i]);
    count *= static_cast<size_t>(parameter.shape[i]);
  }
  uint32_t state = 2463534242u;
  for (const char* c = parameter.name; *c != 0; c++) state = state * 31 + static_cast<unsigned char>(*c);
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    const float number = static_cast<float>(static_cast<int32_t>(state)) / 4294967296.0f;
    uint32_t bits;
    std::memcpy(&bits, &number, 4);
    for (int byte = is_bf16 ? 2 : 0; byte < 4; byte++) {
      tensor.data += static_cast<char>(bits >> (8 * byte) & 255);
    }
  }
  return tensor;
}

// The config that kConfig spells.
inline grt::ModelConfig config() {
  grt::ModelConfig made;
  made.tokenizer = {9, 13, 4, 3, 8, 4, {1, 16, 2, 8, 16, 2}, {2, 12, 2, 4, 20, 3}};
  made.dynamics.transformer = {1, 16, 2, 8, 24, 4};
  made.dynamics.num_actions = 4;
  made.dynamics.embedding_dim = 4;
  made.lam_codebook_dim = 2;
  return made;
}

inline std::string read_file(const char* path) {
  std::string data;
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) {
    std::fprintf(stderr, "%s: cannot be opened; run this in the repository's root\n", path);
    return data;
  }
  for (int byte; (byte = std::fgetc(file)) != EOF;) data += static_cast<char>(byte);
  std::fclose(file);
  return data;
}

inline Bundle make() {
  Bundle bundle;
  bundle.head =
      std::string(R"({"schema_version": 1, "name": "tiny", "preset": "demo", "config": )") + kConfig +
      R"(, "action_names": ["left", "stay", "right"], "default_action": "stay", "plans":)"
      R"( {"default": {"order": "maskgit", "passes": 4, "temperature": 0.4, "noise": 1.0, "threshold": 0.99,)"
      R"( "reuse": "none", "fresh": 0.75}, "fast": {"order": "halton", "passes": 1, "reuse": "passes"}},)"
      R"( "provenance": {"data": "none", "nested": {"list": [1, 2.5, null, true]}}, )";
  bundle.tail =
      R"(, "graphs": {"opset": 23, "precisions": ["float32"], "frame_plans": ["default"], "bounds": {"int8":)"
      R"( {"means": 0.1, "logit": 0.5, "psnr_db": 48}}, "psnr_change_db": {"int8": -0.25}},)"
      R"( "action_codes": [3, 0, 3], "int8": {"limits": {"dynamics.transformer.blocks.0.up": 3.25,)"
      R"( "tokenizer.decoder.blocks.1.spatial.qkv": 2}}})";
  for (const char* graph : {"encode", "commit", "pass", "pass-at", "decode", "frame-default"}) {
    bundle.files[std::string(graph) + ".onnx"] = std::string("no graph, but ") + graph;
  }
  bundle.files["README.md"] = "# tiny\n";
  bundle.files["lam.safetensors"] = "play never opens it";
  bundle.files["prompts/000.png"] = read_file("runtime/native/tests/data/png/filters.png");
  bundle.files["prompts/001.png"] = read_file("runtime/native/tests/data/png/interlaced.png");
  grt::for_each_parameter(config(), [&](const grt::Parameter& parameter) {
    bundle.tensors[parameter.name] = make_tensor(parameter, parameter.rank == 2);
  });
  bundle.seal();
  return bundle;
}

// Opens it from memory.
inline bool open(const Bundle& bundle, grt::Bundle& opened, grt::Error& error,
                 const grt::Allocator& allocator = grt::Allocator(), const grt::Progress& progress = {}) {
  std::vector<grt_file> files;
  files.push_back({"bundle.json", bundle.manifest.data(), bundle.manifest.size()});
  for (const auto* group : {&bundle.files, &bundle.extra}) {
    for (const auto& [name, data] : *group) files.push_back({name.c_str(), data.data(), data.size()});
  }
  grt::Files memory;
  return grt::Files::over_memory(files.data(), files.size(), allocator, memory, error) &&
         grt::Bundle::open(memory, allocator, opened, error, progress);
}

}  // namespace tiny
