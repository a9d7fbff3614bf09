/* curl.c - a table of names and where their functions go. */
#include "runtime/curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#define LIBRARY "libcurl.so.4"

/* One function of the library. */
struct symbol {
  const char *name; /* As the library calls it. */
  size_t place;     /* Where it goes in struct cg_curl. */
};

#define SYMBOL(name)                                                                               \
  { "curl_" #name, offsetof(struct cg_curl, name) }

static const struct symbol SYMBOLS[] = {
    SYMBOL(easy_init),           SYMBOL(easy_setopt),      SYMBOL(easy_getinfo),
    SYMBOL(easy_pause),          SYMBOL(easy_cleanup),     SYMBOL(easy_strerror),
    SYMBOL(slist_append),        SYMBOL(slist_free_all),   SYMBOL(multi_init),
    SYMBOL(multi_setopt),        SYMBOL(multi_add_handle), SYMBOL(multi_remove_handle),
    SYMBOL(multi_socket_action), SYMBOL(multi_assign),     SYMBOL(multi_info_read),
    SYMBOL(multi_cleanup),
};

enum cg_code cg_curl_open(struct cg_curl *curl, struct cg_err *err) {
  void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == NULL)
    return cg_err_set(err, CG_ENOTFOUND, "catga.http needs libcurl (Debian package libcurl4): %s",
                      dlerror());
  for (size_t i = 0; i < sizeof(SYMBOLS) / sizeof(SYMBOLS[0]); i++) {
    void *function = dlsym(library, SYMBOLS[i].name);
    if (function == NULL)
      return cg_err_set(err, CG_ENOTFOUND, "%s has no %s; version 7.68 or newer is needed", LIBRARY,
                        SYMBOLS[i].name);
    memcpy((char *)curl + SYMBOLS[i].place, &function, sizeof(function));
  }
  return CG_OK;
}

static bool is_pipe_pending(void) {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGPIPE) == 1;
}

void cg_curl_enter(struct cg_curl_signals *signals) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &signals->before);
  signals->was_pending = is_pipe_pending();
}

void cg_curl_leave(const struct cg_curl_signals *signals) {
  if (!signals->was_pending && is_pipe_pending()) {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    struct timespec at_once = {0};
    sigtimedwait(&pipe, NULL, &at_once);
  }
  pthread_sigmask(SIG_SETMASK, &signals->before, NULL);
}
