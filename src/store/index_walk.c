/* index_walk.c - walks over all tables at once: in the order of names, or of what opened and closed
 * streams.
 *
 * Owns: see index.h. Thread: the loop thread. */
#include <string.h>

#include "base/mem.h"
#include "store/index_set.h"

/* Tells the streams of one list of a table. */
static enum cg_code tell(struct cg_table *table, const uint32_t *places, uint32_t count,
                         bool is_opened, cg_index_state_fn each, void *arg, struct cg_err *err) {
  for (uint32_t i = 0; i < count; i++) {
    struct cg_table_stream stream;
    const char *name;
    enum cg_code code = cg_table_stream(table, places[i], &stream, &name, err);
    if (code != CG_OK)
      return code;
    each(arg, name, stream.name_size, is_opened);
  }
  return CG_OK;
}

enum cg_code cg_index_states(struct cg_index *index, cg_index_state_fn each, void *arg,
                             struct cg_err *err) {
  for (uint32_t at = 0; at < index->table_count;) {
    struct cg_table *table = index->tables[at];
    const uint32_t *places;
    enum cg_code code = cg_table_opened(table, &places, err);
    if (code == CG_OK)
      code = tell(table, places, table->header.opened_count, true, each, arg, err);
    if (code == CG_OK)
      code = cg_table_closed(table, &places, err);
    if (code == CG_OK)
      code = tell(table, places, table->header.closed_count, false, each, arg, err);
    if (code == CG_OK) {
      at++;
      continue;
    }
    code = cg_index_set_mend(index, at, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* --- names --- */

/* Where a walk stands in one table. */
struct place {
  struct cg_table *table; /* The table. */
  uint32_t next;          /* Place of the stream under it. */
  const char *name;       /* Its name; NULL: behind the last that is wanted. */
  size_t size;            /* Bytes of it. */
};

/* A walk over names. */
struct walk {
  const char *prefix;                     /* What they begin with. */
  size_t prefix_size;                     /* Bytes of it. */
  char after[CG_RECORD_STREAM_BYTES_MAX]; /* The last one given. */
  size_t after_size;                      /* Bytes of it. */
  struct place *places;                   /* One a table. */
  uint32_t count;                         /* How many. */
};

/* Reads the name of the stream under a place. */
static enum cg_code load(const struct walk *walk, struct place *place, struct cg_err *err) {
  place->name = NULL;
  if (place->next == place->table->header.stream_count)
    return CG_OK;
  struct cg_table_stream stream;
  const char *name;
  enum cg_code code = cg_table_stream(place->table, place->next, &stream, &name, err);
  if (code != CG_OK || stream.name_size < walk->prefix_size ||
      memcmp(name, walk->prefix, walk->prefix_size) != 0)
    return code;
  place->name = name;
  place->size = stream.name_size;
  return CG_OK;
}

/* Puts a place on the first name that is wanted. */
static enum cg_code start(const struct walk *walk, struct place *place, struct cg_err *err) {
  bool from_prefix =
      cg_table_compare(walk->after, walk->after_size, walk->prefix, walk->prefix_size) < 0;
  enum cg_code code =
      from_prefix ? cg_table_seek(place->table, walk->prefix, walk->prefix_size, &place->next, err)
                  : cg_table_seek(place->table, walk->after, walk->after_size, &place->next, err);
  if (code == CG_OK)
    code = load(walk, place, err);
  if (code != CG_OK || place->name == NULL || from_prefix ||
      cg_table_compare(place->name, place->size, walk->after, walk->after_size) > 0)
    return code;
  place->next++;
  return load(walk, place, err);
}

/* Goes on with all places behind the name given last. */
static enum cg_code pass(const struct walk *walk, uint32_t *at, struct cg_err *err) {
  for (*at = 0; *at < walk->count; (*at)++) {
    struct place *place = &walk->places[*at];
    if (place->name == NULL ||
        cg_table_compare(place->name, place->size, walk->after, walk->after_size) > 0)
      continue;
    place->next++;
    enum cg_code code = load(walk, place, err);
    if (code != CG_OK)
      return code;
  }
  return CG_OK;
}

/* Gives names until there are no more (CG_OK), `each` says no (CG_END), or the table *at is
 * damaged. */
static enum cg_code give(struct walk *walk, cg_index_name_fn each, void *arg, uint32_t *at,
                         struct cg_err *err) {
  for (*at = 0; *at < walk->count; (*at)++) {
    enum cg_code code = start(walk, &walk->places[*at], err);
    if (code != CG_OK)
      return code;
  }
  for (;;) {
    const struct place *lowest = NULL;
    for (uint32_t i = 0; i < walk->count; i++) {
      const struct place *place = &walk->places[i];
      if (place->name != NULL &&
          (lowest == NULL ||
           cg_table_compare(place->name, place->size, lowest->name, lowest->size) < 0))
        lowest = place;
    }
    if (lowest == NULL)
      return CG_OK;
    memcpy(walk->after, lowest->name, lowest->size);
    walk->after_size = lowest->size;
    if (!each(arg, walk->after, walk->after_size))
      return CG_END;
    enum cg_code code = pass(walk, at, err);
    if (code != CG_OK)
      return code;
  }
}

enum cg_code cg_index_names(struct cg_index *index, const char *prefix, size_t prefix_size,
                            const char *after, size_t after_size, cg_index_name_fn each, void *arg,
                            struct cg_err *err) {
  struct walk walk = {.prefix = prefix_size > 0 ? prefix : "", /* It may be NULL. */
                      .prefix_size = prefix_size,
                      .after_size = after_size};
  if (after_size > sizeof(walk.after))
    return cg_err_set(err, CG_EINVAL, "a stream name has at most %d bytes",
                      CG_RECORD_STREAM_BYTES_MAX);
  if (after_size > 0)
    memcpy(walk.after, after, after_size);
  for (;;) {
    walk.count = index->table_count;
    walk.places = cg_alloc(((size_t)walk.count + 1) * sizeof(walk.places[0]));
    for (uint32_t i = 0; i < walk.count; i++)
      walk.places[i].table = index->tables[i];
    uint32_t at;
    enum cg_code code = give(&walk, each, arg, &at, err);
    cg_free(walk.places);
    if (code == CG_OK || code == CG_END)
      return CG_OK;
    code = cg_index_set_mend(index, at, err);
    if (code != CG_OK)
      return code;
  }
}
