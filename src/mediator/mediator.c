/* mediator.c - a hash map from names to handlers, which stay where they are once added. */
#include "mediator/mediator.h"

#include <string.h>

#include "base/map.h"
#include "base/mem.h"

/* The table of handlers. */
struct cg_mediator {
  struct cg_map *names;                  /* Name to index. */
  struct cg_mediator_handler **handlers; /* Each allocated by itself, so that pointers stay. */
  size_t count;                          /* Handlers. */
  size_t capacity;                       /* Pointers that fit. */
};

struct cg_mediator *cg_mediator_new(uint64_t seed) {
  struct cg_mediator *mediator = cg_alloc(sizeof(*mediator));
  mediator->names = cg_map_new(seed);
  return mediator;
}

void cg_mediator_free(struct cg_mediator *mediator) {
  if (mediator == NULL)
    return;
  for (size_t i = 0; i < mediator->count; i++) {
    cg_free((char *)mediator->handlers[i]->name);
    cg_free(mediator->handlers[i]);
  }
  cg_free(mediator->handlers);
  cg_map_free(mediator->names);
  cg_free(mediator);
}

enum cg_code cg_mediator_add(struct cg_mediator *mediator, enum cg_mediator_kind kind,
                             const char *name, cg_mediator_fn fn, void *arg, struct cg_err *err) {
  size_t size = strlen(name);
  if (size == 0 || size > CG_MEDIATOR_NAME_BYTES_MAX)
    return cg_err_set(err, CG_EINVAL, "the name of a handler has 1 to %d bytes, not %zu",
                      CG_MEDIATOR_NAME_BYTES_MAX, size);
  if (mediator->count == CG_MEDIATOR_HANDLERS_MAX)
    return cg_err_set(err, CG_ELIMIT, "handler %s is one more than %u", name,
                      CG_MEDIATOR_HANDLERS_MAX);
  bool added;
  uint64_t *index = cg_map_put(mediator->names, name, size, &added);
  if (!added)
    return cg_err_set(err, CG_EEXISTS,
                      "%s has a handler already; a command or query has exactly one", name);
  *index = mediator->count;

  if (mediator->count == mediator->capacity) {
    mediator->capacity = mediator->capacity == 0 ? 16 : mediator->capacity * 2;
    mediator->handlers =
        cg_realloc(mediator->handlers, mediator->capacity * sizeof(mediator->handlers[0]));
  }
  struct cg_mediator_handler *handler = cg_alloc(sizeof(*handler));
  *handler = (struct cg_mediator_handler){
      .name = cg_strndup(name, size), .kind = kind, .fn = fn, .arg = arg};
  mediator->handlers[mediator->count++] = handler;
  return CG_OK;
}

struct cg_mediator_handler *cg_mediator_find(struct cg_mediator *mediator,
                                             enum cg_mediator_kind kind, const char *name,
                                             size_t size) {
  uint64_t *index = cg_map_find(mediator->names, name, size);
  if (index == NULL)
    return NULL;
  struct cg_mediator_handler *handler = mediator->handlers[*index];
  return handler->kind == kind ? handler : NULL;
}

size_t cg_mediator_count(const struct cg_mediator *mediator) {
  return mediator->count;
}

struct cg_mediator_handler *cg_mediator_at(const struct cg_mediator *mediator, size_t index) {
  return mediator->handlers[index];
}
