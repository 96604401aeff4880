// Files that nobody vouches for: regular ones only, of a folder, or of memory that the caller keeps.
//
// What is measured and read is what was opened, so nobody can put another file there in between. A named pipe
// or a device in a file's place is refused without being opened.
#pragma once

#include "support/memory.hpp"

namespace grt {

class File;

// The files of a bundle, by names with "/", such as "prompts/000.png".
class Files {
 public:
  static constexpr size_t kMaxShown = 200;  // bytes of a path in a message, with NUL
  static constexpr size_t kMaxPath = 4096;  // bytes of the folder's path
  static constexpr size_t kMaxName = 128;   // bytes of a name in it

  Files() = default;

  // A folder; `path` is UTF-8, on Windows too. Copies the path.
  [[nodiscard]] static bool open_folder(const char* path, const Allocator& allocator, Files& files,
                                        Error& error);

  // Memory that the caller keeps, and does not write to, while `Files` is used.
  [[nodiscard]] static bool over_memory(const grt_file* memory, size_t num_files, const Allocator& allocator,
                                        Files& files, Error& error);

  bool is_folder() const { return folder_.size() > 0; }

  // Whether there is something of that name.
  bool has(const char* name) const;

  // What messages call a file: its path, whose front is left out if it is long.
  void show(const char* name, char (&shown)[kMaxShown]) const;

  // The first name, in the order of bytes, that lies in `subfolder` ("" or "prompts/"), ends in `suffix` and
  // is not `is_listed`. False if there is none, and of memory. `found` is cut to its size.
  bool find_unlisted(const char* subfolder, const char* suffix,
                     bool (*is_listed)(const void* context, const char* name), const void* context,
                     char (&found)[kMaxShown]) const;

 private:
  friend class File;

  struct Path {
    char text[kMaxPath + kMaxName + 2];
  };
  bool path_of(const char* name, Path& path) const;
  const grt_file* in_memory(const char* name) const;

  Buffer<char> folder_;  // with NUL
  const grt_file* memory_ = nullptr;
  size_t num_files_ = 0;
};

// One file, open for reading from its start to its end.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  // `expected` is what it should be, for the message: "the bundle's manifest".
  [[nodiscard]] bool open(const Files& files, const char* name, const char* expected, Error& error);

  uint64_t size() const { return size_; }

  // Reads the next `count` bytes. Fails if there are fewer.
  [[nodiscard]] bool read(void* to, size_t count, Error& error);

 private:
  const uint8_t* memory_ = nullptr;
  intptr_t handle_ = -1;
  uint64_t size_ = 0, place_ = 0;
  char shown_[Files::kMaxShown] = {};
};

}  // namespace grt
