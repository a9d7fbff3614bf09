/* buf.c - counted byte buffers; the pool is a last-in first-out list under one mutex.
 *
 * The list hands out the buffer that came back last: its bytes are the likeliest to be in a cache.
 * The bytes of a buffer are taken and grown outside of the lock.
 * Owns: the idle buffers of a pool. Thread: any. */
#include "base/buf.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

#define BUF_BYTES_MIN 64 /* Smallest capacity worth a call of the allocator. */

/* Idle buffers and what became of the others. */
struct cg_buf_pool {
  pthread_mutex_t mutex; /* Guards everything below but the two bounds. */
  struct cg_buf *idle;   /* Newest first. */
  uint64_t taken_count;  /* Calls of cg_buf_take. */
  uint64_t reused_count; /* Of these, served from `idle`. */
  uint64_t in_use_count; /* Out now. */
  uint64_t idle_bytes;   /* Capacity of the idle ones. */
  uint32_t idle_count;   /* Length of `idle`. */
  uint32_t idle_max;     /* Bound of idle_count; constant. */
  size_t idle_bytes_max; /* Bound of one idle buffer's capacity; constant. */
};

static struct cg_buf *pool_pop(struct cg_buf_pool *pool);
static bool pool_push(struct cg_buf_pool *pool, struct cg_buf *buf);
static void buf_free(struct cg_buf *buf);

struct cg_buf_pool *cg_buf_pool_new(uint32_t idle_max, size_t idle_bytes_max) {
  struct cg_buf_pool *pool = cg_alloc(sizeof(*pool));
  pthread_mutex_init(&pool->mutex, NULL);
  pool->idle_max = idle_max;
  pool->idle_bytes_max = idle_bytes_max;
  return pool;
}

void cg_buf_pool_free(struct cg_buf_pool *pool) {
  if (!pool)
    return;
  assert(pool->in_use_count == 0);
  for (struct cg_buf *buf = pool->idle, *next; buf; buf = next) {
    next = buf->next_idle;
    buf_free(buf);
  }
  pthread_mutex_destroy(&pool->mutex);
  cg_free(pool);
}

void cg_buf_pool_stats(struct cg_buf_pool *pool, struct cg_buf_stats *stats) {
  pthread_mutex_lock(&pool->mutex);
  *stats = (struct cg_buf_stats){
      .taken_count = pool->taken_count,
      .reused_count = pool->reused_count,
      .in_use_count = pool->in_use_count,
      .idle_count = pool->idle_count,
      .idle_bytes = pool->idle_bytes,
  };
  pthread_mutex_unlock(&pool->mutex);
}

struct cg_buf *cg_buf_take(struct cg_buf_pool *pool, size_t capacity) {
  struct cg_buf *buf = pool ? pool_pop(pool) : NULL;
  if (!buf) {
    buf = cg_alloc(sizeof(*buf));
    buf->pool = pool;
  }
  __atomic_store_n(&buf->refs, 1, __ATOMIC_RELAXED);
  if (buf->capacity < capacity)
    cg_buf_grow(buf, capacity);
  return buf;
}

struct cg_buf *cg_buf_ref(struct cg_buf *buf) {
  uint32_t before = __atomic_fetch_add(&buf->refs, 1, __ATOMIC_RELAXED);
  assert(before > 0 && before < UINT32_MAX);
  return buf;
}

void cg_buf_unref(struct cg_buf *buf) {
  if (!buf)
    return;
  uint32_t before = __atomic_fetch_sub(&buf->refs, 1, __ATOMIC_ACQ_REL);
  assert(before > 0);
  if (before > 1)
    return;
  buf->size = 0;
  if (!buf->pool || !pool_push(buf->pool, buf))
    buf_free(buf);
}

void cg_buf_grow(struct cg_buf *buf, size_t capacity) {
  assert(capacity > buf->capacity); /* Also fails when the caller's sum wrapped around. */
  size_t target = buf->capacity > SIZE_MAX / 2 ? capacity : buf->capacity * 2;
  if (target < capacity)
    target = capacity;
  if (target < BUF_BYTES_MIN)
    target = BUF_BYTES_MIN;

  if (buf->size == 0) { /* Nothing to carry over: spare realloc the copy. */
    cg_free(buf->data);
    buf->data = NULL;
  }
  buf->data = cg_realloc(buf->data, target);
  buf->capacity = target;
}

void cg_buf_append(struct cg_buf *buf, const void *bytes, size_t size) {
  if (size == 0)
    return;
  memcpy(cg_buf_room(buf, size), bytes, size);
  buf->size += size;
}

/* The newest idle buffer, or NULL; counts it as taken either way. */
static struct cg_buf *pool_pop(struct cg_buf_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  pool->taken_count++;
  pool->in_use_count++;
  struct cg_buf *buf = pool->idle;
  if (buf) {
    pool->idle = buf->next_idle;
    pool->idle_count--;
    pool->idle_bytes -= buf->capacity;
    pool->reused_count++;
  }
  pthread_mutex_unlock(&pool->mutex);
  return buf;
}

/* Counts the buffer as returned and keeps it; false when the bounds tell to free it instead. */
static bool pool_push(struct cg_buf_pool *pool, struct cg_buf *buf) {
  pthread_mutex_lock(&pool->mutex);
  pool->in_use_count--;
  bool kept = pool->idle_count < pool->idle_max && buf->capacity <= pool->idle_bytes_max;
  if (kept) {
    buf->next_idle = pool->idle;
    pool->idle = buf;
    pool->idle_count++;
    pool->idle_bytes += buf->capacity;
  }
  pthread_mutex_unlock(&pool->mutex);
  return kept;
}

static void buf_free(struct cg_buf *buf) {
  cg_free(buf->data);
  cg_free(buf);
}
