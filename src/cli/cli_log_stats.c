/* cli_log_stats.c - `catga log stats`: what is in a log, by category and type.
 *
 * It reads the files itself, of a running program up to what that says is durable.
 * Owns: nothing. Thread: the main thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "cli/cli_log.h"
#include "cli/document.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "store/store.h"

#define GROUPS_MAX 100000 /* Categories, and types, told apart; the others are counted together. */
#define TOP_COUNT 20      /* Printed of each. */
#define OTHERS "(others)"

const char cg_cli_log_stats_usage[] =
    "Usage: catga log stats [-o json] [--data D]\n"
    "Says what is in an event log: its size, its commits and the largest categories and types. "
    "Also\n"
    "while the program runs; the files are read up to what is durable. The category of a stream "
    "is\n"
    "its name up to the first \"-\".\n"
    "  -o json    one document\n"
    "  --data D   data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 fine, 1 the log is damaged or cannot be read, 3 there is no log.\n"
    "Example: catga log stats --data /var/lib/orders\n";

/* Records that have something in common. */
struct group {
  char *name;            /* What they have in common; owned. */
  size_t name_size;      /* Bytes of it. */
  uint64_t stream_count; /* Streams that begin among them. */
  uint64_t record_count; /* How many. */
  uint64_t bytes;        /* Their bytes in the log. */
};

/* Groups by name. */
struct groups {
  struct cg_map *map; /* From a name to its index in the list. */
  struct group *list; /* In the order in which they were met. */
  size_t count;       /* How many. */
};

/* What is counted. */
struct stats {
  struct cg_progress progress; /* Shown meanwhile. */
  struct groups categories;    /* By the stream's name. */
  struct groups types;         /* By type. */
  uint64_t batch_count;        /* Runs of commits that state the same durable position. */
  uint64_t durable_position;   /* Of the commit before. */
  int64_t first_ms;            /* Time of the first commit; 0: there is none. */
  int64_t last_ms;             /* Time of the last. */
};

/* The group of a name. */
static struct group *find_group(struct groups *groups, const char *name, size_t size) {
  if (groups->count >= GROUPS_MAX && !cg_map_find(groups->map, name, size)) {
    name = OTHERS;
    size = sizeof(OTHERS) - 1;
  }
  bool is_new;
  uint64_t *index = cg_map_put(groups->map, name, size, &is_new);
  if (is_new) {
    if ((groups->count & (groups->count - 1)) == 0) /* Grown at each power of two, and at 0. */
      groups->list = cg_realloc(groups->list,
                                (groups->count > 0 ? groups->count * 2 : 1) * sizeof(struct group));
    *index = groups->count++;
    groups->list[*index] = (struct group){.name = cg_strndup(name, size), .name_size = size};
  }
  return &groups->list[*index];
}

static void count_record(struct groups *groups, const char *name, size_t name_size,
                         const struct cg_record *record, size_t bytes) {
  struct group *group = find_group(groups, name, name_size);
  group->stream_count += record->version == 0;
  group->record_count++;
  group->bytes += bytes;
}

/* Counts a commit; called by the walk. */
static void on_commit(void *arg, const struct cg_commit_header *header, const uint8_t *records,
                      size_t size) {
  struct stats *stats = arg;
  if (header->record_count == 0)
    return;
  if (stats->batch_count == 0 || header->durable_position != stats->durable_position)
    stats->batch_count++;
  stats->durable_position = header->durable_position;
  if (stats->first_ms == 0)
    stats->first_ms = header->time_ms;
  stats->last_ms = header->time_ms;
  for (size_t at = 0; at < size;) {
    struct cg_record record;
    size_t record_size;
    if (cg_record_decode(records + at, size - at, &record, &record_size, NULL) != CG_OK)
      return; /* Not reached: the commit was checked as a whole. */
    at += record_size;
    if (record.flags & CG_RECORD_HOLE)
      continue;
    const char *dash = memchr(record.stream, '-', record.stream_size);
    size_t category_size = dash ? (size_t)(dash - record.stream) : record.stream_size;
    count_record(&stats->categories, record.stream, category_size, &record, record_size);
    count_record(&stats->types, record.type, record.type_size, &record, record_size);
  }
}

static void tell_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes) {
  struct stats *stats = arg;
  cg_progress_bytes(&stats->progress, done_bytes, total_bytes);
}

/* The largest first. */
static int compare_groups(const void *left, const void *right) {
  const struct group *a = left, *b = right;
  return (a->bytes < b->bytes) - (a->bytes > b->bytes);
}

/* Appends the largest groups as a list of documents. */
static struct cg_buf *list_groups(struct groups *groups, const char *name, bool has_streams) {
  struct cg_buf *buf = cg_buf_take(NULL, 4096);
  if (groups->count > 0)
    qsort(groups->list, groups->count, sizeof(struct group), compare_groups);
  cg_buf_append(buf, "[", 1);
  for (size_t index = 0; index < groups->count && index < TOP_COUNT; index++) {
    const struct group *group = &groups->list[index];
    if (index > 0)
      cg_buf_append(buf, ",", 1);
    cg_document_begin(buf);
    cg_document_text(buf, name, group->name, group->name_size);
    if (has_streams)
      cg_document_number(buf, "streams", (double)group->stream_count);
    cg_document_number(buf, "records", (double)group->record_count);
    cg_document_number(buf, "bytes", (double)group->bytes);
    cg_document_end(buf);
  }
  cg_buf_append(buf, "]", 1);
  return buf;
}

static double ratio(uint64_t above, uint64_t below) {
  return below > 0 ? (double)(100 * above / below) / 100 : 0;
}

/* The document without its lists, not ended. */
static struct cg_buf *make_document(const char *path, const struct cg_log_walk *walk,
                                    const struct cg_cli_log_state *state,
                                    const struct stats *stats) {
  const struct cg_log_counts *counts = &walk->counts;
  struct cg_buf *buf = cg_buf_take(NULL, 4096);
  cg_document_begin(buf);
  cg_document_text(buf, "path", path, strlen(path));
  cg_document_bool(buf, "running", state->is_running);
  cg_document_number(buf, "segments", (double)counts->segment_count);
  cg_document_number(buf, "bytes", (double)counts->bytes);
  cg_document_number(buf, "commit_bytes", (double)counts->commit_bytes);
  cg_document_number(buf, "records", (double)counts->record_count);
  cg_document_number(buf, "commits", (double)counts->commit_count);
  cg_document_number(buf, "records_per_commit", ratio(counts->record_count, counts->commit_count));
  cg_document_number(buf, "commits_per_batch", ratio(counts->commit_count, stats->batch_count));
  cg_document_number(buf, "durable_position", (double)counts->end_position);
  if (stats->first_ms != 0) {
    cg_document_number(buf, "first_time", (double)stats->first_ms);
    cg_document_number(buf, "last_time", (double)stats->last_ms);
  }
  if (state->is_running) {
    cg_document_number(buf, "run_commits", (double)state->commit_count);
    cg_document_number(buf, "run_syncs", (double)state->sync_count);
  }
  return buf;
}

/* Prints everything. */
static void print_stats(struct cg_buf *document, struct stats *stats, bool as_json) {
  static const struct cg_print_column fields[] = {{"log", "path", false},
                                                  {"running", "running", false},
                                                  {"segments", "segments", false},
                                                  {"bytes", "bytes", false},
                                                  {"records", "records", false},
                                                  {"commits", "commits", false},
                                                  {"per commit", "records_per_commit", false},
                                                  {"per batch", "commits_per_batch", false},
                                                  {"next position", "durable_position", false},
                                                  {"first", "first_time", true},
                                                  {"last", "last_time", true}};
  static const struct cg_print_column categories[] = {{"CATEGORY", "category", false},
                                                      {"STREAMS", "streams", false},
                                                      {"RECORDS", "records", false},
                                                      {"BYTES", "bytes", false}};
  static const struct cg_print_column types[] = {
      {"TYPE", "type", false}, {"RECORDS", "records", false}, {"BYTES", "bytes", false}};
  struct cg_buf *category_list = list_groups(&stats->categories, "category", true);
  struct cg_buf *type_list = list_groups(&stats->types, "type", false);
  cg_document_json(document, "categories", category_list);
  cg_document_json(document, "types", type_list);
  cg_document_end(document);
  if (as_json) {
    cg_document_print(document);
  } else {
    cg_print_document(document, fields, sizeof(fields) / sizeof(fields[0]), false);
    putchar('\n');
    cg_print_list(category_list, categories, 4, CG_PRINT_TABLE);
    putchar('\n');
    cg_print_list(type_list, types, 3, CG_PRINT_TABLE);
  }
  cg_buf_unref(category_list);
  cg_buf_unref(type_list);
}

static void free_groups(struct groups *groups) {
  for (size_t index = 0; index < groups->count; index++)
    cg_free(groups->list[index].name);
  cg_free(groups->list);
  cg_map_free(groups->map);
}

int cg_cli_log_stats(const struct cg_cli_verb *verb, int argc, char **argv) {
  struct cg_remote_options options;
  int exit_code = cg_remote_parse(verb, argc, argv, &options);
  if (exit_code >= 0)
    return exit_code;
  if (argc != optind)
    return cg_cli_wrong(verb, "it takes no argument %s", argv[optind]);
  char path[PATH_MAX];
  if (!cg_cli_log_find(options.data, path))
    return CG_CLI_NOT_FOUND;
  struct cg_cli_log_state state;
  exit_code = cg_cli_log_ask(options.data, &state);
  if (exit_code >= 0)
    return exit_code;
  struct cg_clock clock = cg_clock_system();
  uint64_t seed = cg_clock_mono_ns(&clock);
  struct stats stats = {.categories = {.map = cg_map_new(seed)},
                        .types = {.map = cg_map_new(seed + 1)}};
  cg_progress_init(&stats.progress, "stats");
  struct cg_log_walk walk = {.until_position = state.until_position,
                             .commit = on_commit,
                             .progress = tell_progress,
                             .arg = &stats};
  struct cg_err err;
  enum cg_code code = cg_log_walk(path, cg_fs_system(), &walk, &err);
  cg_progress_end(&stats.progress);
  if (code == CG_OK) {
    struct cg_buf *document = make_document(path, &walk, &state, &stats);
    print_stats(document, &stats, options.as_json);
    cg_buf_unref(document);
  }
  free_groups(&stats.categories);
  free_groups(&stats.types);
  return code == CG_OK ? CG_CLI_FINE : cg_cli_log_fail(&err);
}
