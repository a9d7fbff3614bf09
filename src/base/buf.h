/* buf.h - counted byte buffers and the pool they come from.
 *
 * How to use: `cg_buf_take` a buffer with one reference, append to it, hand it to another thread
 * with cg_buf_ref, and let everybody cg_buf_unref it; the last one returns it to the pool.
 * Owns: a buffer owns its bytes; a pool owns the idle buffers. Thread: the counts and the pool are
 * safe from any thread; the bytes belong to whoever writes them until they are shared, and are
 * read-only from then on. Growing aborts the program when the system has no memory (see mem.h):
 * sizes that input decides are checked against their bound by the caller first. */
#ifndef CG_BASE_BUF_H
#define CG_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct cg_buf_pool;

/* A growable run of bytes with a reference count. */
struct cg_buf {
  uint8_t *data;            /* The bytes; NULL only while capacity is 0. */
  size_t size;              /* Bytes in use. */
  size_t capacity;          /* Bytes allocated. */
  uint32_t refs;            /* Changed atomically; 0 while idle in the pool. */
  struct cg_buf_pool *pool; /* Where it returns to; NULL: freed at the last unref. */
  struct cg_buf *next_idle; /* Next idle buffer of the pool; meaningless while in use. */
};

/* What a pool has done so far. */
struct cg_buf_stats {
  uint64_t taken_count;  /* Calls of cg_buf_take. */
  uint64_t reused_count; /* Of these, served from an idle buffer. */
  uint64_t in_use_count; /* Buffers out now. */
  uint64_t idle_count;   /* Buffers waiting in the pool now. */
  uint64_t idle_bytes;   /* Capacity of the idle ones. */
};

/* Makes a pool that keeps at most `idle_max` idle buffers, none larger than `idle_bytes_max` each
 * (larger ones are freed on return). Free it after its last buffer was returned. */
struct cg_buf_pool *cg_buf_pool_new(uint32_t idle_max, size_t idle_bytes_max);
/* Frees the pool and its idle buffers. Asserts that none is in use. NULL is fine. */
void cg_buf_pool_free(struct cg_buf_pool *pool);
/* Reads the statistics. */
void cg_buf_pool_stats(struct cg_buf_pool *pool, struct cg_buf_stats *stats);

/* An empty buffer with one reference and room for at least `capacity` bytes. `pool` may be NULL. */
struct cg_buf *cg_buf_take(struct cg_buf_pool *pool, size_t capacity);
/* One more reference; returns `buf`. */
struct cg_buf *cg_buf_ref(struct cg_buf *buf);
/* One reference less; the last one returns the buffer to its pool, emptied. NULL is fine. */
void cg_buf_unref(struct cg_buf *buf);

/* Out-of-line growth: capacity becomes at least `capacity`, at least doubling. */
void cg_buf_grow(struct cg_buf *buf, size_t capacity);

/* Makes room for `extra` more bytes and returns where they go; size is unchanged. */
static inline uint8_t *cg_buf_room(struct cg_buf *buf, size_t extra) {
  if (buf->capacity - buf->size < extra)
    cg_buf_grow(buf, buf->size + extra);
  return buf->data + buf->size;
}

/* Appends `size` bytes (`bytes` may be NULL when size is 0). */
void cg_buf_append(struct cg_buf *buf, const void *bytes, size_t size);

#endif
