#include "bundle/bundle.hpp"

#include <algorithm>

#include "bundle/object.hpp"
#include "bundle/parameters.hpp"
#include "bundle/records.hpp"
#include "support/file.hpp"
#include "support/png.hpp"
#include "support/safetensors.hpp"
#include "support/sha256.hpp"

namespace grt {

namespace {

constexpr uint64_t kMaxPictureBytes = uint64_t{1} << 28;
constexpr size_t kPartBytes = size_t{1} << 18;        // read and hashed at a time, while the cache holds it
constexpr uint64_t kReportBytes = uint64_t{4} << 20;  // between two reports of progress

class Opening {
 public:
  Opening(const Files& files, const Allocator& allocator, const Progress& progress, Error& error)
      : files_(files), allocator_(allocator), progress_(progress), error_(error) {}

  bool run(Bundle& bundle, Buffer<uint8_t>& weights, Buffer<char>& names) {
    const Manifest& manifest = bundle.manifest;
    if (!read_manifest(files_, allocator_, bundle.manifest, error_) || !refuse_unlisted(manifest) ||
        !check_sizes(manifest)) {
      return false;
    }
    for (const FileRecord& record : manifest.files) {
      if (is_needed(record)) total_ += record.size;
    }
    if (!report(true)) return false;
    return read_pictures(manifest, bundle.pictures) && read_weights(manifest, weights, names, bundle.tensors);
  }

 private:
  static bool is_needed(const FileRecord& record) {
    return is_prompt(record.name) || std::strcmp(record.name, kWeightsFile) == 0;
  }

  // Refuses files that somebody could take for a part of the bundle.
  bool refuse_unlisted(const Manifest& manifest) {
    const auto is_listed = [](const void* context, const char* name) {
      return static_cast<const Manifest*>(context)->find_file(name) != nullptr;
    };
    constexpr struct {
      const char *folder, *suffix;
    } kinds[] = {{"", ".safetensors"}, {"", ".onnx"}, {"prompts/", ".png"}};
    for (const auto& kind : kinds) {
      char found[Files::kMaxShown], shown[Files::kMaxShown];
      if (!files_.find_unlisted(kind.folder, kind.suffix, is_listed, &manifest, found)) continue;
      files_.show(kManifestFile, shown);
      return error_.fail(GRT_ERROR_BUNDLE,
                         "%s: expected a record of every file, found none of '%.100s'; remove that file or "
                         "export again",
                         shown, found);
    }
    return true;
  }

  // All sizes before the first hash: cheap before dear.
  bool check_sizes(const Manifest& manifest) {
    for (const FileRecord& record : manifest.files) {
      File file;
      const bool is_optional = !files_.is_folder() && !is_needed(record) && !files_.has(record.name);
      if (!is_optional && !open(record, file)) return false;
    }
    return true;
  }

  bool open(const FileRecord& record, File& file) {
    if (!file.open(files_, record.name, "a file of the bundle", error_)) return false;
    if (file.size() == record.size) return true;
    char shown[Files::kMaxShown];
    files_.show(record.name, shown);
    return error_.fail(
        GRT_ERROR_BUNDLE,
        "%s: expected %llu bytes, found %llu; fetch the file again (a Git LFS pointer or a cut "
        "download is shorter)",
        shown, static_cast<unsigned long long>(record.size), static_cast<unsigned long long>(file.size()));
  }

  // Exactly the bytes whose hash the record has.
  bool read(const FileRecord& record, Buffer<uint8_t>& data) {
    File file;
    if (!open(record, file)) return false;
    if (record.size > SIZE_MAX / 2) {
      return error_.fail(GRT_ERROR_OUT_OF_MEMORY, "%s: %llu bytes are more than this processor can address",
                         record.name, static_cast<unsigned long long>(record.size));
    }
    const size_t size = static_cast<size_t>(record.size);
    if (!data.create(allocator_, size, error_)) return false;
    Sha256 sha256;
    for (size_t at = 0; at < size;) {
      const size_t count = std::min(size - at, kPartBytes);
      if (!file.read(data.data() + at, count, error_)) return false;
      sha256.update(data.data() + at, count);
      at += count;
      done_ += count;
      if (!report(false)) return false;
    }
    uint8_t digest[Sha256::kBytes];
    sha256.finish(digest);
    if (std::memcmp(digest, record.sha256, sizeof digest) == 0) return true;
    char shown[Files::kMaxShown];
    files_.show(record.name, shown);
    return error_.fail(GRT_ERROR_BUNDLE, "%s: expected sha256 %s, found %s; fetch the file again", shown,
                       to_hex(record.sha256).text, to_hex(digest).text);
  }

  bool report(bool always) {
    if (progress_.call == nullptr || (!always && done_ < total_ && done_ - reported_ < kReportBytes))
      return true;
    reported_ = done_;
    if (progress_.call(progress_.user, done_, total_) == 0) return true;
    return error_.fail(GRT_ERROR_CANCELLED,
                       "loading was stopped by the progress callback after %llu of %llu bytes",
                       static_cast<unsigned long long>(done_), static_cast<unsigned long long>(total_));
  }

  bool read_pictures(const Manifest& manifest, Buffer<uint8_t>& pictures) {
    const int32_t height = manifest.config.tokenizer.height, width = manifest.config.tokenizer.width;
    const size_t size = static_cast<size_t>(height) * static_cast<size_t>(width) * 3;
    const size_t count = manifest.prompts.size();
    if (count > 0 && size > SIZE_MAX / count) {
      return error_.fail(GRT_ERROR_OUT_OF_MEMORY, "%zu pictures are more than this processor can address",
                         count);
    }
    if (!pictures.create(allocator_, count * size, error_)) return false;
    for (size_t i = 0; i < count; i++) {
      const FileRecord& record = *manifest.find_file(manifest.prompts[i].name);
      char shown[Files::kMaxShown];
      files_.show(record.name, shown);
      if (record.size > kMaxPictureBytes) {
        return error_.fail(GRT_ERROR_BUNDLE, "%s: expected at most %llu bytes, found %llu", shown,
                           static_cast<unsigned long long>(kMaxPictureBytes),
                           static_cast<unsigned long long>(record.size));
      }
      Buffer<uint8_t> data;
      if (!read(record, data) || !decode_png(data.data(), data.size(), height, width,
                                             pictures.data() + i * size, shown, allocator_, error_)) {
        return false;
      }
    }
    return true;
  }

  bool read_weights(const Manifest& manifest, Buffer<uint8_t>& weights, Buffer<char>& names,
                    Buffer<Tensor>& tensors) {
    char shown[Files::kMaxShown];
    files_.show(kWeightsFile, shown);
    if (!read(*manifest.find_file(kWeightsFile), weights)) return false;
    StoredTensors stored;
    if (!stored.parse(weights.data(), weights.size(), weights.size(), allocator_, error_)) {
      if (error_.status != GRT_ERROR_BUNDLE) return false;
      const Error reason = error_;
      return error_.fail(GRT_ERROR_BUNDLE, "%s: expected a safetensors file, found %.250s; export again",
                         shown, reason.message);
    }
    return take_tensors(manifest.config, stored, weights.data(), shown, names, tensors);
  }

  // Every tensor that the config implies, and no other, of the right shape and finite.
  bool take_tensors(const ModelConfig& config, StoredTensors& stored, const uint8_t* data, const char* shown,
                    Buffer<char>& names, Buffer<Tensor>& tensors) {
    Buffer<StoredTensor>& found = stored.tensors;
    std::sort(found.begin(), found.end(),
              [](const StoredTensor& a, const StoredTensor& b) { return compare(a.name, b.name) < 0; });
    size_t expected = 0, num_missing = 0, name_bytes = 0;
    Parameter missing, misshapen;
    const StoredTensor* wrong = nullptr;
    for_each_parameter(config, [&](const Parameter& parameter) {
      expected++;
      name_bytes += std::strlen(parameter.name) + 1;
      const StoredTensor* tensor = find(found, parameter.name);
      if (tensor == nullptr) {
        if (num_missing++ == 0 || std::strcmp(parameter.name, missing.name) < 0) missing = parameter;
      } else if (wrong == nullptr && !has_shape(*tensor, parameter)) {
        wrong = tensor;
        misshapen = parameter;
      }
    });
    if (num_missing > 0) return refuse_names(shown, expected, missing.name, num_missing - 1, "missing");
    if (found.size() > expected) return refuse_unknown(config, found, expected, shown);
    if (wrong != nullptr) {
      return error_.fail(GRT_ERROR_BUNDLE, "%s: %s: expected shape %s, found %s", shown, misshapen.name,
                         show(misshapen.shape, misshapen.rank).text, show(wrong->shape, wrong->rank).text);
    }
    if (!names.create(allocator_, name_bytes, error_) || !tensors.create(allocator_, expected, error_))
      return false;
    char* name = names.data();
    for (size_t i = 0; i < found.size(); i++) {
      const StoredTensor& from = found[i];
      Tensor& tensor = tensors[i];
      std::memcpy(name, from.name.data, from.name.size);
      tensor.name = name;
      name += from.name.size + 1;
      tensor.data = data + from.offset;
      tensor.is_bf16 = from.is_bf16;
      tensor.rank = from.rank;
      std::copy(from.shape, from.shape + 8, tensor.shape);
      if (const size_t bad = count_not_finite(tensor.data, static_cast<size_t>(from.length), from.is_bf16)) {
        return error_.fail(GRT_ERROR_BUNDLE, "%s: %s: expected finite numbers, found %zu NaN or Inf", shown,
                           tensor.name, bad);
      }
    }
    return true;
  }

  // The first tensor, by name, that the model does not have.
  bool refuse_unknown(const ModelConfig& config, const Buffer<StoredTensor>& found, size_t expected,
                      const char* shown) {
    Buffer<uint8_t> is_known;
    if (!is_known.create(allocator_, found.size(), error_)) return false;
    for_each_parameter(config, [&](const Parameter& parameter) {
      is_known[static_cast<size_t>(find(found, parameter.name) - found.data())] = 1;
    });
    const size_t first =
        static_cast<size_t>(std::find(is_known.begin(), is_known.end(), 0) - is_known.begin());
    char name[JsonValue::kMaxShown];
    copy_text(found[first].name, name);
    return refuse_names(shown, expected, name, found.size() - expected - 1, "unknown");
  }

  bool refuse_names(const char* shown, size_t expected, const char* name, size_t others, const char* what) {
    char more[40] = "";
    if (others > 0) std::snprintf(more, sizeof more, " and %zu more", others);
    return error_.fail(GRT_ERROR_BUNDLE,
                       "%s: expected the %zu tensors that the model's config implies, found that %s%s is %s; "
                       "export again with this version",
                       shown, expected, show_text({name, std::strlen(name)}).text, more, what);
  }

  static int compare(Text a, Text b) {
    const int order = std::memcmp(a.data, b.data, std::min(a.size, b.size));
    return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size;
  }

  static const StoredTensor* find(const Buffer<StoredTensor>& tensors, const char* name) {
    const Text wanted{name, std::strlen(name)};
    const StoredTensor* found =
        std::lower_bound(tensors.begin(), tensors.end(), wanted,
                         [](const StoredTensor& a, Text b) { return compare(a.name, b) < 0; });
    return found != tensors.end() && found->name.is(name) ? found : nullptr;
  }

  static bool has_shape(const StoredTensor& tensor, const Parameter& parameter) {
    return tensor.rank == parameter.rank &&
           std::equal(tensor.shape, tensor.shape + tensor.rank, parameter.shape);
  }

  struct Shape {
    char text[160];
  };
  static Shape show(const int64_t* shape, int32_t rank) {
    Shape shown;
    int used = std::snprintf(shown.text, sizeof shown.text, "[");
    for (int32_t i = 0; i < rank; i++) {
      used += std::snprintf(shown.text + used, sizeof shown.text - static_cast<size_t>(used), "%s%lld",
                            i > 0 ? ", " : "", static_cast<long long>(shape[i]));
    }
    std::snprintf(shown.text + used, sizeof shown.text - static_cast<size_t>(used), "]");
    return shown;
  }

  const Files& files_;
  const Allocator& allocator_;
  const Progress& progress_;
  Error& error_;
  uint64_t done_ = 0, total_ = 0, reported_ = 0;
};

}  // namespace

bool Bundle::open(const Files& files, const Allocator& allocator, Bundle& bundle, Error& error,
                  const Progress& progress) {
  Bundle made;
  if (!Opening(files, allocator, progress, error).run(made, made.weights_, made.names_)) return false;
  bundle = std::move(made);
  return true;
}

const Tensor* Bundle::find(const char* name) const {
  const Tensor* found =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const Tensor& a, const char* b) { return std::strcmp(a.name, b) < 0; });
  return found != tensors.end() && std::strcmp(found->name, name) == 0 ? found : nullptr;
}

float Bundle::int8_limit(const char* linear) const {
  const Buffer<Int8Limit>& limits = manifest.int8_limits;
  const Int8Limit* found =
      std::lower_bound(limits.begin(), limits.end(), linear,
                       [](const Int8Limit& a, const char* b) { return std::strcmp(a.linear, b) < 0; });
  return found != limits.end() && std::strcmp(found->linear, linear) == 0 ? found->amax : 0;
}

void Bundle::drop_weights() { weights_ = Buffer<uint8_t>(); }

}  // namespace grt
