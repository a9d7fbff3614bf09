/* cli_log_import.c - `catga log import`: CloudEvents out of a file, one JSON document a line.
 *
 * A batch of lines is one request and one commit; a file of any size takes the same memory.
 * Owns: nothing. Thread: the main thread. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "cli/cli_log_transfer.h"
#include "cli/document.h"
#include "cli/place.h"
#include "cli/print.h"
#include "cli/progress.h"

#define LINE_BYTES_MAX ((size_t)65 << 20)   /* A longer line is a bad one. */
#define BATCH_BYTES_MAX ((size_t)512 << 10) /* A batch ends with the line that reaches it. */
#define BATCH_LINES_MAX 10000               /* Lines of a batch; so many the instance takes. */
#define BATCH_LINES 500                     /* The same, when nothing else is asked for. */
#define FAULTS_TOLD_MAX 100                 /* Bad lines of a batch that are named. */
#define PIECE_BYTES 65536                   /* Read from the file at once. */

const char cg_cli_log_import_usage[] =
    "Usage: catga log import FILE|- [--stream S | --stream-from subject|type|source]\n"
    "                        [--batch N] [--skip-bad] [-o json] [--data D]\n"
    "Appends CloudEvents, one JSON document a line: to a running instance, or to files that no\n"
    "program has open. An event with the same source and id is stored once, so that an import\n"
    "can be done again after it was broken off. Handlers are not called; projections see them.\n"
    "  --stream S       all events go into this stream\n"
    "  --stream-from A  the attribute that names the stream (default subject)\n"
    "  --batch N        lines of one commit, up to 10000 (default 500)\n"
    "  --skip-bad       bad lines, and those for streams that were deleted for good, are told\n"
    "                   and left out; without it the first one ends the import\n"
    "  -o json          one document with the counts\n"
    "  --data D         data directory (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 all imported, 1 a bad line or a failure, 3 there is no such file.\n"
    "Example: catga log import orders.ndjson --data /var/lib/orders\n";

/* An import under way. */
struct import {
  struct cg_place place;       /* Where the events go. */
  struct cg_progress progress; /* Shown meanwhile. */
  const char *name;            /* Of the file, for messages. */
  const char *stream;          /* --stream, or NULL. */
  const char *field;           /* --stream-from, or NULL. */
  bool skips_bad;              /* --skip-bad. */
  size_t line_count_max;       /* --batch. */
  struct cg_buf *batch;        /* Lines, each with its end. */
  size_t *ends;                /* Offset behind each line. */
  size_t line_count;           /* How many. */
  bool is_long;                /* The line under way is over its bound, and dropped. */
  uint64_t first_line;         /* Number of the first one in the file. */
  uint64_t imported_count;     /* Events appended. */
  uint64_t repeated_count;     /* Events that were there. */
  uint64_t bad_count;          /* Lines left out. */
};

static void tell_bad(struct import *import, uint64_t line, const char *message) {
  cg_progress_end(&import->progress);
  fprintf(stderr, "catga: %s:%llu: %s\n", import->name, (unsigned long long)line, message);
}

/* Adds up what was done with the lines from `first` on. */
static void count_done(struct import *import, size_t first, const struct cg_buf *answer) {
  import->imported_count += cg_print_count(answer, "imported");
  import->repeated_count += cg_print_count(answer, "repeated");
  import->bad_count += cg_print_count(answer, "bad_count");
  char line[32], message[512];
  for (int i = 0; i < FAULTS_TOLD_MAX; i++) {
    if (!cg_print_item(answer, "bad", i, "message", message, sizeof(message)))
      return;
    cg_print_item(answer, "bad", i, "line", line, sizeof(line));
    tell_bad(import, import->first_line + first + strtoull(line, NULL, 10) - 1, message);
  }
}

/* A batch was refused: names the line, or the lines. */
static void tell_refusal(struct import *import, size_t first, size_t last,
                         const struct cg_buf *answer) {
  char code[64], detail[512], text[640];
  cg_print_field(answer, "code", code, sizeof(code));
  cg_print_field(answer, "detail", detail, sizeof(detail));
  uint64_t line = cg_print_count(answer, "line");
  snprintf(text, sizeof(text), "%s: %s", code, detail[0] != 0 ? detail : "refused");
  if (line > 0 || first + 1 == last) {
    tell_bad(import, import->first_line + first + (line > 0 ? line - 1 : 0), text);
    return;
  }
  cg_progress_end(&import->progress);
  cg_cli_fail("%s: lines %llu to %llu: %s", import->name,
              (unsigned long long)(import->first_line + first),
              (unsigned long long)(import->first_line + last - 1), text);
}

/* Sends the lines [first, last) as one commit; in halves when that is too much at once. */
static bool send_lines(struct import *import, size_t first, size_t last) {
  struct cg_buf *target = cg_remote_target("/import", NULL);
  cg_remote_query(target, "stream", import->stream);
  cg_remote_query(target, "field", import->field);
  cg_remote_query(target, "skip_bad", import->skips_bad ? "1" : NULL);
  size_t start = first > 0 ? import->ends[first - 1] : 0;
  long status;
  const struct cg_buf *answer;
  if (!cg_place_call(&import->place, "POST", target, (const char *)import->batch->data + start,
                     import->ends[last - 1] - start, &status, &answer))
    return false;
  if (status == 200) {
    count_done(import, first, answer);
    return true;
  }
  if (status == 413 && last - first > 1) {
    size_t middle = first + (last - first) / 2;
    return send_lines(import, first, middle) && send_lines(import, middle, last);
  }
  if (status == 413 && import->skips_bad) {
    import->bad_count++;
    tell_bad(import, import->first_line + first,
             "it is larger than the instance takes at once "
             "(message_size_max); import while it is stopped");
    return true;
  }
  tell_refusal(import, first, last, answer);
  return false;
}

static bool flush_batch(struct import *import) {
  bool is_fine = import->line_count == 0 || send_lines(import, 0, import->line_count);
  import->first_line += import->line_count;
  import->line_count = 0;
  import->batch->size = 0;
  return is_fine;
}

/* Takes a line that is too long out of the count; false when that ends the import. */
static bool refuse_long(struct import *import) {
  if (!flush_batch(import))
    return false;
  char text[64];
  snprintf(text, sizeof(text), "the line has over %zu MiB", LINE_BYTES_MAX >> 20);
  tell_bad(import, import->first_line, text);
  import->first_line++;
  import->bad_count++;
  return import->skips_bad;
}

/* Ends the line that the batch's last bytes are. */
static bool end_line(struct import *import) {
  import->ends[import->line_count++] = import->batch->size;
  if (import->line_count < import->line_count_max && import->batch->size < BATCH_BYTES_MAX)
    return true;
  return flush_batch(import);
}

/* Takes bytes of the file; lines that end in them are sent or wait in the batch. */
static bool take_bytes(struct import *import, const char *bytes, size_t size) {
  while (size > 0) {
    const char *end = memchr(bytes, '\n', size);
    size_t count = end != NULL ? (size_t)(end - bytes) + 1 : size;
    if (!import->is_long)
      cg_buf_append(import->batch, bytes, count);
    size_t start = import->line_count > 0 ? import->ends[import->line_count - 1] : 0;
    if (import->batch->size - start > LINE_BYTES_MAX) {
      import->batch->size = start;
      import->is_long = true;
    }
    if (end != NULL) {
      bool is_fine = import->is_long ? refuse_long(import) : end_line(import);
      import->is_long = false;
      if (!is_fine)
        return false;
    }
    bytes += count;
    size -= count;
  }
  return true;
}

static bool import_lines(struct import *import, FILE *file, uint64_t size) {
  char bytes[PIECE_BYTES];
  uint64_t read_bytes = 0;
  size_t count;
  while ((count = fread(bytes, 1, sizeof(bytes), file)) > 0) {
    if (!take_bytes(import, bytes, count))
      return false;
    read_bytes += count;
    cg_progress_bytes(&import->progress, read_bytes, size);
  }
  if (ferror(file)) {
    cg_cli_fail("reading %s: %s", import->name, strerror(errno));
    return false;
  }
  if (import->is_long ? !refuse_long(import) : !take_bytes(import, "\n", 1))
    return false; /* The last line may lack its end; one more empty line does no harm. */
  return flush_batch(import);
}

static void print_counts(const struct import *import, bool as_json) {
  if (!as_json) {
    printf("%llu events imported, %llu were there, %llu bad lines left out\n",
           (unsigned long long)import->imported_count, (unsigned long long)import->repeated_count,
           (unsigned long long)import->bad_count);
    return;
  }
  struct cg_buf *buf = cg_buf_take(NULL, 128);
  cg_document_begin(buf);
  cg_document_number(buf, "imported", (double)import->imported_count);
  cg_document_number(buf, "repeated", (double)import->repeated_count);
  cg_document_number(buf, "bad", (double)import->bad_count);
  cg_document_end(buf);
  cg_document_print(buf);
  cg_buf_unref(buf);
}

static int import_file(struct import *import, const struct cg_remote_options *remote) {
  bool is_stdin = strcmp(import->name, "-") == 0;
  FILE *file = is_stdin ? stdin : fopen(import->name, "re");
  if (file == NULL) {
    cg_cli_fail("%s: %s", import->name, strerror(errno));
    return errno == ENOENT ? CG_CLI_NOT_FOUND : CG_CLI_FAILED;
  }
  int code;
  if (cg_place_open(&import->place, remote->data, true, &code)) {
    struct stat info;
    uint64_t size = fstat(fileno(file), &info) == 0 ? (uint64_t)info.st_size : 0;
    cg_progress_init(&import->progress, "import");
    import->batch = cg_buf_take(NULL, BATCH_BYTES_MAX);
    import->ends = cg_alloc(import->line_count_max * sizeof(import->ends[0]));
    import->first_line = 1;
    bool is_fine = import_lines(import, file, size);
    cg_progress_end(&import->progress);
    cg_free(import->ends);
    cg_buf_unref(import->batch);
    is_fine = cg_place_close(&import->place) && is_fine;
    print_counts(import, remote->as_json);
    code = is_fine ? CG_CLI_FINE : CG_CLI_FAILED;
  }
  if (!is_stdin)
    fclose(file);
  return code;
}

int cg_cli_log_import(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {{"stream", required_argument, NULL, 's'},
                                          {"stream-from", required_argument, NULL, 'f'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"skip-bad", no_argument, NULL, 'k'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct import import = {.line_count_max = BATCH_LINES};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    if (option == 's')
      import.stream = optarg;
    else if (option == 'f')
      import.field = optarg;
    else if (option == 'b')
      import.line_count_max =
          strspn(optarg, "0123456789") == strlen(optarg) ? (size_t)strtoull(optarg, NULL, 10) : 0;
    else if (option == 'k')
      import.skips_bad = true;
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb, "name one file, or - for stdin");
  if (import.line_count_max < 1 || import.line_count_max > BATCH_LINES_MAX)
    return cg_cli_wrong(verb, "--batch is a number from 1 to %d", BATCH_LINES_MAX);
  if (import.stream != NULL && import.field != NULL)
    return cg_cli_wrong(verb, "--stream and --stream-from exclude each other");
  import.name = argv[optind];
  return import_file(&import, &remote);
}
