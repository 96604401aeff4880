/* Says what the library is, and what a bundle is whose folder is given. */
#include <genie_rt.h>
#include <stdio.h>

int main(int argc, char** argv) {
  grt_version version;
  grt_world_info info;
  grt_error error;
  grt_error_init(&error);
  grt_version_init(&version);
  grt_world_info_init(&info);
  if (grt_get_version(&version, &error) != GRT_OK ||
      (argc > 1 && grt_bundle_inspect(argv[1], &info, &error) != GRT_OK)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  printf("genie_rt %d.%d.%d %s\n", (int)version.major, (int)version.minor, (int)version.patch, info.name);
  return 0;
}
