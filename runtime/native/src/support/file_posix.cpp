#if !defined(_WIN32)

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "support/file_system.hpp"

namespace grt::file_system {

namespace {

// A pipe without a writer opens at once, and a terminal does not become the process's own.
constexpr int kFlags = O_RDONLY | O_NONBLOCK
#if defined(O_NOCTTY)
                       | O_NOCTTY
#endif
#if defined(O_CLOEXEC)
                       | O_CLOEXEC
#endif
    ;

// Not strerror, which is not safe in threads.
void describe(int code, char (&problem)[kMaxProblem]) {
  const char* words = nullptr;
  switch (code) {
    case ENOENT:
    case ENOTDIR:
      words = "nothing of that name";
      break;
    case ELOOP:
      words = "a loop of links";
      break;
    case EACCES:
      words = "one that cannot be read: permission denied";
      break;
    case ENAMETOOLONG:
      words = "one that cannot be read: the name is too long";
      break;
    case EMFILE:
    case ENFILE:
      words = "one that cannot be read: too many files are open";
      break;
    default:
      std::snprintf(problem, kMaxProblem, "one that cannot be read: the system's error %d", code);
      return;
  }
  std::snprintf(problem, kMaxProblem, "%s", words);
}

bool is_regular(const struct stat& status, char (&problem)[kMaxProblem]) {
  if (S_ISREG(status.st_mode)) return true;
  const char* kind = "something else";
  if (S_ISDIR(status.st_mode)) kind = "a folder";
  if (S_ISFIFO(status.st_mode)) kind = "a named pipe";
  if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) kind = "a device";
#if defined(S_ISSOCK)
  if (S_ISSOCK(status.st_mode)) kind = "a socket";
#endif
  std::snprintf(problem, kMaxProblem, "%s, which is no regular file", kind);
  return false;
}

}  // namespace

intptr_t open_regular(const char* path, uint64_t& size, char (&problem)[kMaxProblem]) {
  struct stat status;
  if (stat(path, &status) != 0) {
    describe(errno, problem);
    return -1;
  }
  if (!is_regular(status, problem)) return -1;  // before it is opened: a device may do as it likes
  int descriptor;
  do {
    descriptor = ::open(path, kFlags);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0 || fstat(descriptor, &status) != 0) {
    describe(errno, problem);
    if (descriptor >= 0) ::close(descriptor);
    return -1;
  }
  if (!is_regular(status, problem)) {
    ::close(descriptor);
    return -1;
  }
  size = static_cast<uint64_t>(status.st_size);
  return descriptor;
}

ptrdiff_t read(intptr_t handle, void* to, size_t count) {
  ssize_t got;
  do {
    got = ::read(static_cast<int>(handle), to, count);
  } while (got < 0 && errno == EINTR);
  return static_cast<ptrdiff_t>(got);
}

void close(intptr_t handle) { ::close(static_cast<int>(handle)); }

Kind kind_of(const char* path) {
  struct stat status;
  if (stat(path, &status) != 0) return Kind::kNothing;
  return S_ISDIR(status.st_mode) ? Kind::kFolder : Kind::kOther;
}

void list(const char* folder, void (*visit)(void* context, const char* name), void* context) {
  DIR* directory = opendir(folder);
  if (directory == nullptr) return;
  while (const dirent* entry = readdir(directory)) visit(context, entry->d_name);
  closedir(directory);
}

bool ignores_case() { return false; }

}  // namespace grt::file_system

#endif
