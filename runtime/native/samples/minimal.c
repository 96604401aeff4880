/* The smallest player: 60 steps to the right, and the last frame as a picture.
 *
 *     minimal runtime/bundles/demo-logged last.ppm */
#include <stdio.h>
#include <stdlib.h>

#include "genie_rt.h"

static int failed(const grt_error* error) {
  fprintf(stderr, "%s\n", error->message);
  return 1;
}

int main(int argc, char** argv) {
  grt_world* world;
  grt_session* session;
  grt_world_info info;
  grt_image frame;
  grt_error error;
  int32_t action;
  if (argc != 3) return fprintf(stderr, "usage: minimal BUNDLE PICTURE.ppm\n"), 2;
  grt_error_init(&error);
  grt_world_info_init(&info);
  if (grt_world_load(argv[1], NULL, &world, &error) != GRT_OK) return failed(&error);
  if (grt_world_get_info(world, &info, &error) != GRT_OK) return failed(&error);
  if (grt_session_create(world, NULL, &session, &error) != GRT_OK) return failed(&error);
  if (grt_world_find_action(world, "right", &action, &error) != GRT_OK) action = info.default_action;

  size_t size = (size_t)info.frame_width * (size_t)info.frame_height * 3;
  unsigned char* pixels = malloc(size);
  grt_image_init(&frame, pixels, size, GRT_FORMAT_RGB8);
  if (grt_session_reset_prompt(session, 0, 0, &frame, &error) != GRT_OK) return failed(&error);
  for (int step = 0; step < 60; step++) {
    if (grt_session_step(session, action, &frame, NULL, &error) != GRT_OK) return failed(&error);
  }
  FILE* file = fopen(argv[2], "wb");
  if (file == NULL) return perror(argv[2]), 1;
  fprintf(file, "P6\n%d %d\n255\n", (int)info.frame_width, (int)info.frame_height);
  fwrite(pixels, 1, size, file);
  fclose(file);
  free(pixels);
  grt_session_free(session);
  grt_world_free(world);
  return 0;
}
