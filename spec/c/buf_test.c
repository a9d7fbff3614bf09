/* buf_test.c - counted buffers: growth, references over threads, the pool's bounds and figures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/buf.h"

#define THREADS 4
#define ROUNDS 5000

static void test_append_grows_and_keeps_bytes(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  assert_int_equal(buf->size, 0);
  assert_int_equal(buf->refs, 1);
  for (uint32_t i = 0; i < 10000; i++)
    cg_buf_append(buf, &i, sizeof(i));
  cg_buf_append(buf, NULL, 0);
  assert_int_equal(buf->size, 40000);
  assert_true(buf->capacity >= buf->size);
  for (uint32_t i = 0; i < 10000; i++)
    assert_memory_equal(buf->data + i * sizeof(i), &i, sizeof(i));
  cg_buf_unref(buf);
  cg_buf_unref(NULL);
}

static void test_growth_at_least_doubles(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 1000);
  assert_true(buf->capacity >= 1000);
  for (int i = 0; i < 10; i++) {
    size_t before = buf->capacity;
    buf->size = before;
    uint8_t *room = cg_buf_room(buf, 1);
    assert_ptr_equal(room, buf->data + before);
    assert_int_equal(buf->size, before);
    assert_true(buf->capacity >= 2 * before);
  }
  cg_buf_unref(buf);
}

static void test_pool_reuses_the_newest_emptied(void **state) {
  (void)state;
  struct cg_buf_pool *pool = cg_buf_pool_new(8, 4096);
  struct cg_buf *first = cg_buf_take(pool, 100);
  struct cg_buf *second = cg_buf_take(pool, 100);
  cg_buf_append(second, "abc", 3);
  cg_buf_unref(first);
  cg_buf_unref(second);

  struct cg_buf *again = cg_buf_take(pool, 2000);
  assert_ptr_equal(again, second);
  assert_int_equal(again->size, 0);
  assert_int_equal(again->refs, 1);
  assert_true(again->capacity >= 2000);

  struct cg_buf_stats stats;
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.taken_count, 3);
  assert_int_equal(stats.reused_count, 1);
  assert_int_equal(stats.in_use_count, 1);
  assert_int_equal(stats.idle_count, 1);
  assert_int_equal(stats.idle_bytes, first->capacity);

  cg_buf_unref(again);
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.in_use_count, 0);
  assert_int_equal(stats.idle_count, 2);
  assert_int_equal(stats.idle_bytes, first->capacity + second->capacity);
  cg_buf_pool_free(pool);
}

static void test_pool_keeps_its_bounds(void **state) {
  (void)state;
  struct cg_buf_pool *pool = cg_buf_pool_new(2, 1024);
  struct cg_buf *bufs[5];
  for (int i = 0; i < 4; i++)
    bufs[i] = cg_buf_take(pool, 128);
  bufs[4] = cg_buf_take(pool, 1025);
  struct cg_buf_stats stats;
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.in_use_count, 5);

  cg_buf_unref(bufs[4]); /* Too large to be kept. */
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.idle_count, 0);
  for (int i = 0; i < 4; i++)
    cg_buf_unref(bufs[i]);
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.idle_count, 2);
  assert_int_equal(stats.idle_bytes, 256);
  assert_int_equal(stats.in_use_count, 0);
  cg_buf_pool_free(pool);
  cg_buf_pool_free(NULL);
}

static void test_last_unref_returns(void **state) {
  (void)state;
  struct cg_buf_pool *pool = cg_buf_pool_new(2, 1024);
  struct cg_buf *buf = cg_buf_take(pool, 16);
  assert_ptr_equal(cg_buf_ref(buf), buf);
  struct cg_buf_stats stats;
  cg_buf_unref(buf);
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.in_use_count, 1);
  cg_buf_unref(buf);
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.in_use_count, 0);
  cg_buf_pool_free(pool);
}

/* One thread: takes, shares and returns buffers of a pool, and drops one reference of `shared` a
 * round. */
struct worker {
  struct cg_buf_pool *pool; /* Shared by all. */
  struct cg_buf *shared;    /* Holds ROUNDS references for this thread. */
};

static void *work(void *arg) {
  struct worker *worker = arg;
  for (int i = 0; i < ROUNDS; i++) {
    struct cg_buf *buf = cg_buf_take(worker->pool, (size_t)(i % 300));
    cg_buf_append(buf, &i, sizeof(i));
    cg_buf_ref(buf);
    cg_buf_unref(buf);
    cg_buf_unref(buf);
    cg_buf_unref(worker->shared);
  }
  return NULL;
}

static void test_threads_share_pool_and_counts(void **state) {
  (void)state;
  struct cg_buf_pool *pool = cg_buf_pool_new(2, 1024);
  struct cg_buf *shared = cg_buf_take(pool, 64);
  for (int i = 0; i < THREADS * ROUNDS; i++)
    cg_buf_ref(shared);

  pthread_t threads[THREADS];
  struct worker worker = {.pool = pool, .shared = shared};
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, work, &worker), 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);

  struct cg_buf_stats stats;
  assert_int_equal(shared->refs, 1);
  cg_buf_pool_stats(pool, &stats);
  assert_int_equal(stats.in_use_count, 1);
  assert_int_equal(stats.taken_count, THREADS * ROUNDS + 1);
  cg_buf_unref(shared);
  cg_buf_pool_free(pool);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_append_grows_and_keeps_bytes),
      cmocka_unit_test(test_growth_at_least_doubles),
      cmocka_unit_test(test_pool_reuses_the_newest_emptied),
      cmocka_unit_test(test_pool_keeps_its_bounds),
      cmocka_unit_test(test_last_unref_returns),
      cmocka_unit_test(test_threads_share_pool_and_counts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
