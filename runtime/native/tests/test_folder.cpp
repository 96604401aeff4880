// Bundles in folders: files that are missing, of another kind, or not listed; and names of folders.
#if defined(_WIN32) || defined(__wasi__)

int main() { return 77; }  // no links, pipes or devices to try

#else

#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "check.hpp"
#include "tiny_bundle.hpp"

namespace {

void write(const std::string& path, const std::string& data) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  GRT_REQUIRE(file != nullptr);
  GRT_CHECK_EQ(std::fwrite(data.data(), 1, data.size(), file), data.size());
  std::fclose(file);
}

// A folder that is removed with what the tests put there.
struct Folder {
  std::string path;

  explicit Folder(const tiny::Bundle& bundle, const char* name = "") {
    char place[] = "/tmp/grt-test-XXXXXX";
    path = root = mkdtemp(place);
    if (name[0] != 0) path += std::string("/") + name;
    if (name[0] != 0) mkdir(path.c_str(), 0700);
    mkdir((path + "/prompts").c_str(), 0700);
    write(path + "/bundle.json", bundle.manifest);
    for (const auto& [file, data] : bundle.files) write(path + "/" + file, data);
    for (const auto& [file, data] : bundle.extra) write(path + "/" + file, data);
  }
  ~Folder() { GRT_CHECK_EQ(std::system(("rm -rf '" + root + "'").c_str()), 0); }

  std::string root;
};

void in_folders() {
  struct Case {
    const char *file, *part;  // the message; null: it opens
    std::function<void(const std::string&)> change;
  };
  const Case cases[] = {
      {nullptr, nullptr, [](const std::string&) {}},
      {nullptr, nullptr,
       [](const std::string& p) { write(p + "/.DS_Store", "x"), write(p + "/prompts/a.txt", "x"); }},
      {nullptr, nullptr, [](const std::string& p) { write(p + "/sub.safetensors.txt", "x"); }},
      {nullptr, nullptr,
       [](const std::string& p) {
         GRT_CHECK_EQ(rename((p + "/pass.onnx").c_str(), (p + "/blob").c_str()), 0);
         GRT_CHECK_EQ(symlink("blob", (p + "/pass.onnx").c_str()), 0);
       }},
      {"bundle.json", "found none of 'other.safetensors'; remove that file",
       [](const std::string& p) { write(p + "/other.safetensors", "x"), write(p + "/z.safetensors", "x"); }},
      {"bundle.json", "found none of '.hidden.onnx'",
       [](const std::string& p) { write(p + "/.hidden.onnx", "x"); }},
      {"bundle.json", "found none of 'prompts/002.png'",
       [](const std::string& p) { write(p + "/prompts/002.png", "x"); }},
      {"bundle.json", "found nothing of that name",
       [](const std::string& p) { unlink((p + "/bundle.json").c_str()); }},
      {"README.md", "expected a file of the bundle, found nothing of that name",
       [](const std::string& p) { unlink((p + "/README.md").c_str()); }},
      {"pass.onnx", "found nothing of that name",
       [](const std::string& p) { unlink((p + "/pass.onnx").c_str()); }},
      {"pass.onnx", "a folder, which is no regular file",
       [](const std::string& p) {
         unlink((p + "/pass.onnx").c_str()), mkdir((p + "/pass.onnx").c_str(), 0700);
       }},
      {"weights.safetensors", "a named pipe, which is no regular file",
       [](const std::string& p) {
         unlink((p + "/weights.safetensors").c_str());
         mkfifo((p + "/weights.safetensors").c_str(), 0600);
       }},
      {"bundle.json", "a named pipe, which is no regular file",
       [](const std::string& p) {
         unlink((p + "/bundle.json").c_str()), mkfifo((p + "/bundle.json").c_str(), 0600);
       }},
      {"weights.safetensors", "a device, which is no regular file",
       [](const std::string& p) {
         unlink((p + "/weights.safetensors").c_str());
         GRT_CHECK_EQ(symlink("/dev/zero", (p + "/weights.safetensors").c_str()), 0);
       }},
      {"prompts/000.png", "a loop of links",
       [](const std::string& p) {
         unlink((p + "/prompts/000.png").c_str());
         GRT_CHECK_EQ(symlink("000.png", (p + "/prompts/000.png").c_str()), 0);
       }},
      {"prompts/001.png", "found nothing of that name",
       [](const std::string& p) { unlink((p + "/prompts/001.png").c_str()); }},
      {"weights.safetensors", "expected sha256",
       [](const std::string& p) {
         std::string data = tiny::read_file((p + "/weights.safetensors").c_str());
         data[data.size() / 2] ^= 64;
         write(p + "/weights.safetensors", data);
       }},
      {"weights.safetensors", "bytes, found 0",
       [](const std::string& p) { write(p + "/weights.safetensors", ""); }},
  };
  for (const Case& each : cases) {
    const Folder folder(tiny::make());
    each.change(folder.path);
    grt::Files files;
    grt::Bundle bundle;
    grt::Error error;
    GRT_CHECK(grt::Files::open_folder(folder.path.c_str(), grt::Allocator(), files, error));
    const bool is_open = grt::Bundle::open(files, grt::Allocator(), bundle, error);
    if (!GRT_CHECK_EQ(is_open, each.part == nullptr)) std::fprintf(stderr, "    %s\n", error.message);
    if (is_open || each.part == nullptr) continue;
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
    GRT_CHECK_CONTAINS(error.message, (folder.path + "/" + each.file + ": ").c_str());
    GRT_CHECK_CONTAINS(error.message, each.part);
  }
}

void folder_names() {
  const std::string wide = "\xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\x8e\xae";
  std::string longest;
  while (longest.size() < 240) longest += "\xe4\xb8\x96";
  for (const std::string& name : {wide, longest}) {
    tiny::Bundle files = tiny::make();
    files.files["README.md"] += "x";
    const Folder folder(files, name.c_str());
    grt::Files opened;
    grt::Bundle bundle;
    grt::Error error;
    GRT_CHECK(grt::Files::open_folder(folder.path.c_str(), grt::Allocator(), opened, error));
    GRT_CHECK(!grt::Bundle::open(opened, grt::Allocator(), bundle, error));
    GRT_CHECK_CONTAINS(error.message, "README.md: expected 7 bytes, found 8");
    write(folder.path + "/README.md", "# tiny\n");
    GRT_CHECK(grt::Bundle::open(opened, grt::Allocator(), bundle, error));
    GRT_CHECK(grt::Files::open_folder((folder.path + "/").c_str(), grt::Allocator(), opened, error));
    GRT_CHECK(grt::Bundle::open(opened, grt::Allocator(), bundle, error));
  }
  grt::Files files;
  grt::Error error;
  for (const std::string& path : {std::string(), std::string("/nowhere/at/all"), std::string("Makefile"),
                                  std::string("/dev/null"), std::string(5000, 'x'), "x/" + longest}) {
    GRT_CHECK(!grt::Files::open_folder(path.c_str(), grt::Allocator(), files, error));
    GRT_CHECK_EQ(static_cast<int>(error.status), static_cast<int>(GRT_ERROR_BUNDLE));
    GRT_CHECK(!files.is_folder());
  }
}

}  // namespace

int main() {
  in_folders();
  folder_names();
  return grt::test::failures();
}

#endif
