/* remote_server.h - a server far away that keeps a log, and the bad network before it, in memory.
 *
 * How to use: by remote_log.c; a test makes the server, says how bad the network is, and counts
 * what has happened. Messages may be lost, come late, twice or in another order, also those of a
 * connection that is long given up: an append that was sent may be stored at any time after.
 * The server stores an append only at the place that it names and behind an entry of the same
 * owner. All chance comes from the seed, all time from the virtual clock.
 * Owns: entries and messages. Thread: one. */
#ifndef SPEC_REMOTE_SERVER_H
#define SPEC_REMOTE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"

#define REMOTE_COMMIT_BYTES_MAX                                                                    \
  ((size_t)1 << 20) /* Most bytes that the server takes in an entry. */

/* What the server holds: a commit, or that somebody took the log over. */
struct remote_entry {
  uint64_t owner;          /* Who wrote it. */
  uint64_t first_position; /* Of its first record, or of the next one. */
  uint32_t record_count;   /* Records; 0: a takeover. */
  struct cg_buf *bytes;    /* Its records; NULL in a takeover. */
};

/* What is sent: two requests, three answers. */
enum remote_kind {
  REMOTE_APPEND,  /* Store this as entry `sequence`, behind an entry of `owner`. */
  REMOTE_READ,    /* Tell what there is from entry `sequence` on. */
  REMOTE_STORED,  /* Entry `sequence` was stored. */
  REMOTE_REFUSED, /* An append was not stored. */
  REMOTE_TAIL     /* Entries `sequence` to `end` - 1 are there. */
};

/* One message on its way. */
struct remote_message {
  enum remote_kind kind; /* What it says. */
  uint64_t connection;   /* It belongs to. */
  uint64_t owner;        /* Append: who writes. */
  uint64_t sequence;     /* Entry spoken of, counted from 0. */
  uint64_t end;          /* Tail: entry behind the last. */
  uint32_t record_count; /* Append: records. */
  struct cg_buf *bytes;  /* Append: the records, one reference; else NULL. */
  uint64_t due_ms;       /* Arrives then. */
};

/* How bad the network is, in percent of all messages. All zero: quick and sure. */
struct remote_trouble {
  unsigned lost;         /* Never arrive. */
  unsigned doubled;      /* Arrive twice. */
  unsigned late;         /* Take up to late_ms instead of 1 ms. */
  unsigned late_ms;      /* See late. */
  unsigned disconnected; /* Of the turns of a log: end its connection. */
};

/* The server. */
struct remote_server {
  struct cg_clock_virtual *clock; /* The time; not owned. */
  struct remote_trouble trouble;  /* Change it at any time. */
  struct remote_entry *entries;   /* In order; never changed. */
  size_t entry_count;             /* How many. */
  size_t entry_capacity;          /* Room. */
  struct remote_message *mail;    /* On its way, in no order. */
  size_t mail_count;              /* How many. */
  size_t mail_capacity;           /* Room. */
  uint64_t random;                /* State of chance. */
  uint64_t connections;           /* Given out. */
  uint64_t owners;                /* Given out. */
  uint64_t lost_count;            /* Messages lost so far. */
  uint64_t doubled_count;         /* Messages doubled so far. */
  uint64_t refused_count;         /* Appends refused so far. */
};

/* An empty server with a quick and sure network; keeps the clock. */
struct remote_server *remote_server_new(uint64_t seed, struct cg_clock_virtual *clock);
/* Frees it, after its logs; NULL is fine. */
void remote_server_free(struct remote_server *server);
/* True in so many percent of the calls. */
bool remote_server_chance(struct remote_server *server, unsigned percent);
/* The time in ms. */
uint64_t remote_server_now(const struct remote_server *server);

/* A new owner's number, whose takeover is the last entry from now on. */
uint64_t remote_server_take_over(struct remote_server *server);
/* Sends a request (copied; takes its own reference of the bytes). */
void remote_server_send(struct remote_server *server, const struct remote_message *request);
/* Lets the server handle what is due, then takes the next answer due on a connection, if any. */
bool remote_server_receive(struct remote_server *server, uint64_t connection,
                           struct remote_message *answer);

#endif
