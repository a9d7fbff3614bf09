/* cli_run.c - `catga run`: an app until a signal or the app itself ends it.
 *
 * The first SIGTERM or SIGINT stops gracefully, a second one ends at once.
 * Owns: the loop. Thread: the main thread. */
#include <ctype.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "catga.h"
#include "cli/cli.h"
#include "embed/embed.h"

#define CONFIG_NAME_MAX 200 /* Bytes of the name of a value. */
#define STOP_SECONDS_MAX 10 /* A graceful stop that takes longer is ended. */

const char cg_cli_run_usage[] =
    "Usage: catga run DIR [--data D] [--config NAME=VALUE]... [--no-watch]\n"
    "Runs the app in directory DIR: every .lua in it but those in spec/ and lib/.\n"
    "  --data D     data directory (default DIR/.catga)\n"
    "  --config NAME=VALUE   value of catga.config.get(NAME), before environment and catga.lua\n"
    "  --no-watch   do not load changed scripts anew\n"
    "SIGTERM or SIGINT stops it gracefully, a second one at once.\n"
    "Exit code: 0 stopped, that of catga.exit, 1 it could not start or the log failed.\n"
    "Example: catga run examples/orders --data /var/lib/orders --config shop.url=http://shop\n";

/* Scripts find a value by the variable of its name, as lua/catga/config.lua says. */
static bool set_config(const char *given) {
  static const char PREFIX[] = "CATGA_CONFIG_";
  const char *equals = strchr(given, '=');
  char name[CONFIG_NAME_MAX + sizeof(PREFIX)];
  if (equals == NULL || equals == given || equals - given > CONFIG_NAME_MAX)
    return false;
  memcpy(name, PREFIX, sizeof(PREFIX));
  char *end = name + sizeof(PREFIX) - 1;
  for (const char *letter = given; letter < equals; letter++)
    *end++ = isalnum((unsigned char)*letter) ? (char)toupper((unsigned char)*letter) : '_';
  *end = 0;
  return setenv(name, equals + 1, 1) == 0;
}

/* A running app and what ends it. */
struct run {
  uv_loop_t loop;        /* The program's, given to the instance. */
  uv_signal_t terminate; /* SIGTERM. */
  uv_signal_t interrupt; /* SIGINT. */
  uv_timer_t deadline;   /* Runs during a graceful stop. */
  struct catga *catga;   /* The instance. */
  bool is_stopping;      /* A signal was taken. */
};

static void on_deadline(uv_timer_t *timer) {
  (void)timer;
  fprintf(stderr, "catga: not stopped within %d s; ending. What was acknowledged is safe.\n",
          STOP_SECONDS_MAX);
  _exit(CG_CLI_FAILED);
}

static void on_signal(uv_signal_t *handle, int number) {
  struct run *run = handle->data;
  if (run->is_stopping)
    _exit(128 + number);
  run->is_stopping = true;
  fprintf(stderr, "catga: stopping (again to end at once)\n");
  uv_timer_start(&run->deadline, on_deadline, STOP_SECONDS_MAX * 1000 - 500, 0);
  catga_stop(run->catga, NULL, NULL);
}

static void add_signal(struct run *run, uv_signal_t *handle, int number) {
  uv_signal_init(&run->loop, handle);
  uv_unref((uv_handle_t *)handle);
  handle->data = run;
  uv_signal_start(handle, on_signal, number);
}

static void close_handles(struct run *run) {
  uv_close((uv_handle_t *)&run->terminate, NULL);
  uv_close((uv_handle_t *)&run->interrupt, NULL);
  uv_close((uv_handle_t *)&run->deadline, NULL);
  uv_run(&run->loop, UV_RUN_DEFAULT);
  uv_loop_close(&run->loop);
}

static void print_start(struct run *run, const char *app, const char *data) {
  char durability[32];
  char full_app[PATH_MAX], full_data[PATH_MAX];
  cg_embed_setting(run->catga, "durability", durability, sizeof(durability));
  if (realpath(data, full_data) == NULL)
    snprintf(full_data, sizeof(full_data), "%s", data);
  printf("catga %s\n  app         %s\n  data        %s\n  durability  %s\n  socket      %s/%s\n",
         catga_version(), realpath(app, full_app) != NULL ? full_app : app, full_data, durability,
         full_data, CG_EMBED_SOCKET_NAME);
  fflush(stdout);
}

static int run_app(const char *app, const char *data, bool watch) {
  struct run run = {.is_stopping = false};
  uv_loop_init(&run.loop);
  struct catga_options options;
  catga_options_init(&options, sizeof(options));
  options.app = app;
  options.data = data;
  options.loop = &run.loop;
  options.flags = CATGA_GUARD | CATGA_SOCKET | (watch ? CATGA_WATCH : 0);
  run.catga = catga_new(&options);
  add_signal(&run, &run.terminate, SIGTERM);
  add_signal(&run, &run.interrupt, SIGINT);
  uv_timer_init(&run.loop, &run.deadline);
  uv_unref((uv_handle_t *)&run.deadline);

  int code = CG_CLI_FAILED;
  if (catga_open(run.catga) == CATGA_OK) {
    print_start(&run, app, data);
    code = catga_run(run.catga);
  } else {
    cg_cli_fail("%s", catga_message(run.catga));
    catga_run(run.catga);
  }
  catga_free(run.catga);
  close_handles(&run);
  return code;
}

int cg_cli_run(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                          {"config", required_argument, NULL, 'c'},
                                          {"no-watch", no_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  const char *data = NULL;
  bool watch = true;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 'd')
      data = optarg;
    else if (option == 'n')
      watch = false;
    else if (option == 'c' && set_config(optarg))
      continue;
    else if (option == 'c')
      return cg_cli_wrong(verb, "--config takes NAME=VALUE, not %s", optarg);
    else
      return option == 'o' ? cg_cli_wrong(verb, "there is no option -o")
                           : cg_cli_option_exit(option);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb,
                        argc == optind ? "name the app's directory" : "one directory, not several");
  const char *app = argv[optind];
  struct stat info;
  if (stat(app, &info) != 0 || !S_ISDIR(info.st_mode))
    return cg_cli_fail("%s is no directory; give the one that holds the app's scripts", app);
  char own_data[PATH_MAX];
  snprintf(own_data, sizeof(own_data), "%s/.catga", app);
  return run_app(app, data != NULL ? data : own_data, watch);
}
