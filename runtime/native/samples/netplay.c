/* Two players of one world, in two processes that tell each other their inputs and nothing else.
 *
 *     netplay BUNDLE [--frames N] [--delay-ms N] [--tick-ms N] [--seed N]
 *
 * Player 0 walks, player 1 jumps. Packets come late, by a random time of up to --delay-ms. Nobody waits for
 * them: the other's last input is taken to go on, and where that was wrong a player goes back to the frame,
 * by at most three, and plays on from there. At the end both digests are equal, and equal to that of a third
 * session which knew all inputs beforehand. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "genie_rt.h"

#define MOST_FRAMES 3600
#define ROLLBACK 3         /* frames that may be taken back */
#define HISTORY 8          /* inputs in a packet, so that one that is lost does no harm */
#define MOST_IN_FLIGHT 256 /* packets that wait to be sent */
#define GIVE_UP_MS 20000

typedef struct flags {
  const char* bundle;
  int frames, delay_ms, tick_ms;
  unsigned seed;
} flags;

/* Inputs of frames `first` to `first + count - 1`; the digest once the sender is done. */
typedef struct packet {
  int32_t player, first, count, is_done;
  uint8_t inputs[HISTORY];
  uint64_t digest;
} packet;

typedef struct delayed {
  packet content;
  double at_ms;
} delayed;

typedef struct player {
  flags flags;
  int number, socket;
  unsigned random;
  grt_world* world;
  grt_session* session;
  grt_snapshot* before[ROLLBACK + 1]; /* the state before frame f, at f % (ROLLBACK + 1) */
  uint8_t inputs[2][MOST_FRAMES];     /* of both players; of the other one as far as it is known */
  uint8_t assumed[MOST_FRAMES];       /* what the other's input was taken to be */
  int played, known;                  /* frames that were played; inputs of the other that have come */
  delayed waiting[MOST_IN_FLIGHT];
  int num_waiting;
  double heard_ms; /* when the other was last heard of */
  int other_is_done;
  uint64_t other_digest;
  int rollbacks, deepest, replayed, stalls;
  grt_error error;
} player;

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void sleep_ms(double ms) {
  struct timespec time;
  if (ms <= 0) return;
  time.tv_sec = (time_t)(ms / 1e3);
  time.tv_nsec = (long)((ms - (double)time.tv_sec * 1e3) * 1e6);
  nanosleep(&time, NULL);
}

static unsigned next_random(unsigned* state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 16;
}

/* ---- The game -------------------------------------------------------------------------------------------
 */

/* What a player presses in a frame: of player 0 a direction (0 to 2), of player 1 a jump (0 or 1). */
static uint8_t press(player* me) {
  const uint8_t last = me->played > 0 ? me->inputs[me->number][me->played - 1] : 0;
  if (next_random(&me->random) % 4 != 0) return last;
  return (uint8_t)(next_random(&me->random) % (me->number == 0 ? 3 : 2));
}

/* Both inputs make one action. A world without such a name plays any other one, the same in both processes.
 */
static int32_t action_of(const player* me, uint8_t walk, uint8_t jump) {
  static const char* const names[3][2] = {{"stay", "jump"}, {"left", "left+jump"}, {"right", "right+jump"}};
  grt_world_info info;
  int32_t action = 0;
  grt_world_info_init(&info);
  if (grt_world_find_action(me->world, names[walk][jump], &action, NULL) == GRT_OK) return action;
  grt_world_get_info(me->world, &info, NULL);
  return (walk * 2 + jump) % info.num_actions;
}

static grt_status step(player* me, uint8_t walk, uint8_t jump) {
  return grt_session_step(me->session, action_of(me, walk, jump), NULL, NULL, &me->error);
}

/* Plays frame `me->played` with the other's input, or with what it is likely to be. */
static grt_status play_frame(player* me) {
  const int frame = me->played;
  const uint8_t* theirs = me->inputs[1 - me->number];
  const uint8_t mine = me->inputs[me->number][frame];
  uint8_t other = 0;
  grt_snapshot** before = &me->before[frame % (ROLLBACK + 1)];
  if (frame < me->known) {
    other = theirs[frame];
  } else if (me->known > 0) {
    other = theirs[me->known - 1];
  }
  grt_snapshot_free(*before);
  if (grt_session_snapshot(me->session, before, &me->error) != GRT_OK) return GRT_ERROR_OUT_OF_MEMORY;
  me->assumed[frame] = other;
  me->played++;
  return me->number == 0 ? step(me, mine, other) : step(me, other, mine);
}

/* Goes back to the first frame whose input was not what it was taken to be, and plays on to where we were. */
static grt_status correct(player* me, int known_before) {
  int frame = known_before;
  const int reached = me->played;
  while (frame < me->known && frame < reached && me->assumed[frame] == me->inputs[1 - me->number][frame])
    frame++;
  if (frame >= me->known || frame >= reached) return GRT_OK;
  me->rollbacks++;
  me->replayed += reached - frame;
  if (reached - frame > me->deepest) me->deepest = reached - frame;
  if (grt_session_restore(me->session, me->before[frame % (ROLLBACK + 1)], &me->error) != GRT_OK) {
    return GRT_ERROR_STATE;
  }
  me->played = frame;
  while (me->played < reached) {
    const grt_status status = play_frame(me);
    if (status != GRT_OK) return status;
  }
  return GRT_OK;
}

/* ---- The network ----------------------------------------------------------------------------------------
 */

static void post(player* me, int is_done, uint64_t digest, int most_delay_ms) {
  delayed* letter;
  packet* content;
  int i;
  if (me->num_waiting == MOST_IN_FLIGHT) return;
  letter = &me->waiting[me->num_waiting++];
  letter->at_ms =
      now_ms() + (most_delay_ms > 0 ? (int)(next_random(&me->random) % (unsigned)(most_delay_ms + 1)) : 0);
  content = &letter->content;
  memset(content, 0, sizeof *content);
  content->player = me->number;
  content->count = me->played < HISTORY ? me->played : HISTORY;
  content->first = me->played - content->count;
  content->is_done = is_done;
  content->digest = digest;
  for (i = 0; i < content->count; i++) content->inputs[i] = me->inputs[me->number][content->first + i];
}

/* Sends what is due and takes what has come. */
static grt_status exchange(player* me) {
  const double now = now_ms();
  const int known_before = me->known;
  packet content;
  int i = 0, frame;
  while (i < me->num_waiting) {
    if (me->waiting[i].at_ms > now) {
      i++;
      continue;
    }
    (void)!send(me->socket, &me->waiting[i].content, sizeof(packet), 0);
    me->waiting[i] = me->waiting[--me->num_waiting];
  }
  while (recv(me->socket, &content, sizeof content, 0) == (ssize_t)sizeof content) {
    const int is_sane = content.player == 1 - me->number && content.first >= 0 && content.count >= 0 &&
                        content.count <= HISTORY && content.first + content.count <= me->flags.frames;
    if (!is_sane) continue;
    me->heard_ms = now_ms();
    for (i = 0; i < content.count; i++) {
      frame = content.first + i;
      if (frame != me->known || content.inputs[i] > 2)
        continue; /* known already, or one is missing before it */
      me->inputs[1 - me->number][me->known++] = content.inputs[i];
    }
    if (content.is_done) {
      me->other_is_done = 1;
      me->other_digest = content.digest;
    }
  }
  return correct(me, known_before);
}

static int is_silent(const player* me) { return now_ms() - me->heard_ms > GIVE_UP_MS; }

static grt_status play_all(player* me) {
  double next_tick = now_ms();
  me->heard_ms = next_tick;
  while (me->played < me->flags.frames || me->known < me->flags.frames) {
    const int is_ahead = me->played - me->known >= ROLLBACK;
    if (is_silent(me)) {
      snprintf(me->error.message, sizeof me->error.message, "the other player does not answer");
      return GRT_ERROR_STATE;
    }
    if (exchange(me) != GRT_OK) return GRT_ERROR_STATE;
    if (me->played < me->flags.frames && !is_ahead) {
      me->inputs[me->number][me->played] = press(me);
      if (play_frame(me) != GRT_OK) return GRT_ERROR_STATE;
    } else if (is_ahead) {
      me->stalls++;
    }
    post(me, 0, 0, me->flags.delay_ms);
    next_tick += me->flags.tick_ms;
    if (next_tick < now_ms()) next_tick = now_ms(); /* late: nothing is made up for */
    sleep_ms(next_tick - now_ms());
  }
  return GRT_OK;
}

/* ---- A process ------------------------------------------------------------------------------------------
 */

static grt_status digest_of(player* me, uint64_t* digest) {
  grt_session_state state;
  grt_session_state_init(&state);
  if (grt_session_get_state(me->session, &state, &me->error) != GRT_OK) return GRT_ERROR_STATE;
  *digest = state.digest;
  return GRT_OK;
}

/* Tells the other the digest until it has told us its own; goes on for a little, in case it has not heard. */
static void compare(player* me, uint64_t digest) {
  int left = 20;
  while (left > 0 && !is_silent(me)) {
    post(me, 1, digest, 0);
    (void)exchange(me);
    sleep_ms(10);
    if (me->other_is_done) left--;
  }
}

static int run(player* me) {
  grt_world_params params;
  grt_session_params session_params;
  uint64_t digest = 0, replay = 0;
  int frame;
  grt_error_init(&me->error);
  grt_world_params_init(&params);
  grt_session_params_init(&session_params);
  params.num_threads = 1;
  session_params.num_snapshots = ROLLBACK + 1;
  me->random = me->flags.seed * 2u + (unsigned)me->number + 1u;
  if (grt_world_load(me->flags.bundle, &params, &me->world, &me->error) != GRT_OK) return 1;
  if (grt_session_create(me->world, &session_params, &me->session, &me->error) != GRT_OK) return 1;
  if (grt_session_reset_prompt(me->session, 0, 0, NULL, &me->error) != GRT_OK) return 1;
  if (play_all(me) != GRT_OK || digest_of(me, &digest) != GRT_OK) return 1;
  compare(me, digest);

  if (grt_session_reset_prompt(me->session, 0, 0, NULL, &me->error) != GRT_OK) return 1;
  for (frame = 0; frame < me->flags.frames; frame++) {
    if (step(me, me->inputs[0][frame], me->inputs[1][frame]) != GRT_OK) return 1;
  }
  if (digest_of(me, &replay) != GRT_OK) return 1;

  printf("player %d: %d frames, %d rollbacks, deepest %d, %d frames played again, %d turns waited\n",
         me->number, me->flags.frames, me->rollbacks, me->deepest, me->replayed, me->stalls);
  printf("player %d: digest %016llx, the other's %016llx, all inputs known %016llx\n", me->number,
         (unsigned long long)digest, (unsigned long long)me->other_digest, (unsigned long long)replay);
  if (!me->other_is_done || digest != me->other_digest || digest != replay) {
    snprintf(me->error.message, sizeof me->error.message, "the digests differ");
    return 1;
  }
  return 0;
}

static int play_as(int number, int socket, const flags* given) {
  player* me = calloc(1, sizeof *me);
  int i, result;
  if (me == NULL) return 1;
  me->flags = *given;
  me->number = number;
  me->socket = socket;
  result = run(me);
  if (result != 0) fprintf(stderr, "player %d: %s\n", number, me->error.message);
  for (i = 0; i <= ROLLBACK; i++) grt_snapshot_free(me->before[i]);
  grt_session_free(me->session);
  grt_world_free(me->world);
  free(me);
  return result;
}

/* Two sockets on this machine that know each other's address. */
static int connect_pair(int pair[2]) {
  struct sockaddr_in address[2];
  socklen_t size = sizeof address[0];
  int i;
  for (i = 0; i < 2; i++) {
    memset(&address[i], 0, sizeof address[i]);
    address[i].sin_family = AF_INET;
    address[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pair[i] = socket(AF_INET, SOCK_DGRAM, 0);
    if (pair[i] < 0 || bind(pair[i], (struct sockaddr*)&address[i], size) != 0) return -1;
    if (getsockname(pair[i], (struct sockaddr*)&address[i], &size) != 0) return -1;
    if (fcntl(pair[i], F_SETFL, O_NONBLOCK) != 0) return -1;
  }
  for (i = 0; i < 2; i++) {
    if (connect(pair[i], (struct sockaddr*)&address[1 - i], size) != 0) return -1;
  }
  return 0;
}

static int parse(int argc, char** argv, flags* given) {
  int i;
  for (i = 1; i < argc; i++) {
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (argv[i][0] != '-') {
      given->bundle = argv[i];
      continue;
    }
    if (strcmp(argv[i], "--frames") == 0) {
      given->frames = atoi(value);
    } else if (strcmp(argv[i], "--delay-ms") == 0) {
      given->delay_ms = atoi(value);
    } else if (strcmp(argv[i], "--tick-ms") == 0) {
      given->tick_ms = atoi(value);
    } else if (strcmp(argv[i], "--seed") == 0) {
      given->seed = (unsigned)strtoul(value, NULL, 10);
    } else {
      return 0;
    }
    i++;
  }
  return given->bundle != NULL && given->frames > 0 && given->frames <= MOST_FRAMES && given->delay_ms >= 0 &&
         given->tick_ms > 0;
}

int main(int argc, char** argv) {
  flags given = {NULL, 120, 60, 16, 0};
  int pair[2], mine, theirs = 1;
  pid_t child;
  if (!parse(argc, argv, &given)) {
    fprintf(stderr, "usage: netplay BUNDLE [--frames N] [--delay-ms N] [--tick-ms N] [--seed N]\n");
    return 2;
  }
  if (connect_pair(pair) != 0) return perror("sockets"), 1;
  child = fork();
  if (child < 0) return perror("fork"), 1;
  if (child == 0) {
    close(pair[0]);
    mine = play_as(1, pair[1], &given);
    fflush(stdout);
    _exit(mine);
  }
  close(pair[1]);
  mine = play_as(0, pair[0], &given);
  if (waitpid(child, &theirs, 0) < 0) return perror("waitpid"), 1;
  if (mine != 0 || theirs != 0) return 1;
  printf("both ended in the same state\n");
  return 0;
}
