#include "support/file.hpp"

#include "support/file_system.hpp"

namespace grt {

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool ends_with(const char* name, const char* suffix) {
  const size_t length = std::strlen(name), wanted = std::strlen(suffix);
  if (length < wanted) return false;
  for (size_t i = 0; i < wanted; i++) {
    const char found = name[length - wanted + i];
    if (found != suffix[i] && !(file_system::ignores_case() && lower(found) == suffix[i])) return false;
  }
  return true;
}

// Whether a byte is one in the middle of a character of UTF-8.
bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

bool Files::open_folder(const char* path, const Allocator& allocator, Files& files, Error& error) {
  const size_t length = std::strlen(path);
  if (length == 0 || length > kMaxPath) {
    return error.fail(GRT_ERROR_BUNDLE, "expected the path of a bundle of 1 to %zu bytes, found %zu",
                      kMaxPath, length);
  }
  Files made;
  if (!made.folder_.create(allocator, length + 1, error)) return false;
  std::memcpy(made.folder_.data(), path, length);
  const file_system::Kind kind = file_system::kind_of(path);
  if (kind != file_system::Kind::kFolder) {
    char shown[kMaxShown];
    made.show("", shown);
    return error.fail(GRT_ERROR_BUNDLE,
                      "'%s': expected a bundle's folder, found %s; give the folder that holds bundle.json",
                      shown, kind == file_system::Kind::kNothing ? "nothing of that name" : "a file");
  }
  files = std::move(made);
  return true;
}

bool Files::over_memory(const grt_file* memory, size_t num_files, const Allocator&, Files& files,
                        Error& error) {
  if (memory == nullptr && num_files > 0) {
    return error.fail(GRT_ERROR_INPUT, "files: expected %zu files, found NULL", num_files);
  }
  for (size_t i = 0; i < num_files; i++) {
    if (memory[i].name == nullptr || (memory[i].data == nullptr && memory[i].size > 0)) {
      return error.fail(GRT_ERROR_INPUT, "files[%zu]: expected a name and data, found NULL", i);
    }
  }
  Files made;
  made.memory_ = memory;
  made.num_files_ = num_files;
  files = std::move(made);
  return true;
}

bool Files::path_of(const char* name, Path& path) const {
  const int length =
      std::snprintf(path.text, sizeof path.text, "%s%s%s", folder_.data(), name[0] != 0 ? "/" : "", name);
  return length >= 0 && static_cast<size_t>(length) < sizeof path.text;
}

const grt_file* Files::in_memory(const char* name) const {
  for (size_t i = 0; i < num_files_; i++) {
    if (std::strcmp(memory_[i].name, name) == 0) return &memory_[i];
  }
  return nullptr;
}

bool Files::has(const char* name) const {
  if (!is_folder()) return in_memory(name) != nullptr;
  Path path;
  return path_of(name, path) && file_system::kind_of(path.text) != file_system::Kind::kNothing;
}

void Files::show(const char* name, char (&shown)[kMaxShown]) const {
  const char* folder = is_folder() ? folder_.data() : "";
  const char* slash = is_folder() && name[0] != 0 ? "/" : "";
  const char* dots = "";
  const size_t taken = std::strlen(name) + std::strlen(slash) + 4;
  const size_t room = taken < kMaxShown ? kMaxShown - taken : 0;
  if (const size_t length = std::strlen(folder); length > room) {
    folder += length - room;
    while (is_continuation(folder[0])) folder++;
    dots = "...";
  }
  std::snprintf(shown, kMaxShown, "%s%s%s%s", dots, folder, slash, name);
}

bool Files::find_unlisted(const char* subfolder, const char* suffix,
                          bool (*is_listed)(const void* context, const char* name), const void* context,
                          char (&found)[kMaxShown]) const {
  Path path;
  if (!is_folder() || !path_of(subfolder, path)) return false;
  struct Search {
    const char *subfolder, *suffix;
    bool (*is_listed)(const void* context, const char* name);
    const void* context;
    char* found;
    bool any;
  } search{subfolder, suffix, is_listed, context, found, false};
  const auto visit = [](void* state, const char* name) {
    Search& search = *static_cast<Search*>(state);
    if (!ends_with(name, search.suffix)) return;
    char whole[kMaxShown];
    const int length = std::snprintf(whole, sizeof whole, "%s%s", search.subfolder, name);
    const bool is_whole = length >= 0 && static_cast<size_t>(length) < sizeof whole;
    if (is_whole && search.is_listed(search.context, whole)) return;
    if (search.any && std::strcmp(search.found, whole) <= 0) return;
    std::memcpy(search.found, whole, sizeof whole);
    search.any = true;
  };
  file_system::list(path.text, visit, &search);
  return search.any;
}

File::~File() {
  if (handle_ != -1) file_system::close(handle_);
}

bool File::open(const Files& files, const char* name, const char* expected, Error& error) {
  files.show(name, shown_);
  if (!files.is_folder()) {
    const grt_file* file = files.in_memory(name);
    if (file == nullptr) {
      return error.fail(GRT_ERROR_BUNDLE, "%s: expected %s, found nothing of that name", shown_, expected);
    }
    memory_ = static_cast<const uint8_t*>(file->data);
    size_ = file->size;
    return true;
  }
  Files::Path path;
  char problem[file_system::kMaxProblem] = "nothing of that name";
  if (files.path_of(name, path)) handle_ = file_system::open_regular(path.text, size_, problem);
  if (handle_ == -1) {
    return error.fail(GRT_ERROR_BUNDLE, "%s: expected %s, found %s", shown_, expected, problem);
  }
  return true;
}

bool File::read(void* to, size_t count, Error& error) {
  if (handle_ == -1) {
    if (count > size_ - place_) {
      return error.fail(GRT_ERROR_BUNDLE, "%s: expected %zu bytes more, found %llu", shown_, count,
                        static_cast<unsigned long long>(size_ - place_));
    }
    if (count > 0) std::memcpy(to, memory_ + place_, count);
    place_ += count;
    return true;
  }
  for (size_t got = 0; got < count;) {
    const ptrdiff_t part = file_system::read(handle_, static_cast<uint8_t*>(to) + got, count - got);
    if (part < 0)
      return error.fail(GRT_ERROR_BUNDLE, "%s: expected a file that can be read, found an error", shown_);
    if (part == 0) {
      return error.fail(GRT_ERROR_BUNDLE,
                        "%s: expected %llu bytes, found %llu: it became shorter; load again", shown_,
                        static_cast<unsigned long long>(size_), static_cast<unsigned long long>(place_));
    }
    got += static_cast<size_t>(part);
    place_ += static_cast<uint64_t>(part);
  }
  return true;
}

}  // namespace grt
