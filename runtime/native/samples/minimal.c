/* The smallest player: 60 steps to the right, and the last frame as a picture.
 *
 *     minimal runtime/bundles/demo-logged last.ppm */
#include <stdio.h>
#include <stdlib.h>

#include "genie_rt.h"

#define TRY(call) \
  if ((call) != GRT_OK) return fprintf(stderr, "%s\n", error.message), 1

int main(int argc, char** argv) {
  grt_world* world;
  grt_session* session;
  grt_world_info info;
  grt_image frame;
  grt_error error;
  int32_t right;
  if (argc != 3) return fprintf(stderr, "usage: minimal BUNDLE PICTURE.ppm\n"), 2;
  grt_error_init(&error);
  grt_world_info_init(&info);
  TRY(grt_world_load(argv[1], NULL, &world, &error));
  TRY(grt_world_get_info(world, &info, &error));
  TRY(grt_world_find_action(world, "right", &right, &error));
  TRY(grt_session_create(world, NULL, &session, &error));
  const size_t size = 3 * (size_t)info.frame_width * (size_t)info.frame_height;
  grt_image_init(&frame, malloc(size), size, GRT_FORMAT_RGB8);
  TRY(grt_session_reset_prompt(session, 0, 0, &frame, &error));
  for (int i = 0; i < 60; i++) TRY(grt_session_step(session, right, &frame, NULL, &error));
  FILE* file = fopen(argv[2], "wb");
  if (file == NULL) return perror(argv[2]), 1;
  fprintf(file, "P6\n%d %d\n255\n", (int)info.frame_width, (int)info.frame_height);
  fwrite(frame.pixels, 1, size, file);
  fclose(file);
  free(frame.pixels);
  grt_session_free(session);
  grt_world_free(world);
  return 0;
}
