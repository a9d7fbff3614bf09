/* cli_sql.c - `catga sql`: a SELECT over the read models, in a running instance or in the files.
 *
 * Owns: nothing. Thread: the main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/document.h"
#include "cli/place.h"
#include "cli/print.h"

#define COLUMNS_MAX 64  /* Columns of a table; more are for -o json. */
#define TITLE_BYTES 128 /* Of a column's name. */

const char cg_cli_sql_usage[] =
    "Usage: catga sql QUERY [--on NAME] [--max N] [--timeout T] [-o json] [--data D]\n"
    "Runs a SELECT over the read models, in the running instance or, when none runs, on its "
    "files.\n"
    "Each projection is a view of its documents, with the columns key and doc (JSON); its own "
    "tables\n"
    "stand beside it, by their names or as \"Projection\".table.\n"
    "  QUERY        one SELECT; - reads it from stdin\n"
    "  --on NAME    inside of one projection; that also reaches those in memory\n"
    "  --max N      at most so many rows (default and bound: the setting sql_rows_max, 10000)\n"
    "  --timeout T  give up after that time (default and bound: the setting sql_timeout, 30s)\n"
    "  -o json      one document a row\n"
    "  --data D     data directory of the instance (default $CATGA_DATA, else .catga)\n"
    "Exit code: 0 printed, 1 refused or failed, 3 there are no read models.\n"
    "Example: catga sql \"select key, doc->>'status' as status from OrderSummary limit 10\"\n";

/* Names of the columns of an answer. */
struct columns {
  struct cg_print_column list[COLUMNS_MAX]; /* They point into `titles`. */
  char titles[COLUMNS_MAX][TITLE_BYTES];    /* Their names. */
  int count;                                /* How many. */
};

static void print_rows(const struct cg_buf *answer, bool as_json) {
  struct columns *columns = cg_alloc(sizeof(*columns));
  columns->count = 0;
  while (columns->count < COLUMNS_MAX &&
         cg_print_item(answer, "columns", columns->count, "name", columns->titles[columns->count],
                       TITLE_BYTES)) {
    const char *title = columns->titles[columns->count];
    columns->list[columns->count++] = (struct cg_print_column){title, title, false};
  }
  cg_print_list_of(answer, "rows", columns->list, (size_t)columns->count,
                   as_json ? CG_PRINT_JSON : CG_PRINT_TABLE);
  cg_free(columns);
}

static int ask(const struct cg_remote_options *remote, const struct cg_buf *data) {
  struct cg_place place;
  int code;
  if (!cg_place_open(&place, remote->data, false, &code))
    return code;
  long status;
  const struct cg_buf *answer;
  code = CG_CLI_FAILED;
  if (cg_place_call(&place, "POST", cg_remote_target("/sql", NULL), (const char *)data->data,
                    data->size, &status, &answer)) {
    if (status == 200) {
      char more[8];
      code = CG_CLI_FINE;
      print_rows(answer, remote->as_json);
      cg_print_field(answer, "more", more, sizeof(more));
      if (strcmp(more, "true") == 0)
        fprintf(stderr, "catga: there are more rows; --max, or LIMIT and OFFSET, for others\n");
    } else {
      cg_print_problem(answer);
      code = status == 404 ? CG_CLI_NOT_FOUND : CG_CLI_FAILED;
    }
  }
  return cg_place_close(&place) ? code : CG_CLI_FAILED;
}

int cg_cli_sql(const struct cg_cli_verb *verb, int argc, char **argv) {
  static const struct option options[] = {
      {"on", required_argument, NULL, 'n'},      {"max", required_argument, NULL, 'm'},
      {"timeout", required_argument, NULL, 't'}, {"data", required_argument, NULL, 'd'},
      {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
  struct cg_remote_options remote;
  cg_remote_init(&remote);
  const char *on = NULL, *timeout = NULL;
  double max = 0;
  int option;
  while ((option = cg_cli_option(verb, argc, argv, options)) != -1) {
    char *end = "";
    if (option == 'n')
      on = optarg;
    else if (option == 't')
      timeout = optarg;
    else if (option == 'm')
      max = strtod(optarg, &end);
    else if (!cg_remote_option(verb, &remote, option))
      return cg_cli_option_exit(option);
    if (*end != 0 || (option == 'm' && max < 1))
      return cg_cli_wrong(verb, "--max is a number from 1, not %s", optarg);
  }
  if (argc - optind != 1)
    return cg_cli_wrong(verb, argc == optind ? "give a query" : "give one query, in quotes");
  struct cg_buf *query = cg_remote_data(argv[optind]);
  if (query == NULL)
    return CG_CLI_FAILED;
  struct cg_buf *data = cg_buf_take(NULL, 256);
  cg_document_begin(data);
  cg_document_text(data, "query", (const char *)query->data, strlen((const char *)query->data));
  if (on != NULL)
    cg_document_text(data, "on", on, strlen(on));
  if (timeout != NULL)
    cg_document_text(data, "timeout", timeout, strlen(timeout));
  if (max > 0)
    cg_document_number(data, "max", max);
  cg_document_end(data);
  int code = ask(&remote, data);
  cg_buf_unref(data);
  cg_buf_unref(query);
  return code;
}
