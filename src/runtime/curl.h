/* curl.h - libcurl, opened when it is first needed.
 *
 * How to use: cg_curl_open fills a table of its functions; calls that may send, or make a thread,
 * stand between cg_curl_enter and cg_curl_leave.
 * Owns: nothing; the library stays open until the program ends, as a thread of its resolver may
 * still run when its transfer is long gone. Thread: any; one table belongs to one thread. */
#ifndef CG_RUNTIME_CURL_H
#define CG_RUNTIME_CURL_H

#include <curl/curl.h>
#include <signal.h>
#include <stdbool.h>

#include "base/err.h"

/* The functions that are used, named as in the library without curl_. */
struct cg_curl {
  CURL *(*easy_init)(void);
  CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
  CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
  CURLcode (*easy_pause)(CURL *, int);
  void (*easy_cleanup)(CURL *);
  const char *(*easy_strerror)(CURLcode);
  struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
  void (*slist_free_all)(struct curl_slist *);
  CURLM *(*multi_init)(void);
  CURLMcode (*multi_setopt)(CURLM *, CURLMoption, ...);
  CURLMcode (*multi_add_handle)(CURLM *, CURL *);
  CURLMcode (*multi_remove_handle)(CURLM *, CURL *);
  CURLMcode (*multi_socket_action)(CURLM *, curl_socket_t, int, int *);
  CURLMcode (*multi_assign)(CURLM *, curl_socket_t, void *);
  CURLMsg *(*multi_info_read)(CURLM *, int *);
  CURLMcode (*multi_cleanup)(CURLM *);
};

/* What cg_curl_leave puts back. */
struct cg_curl_signals {
  sigset_t before;  /* Signals that were blocked. */
  bool was_pending; /* SIGPIPE waited already. */
};

/* Opens the library. CG_ENOTFOUND: it is not there, the message says what to install. */
enum cg_code cg_curl_open(struct cg_curl *curl, struct cg_err *err);

/* Blocks all signals: threads that the library makes must not take the deadline guard's, and a
 * connection that the peer closed must not end the program by SIGPIPE. */
void cg_curl_enter(struct cg_curl_signals *signals);
void cg_curl_leave(const struct cg_curl_signals *signals);

#endif
