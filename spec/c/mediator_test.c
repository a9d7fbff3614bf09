/* mediator_test.c - the table of C handlers: adding, finding, dispatching, counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mediator/mediator.h"

/* Adds what it gets to *reply; data "bad" is an error. */
static int handle(void *arg, const char *data, size_t size, void *reply) {
  *(int *)reply += *(int *)arg + (int)size;
  return size == 3 && memcmp(data, "bad", 3) == 0;
}

static void test_dispatches_and_counts(void **state) {
  (void)state;
  struct cg_mediator *mediator = cg_mediator_new(1);
  struct cg_err err;
  int ten = 10, reply = 0;
  assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, "Add", handle, &ten, &err),
                   CG_OK);
  struct cg_mediator_handler *handler = cg_mediator_find(mediator, CG_MEDIATOR_COMMAND, "Add", 3);
  assert_non_null(handler);
  assert_int_equal(cg_mediator_dispatch(handler, "data", 4, &reply), 0);
  assert_int_equal(reply, 14);
  assert_int_not_equal(cg_mediator_dispatch(handler, "bad", 3, &reply), 0);
  assert_int_equal(handler->call_count, 2);
  assert_int_equal(handler->failure_count, 1);
  cg_mediator_free(mediator);
}

static void test_a_name_has_one_handler_of_one_kind(void **state) {
  (void)state;
  struct cg_mediator *mediator = cg_mediator_new(1);
  struct cg_err err;
  assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_QUERY, "Get", handle, NULL, &err), CG_OK);
  assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, "Get", handle, NULL, &err),
                   CG_EEXISTS);
  assert_non_null(strstr(err.message, "Get has a handler already"));
  assert_null(cg_mediator_find(mediator, CG_MEDIATOR_COMMAND, "Get", 3));
  assert_null(cg_mediator_find(mediator, CG_MEDIATOR_QUERY, "Ge", 2));
  assert_non_null(cg_mediator_find(mediator, CG_MEDIATOR_QUERY, "Get", 3));
  assert_int_equal(cg_mediator_count(mediator), 1);
  cg_mediator_free(mediator);
}

static void test_names_have_a_bound(void **state) {
  (void)state;
  struct cg_mediator *mediator = cg_mediator_new(1);
  struct cg_err err;
  char name[CG_MEDIATOR_NAME_BYTES_MAX + 2];
  memset(name, 'n', sizeof(name));
  name[sizeof(name) - 1] = 0;
  assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, name, handle, NULL, &err),
                   CG_EINVAL);
  assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, "", handle, NULL, &err),
                   CG_EINVAL);
  name[sizeof(name) - 2] = 0;
  assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, name, handle, NULL, &err), CG_OK);
  cg_mediator_free(mediator);
}

static void test_handlers_stay_where_they_are(void **state) {
  (void)state;
  struct cg_mediator *mediator = cg_mediator_new(1);
  struct cg_err err;
  struct cg_mediator_handler *first = NULL;
  for (int i = 0; i < 1000; i++) {
    char name[16];
    int size = snprintf(name, sizeof(name), "Command%d", i);
    assert_int_equal(cg_mediator_add(mediator, CG_MEDIATOR_COMMAND, name, handle, NULL, &err),
                     CG_OK);
    struct cg_mediator_handler *found =
        cg_mediator_find(mediator, CG_MEDIATOR_COMMAND, name, (size_t)size);
    assert_string_equal(found->name, name);
    assert_ptr_equal(cg_mediator_at(mediator, (size_t)i), found);
    if (i == 0)
      first = found;
  }
  assert_ptr_equal(cg_mediator_find(mediator, CG_MEDIATOR_COMMAND, "Command0", 8), first);
  cg_mediator_free(mediator);
  cg_mediator_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_dispatches_and_counts),
      cmocka_unit_test(test_a_name_has_one_handler_of_one_kind),
      cmocka_unit_test(test_names_have_a_bound),
      cmocka_unit_test(test_handlers_stay_where_they_are),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
