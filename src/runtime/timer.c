/* timer.c - a binary heap of slots; ids carry slot index and serial, so a stale id is harmless. */
#include "runtime/timer.h"

#include <assert.h>

#include "base/mem.h"
#include "runtime/runtime.h"

#define SLOT_BITS 24
#define SLOTS_MAX ((1u << SLOT_BITS) - 1)
#define NO_PLACE UINT32_MAX

/* One timer. */
struct slot {
  int64_t due_ms;       /* When it fires, monotonic ms. */
  uint64_t serial;      /* Order of starting; part of the id. */
  struct cg_task *task; /* To wake, or NULL. */
  cg_ref function;      /* To spawn, or CG_NO_REF. */
  uint32_t place;       /* Index in the heap; NO_PLACE while free. */
  uint32_t next_free;   /* Free list. */
};

/* A queue of timers. */
struct cg_timers {
  struct cg_runtime *runtime; /* Whose timers. */
  struct cg_clock clock;      /* What they go by. */
  struct slot *slots;         /* All slots, free ones too. */
  uint32_t *heap;             /* Slot indexes, the earliest first. */
  uint32_t slot_count;        /* Slots ever used. */
  uint32_t slot_capacity;     /* Room in slots and heap. */
  uint32_t heap_count;        /* Timers that are started. */
  uint32_t free_first;        /* Head of the free list, or NO_PLACE. */
  uint64_t serial;            /* Last serial given. */
  uv_timer_t handle;          /* Armed for the first due time; unused when virtual. */
  int64_t armed_ms;           /* What it is armed for; -1: not armed. */
  bool is_virtual;            /* Nothing fires by itself. */
};

static cg_timer_id add_slot(struct cg_timers *timers, int64_t due_ms, struct cg_task *task,
                            cg_ref function);
static void remove_at(struct cg_timers *timers, uint32_t place);
static void sift_up(struct cg_timers *timers, uint32_t place);
static void sift_down(struct cg_timers *timers, uint32_t place);
static void arm(struct cg_timers *timers);
static void on_timer(uv_timer_t *handle);
static void on_closed(uv_handle_t *handle);

struct cg_timers *cg_timers_new(struct cg_runtime *runtime, struct cg_clock clock,
                                bool is_virtual) {
  struct cg_timers *timers = cg_alloc(sizeof(*timers));
  timers->runtime = runtime;
  timers->clock = clock;
  timers->free_first = NO_PLACE;
  timers->armed_ms = -1;
  timers->is_virtual = is_virtual;
  uv_timer_init(runtime->loop, &timers->handle);
  timers->handle.data = timers;
  return timers;
}

void cg_timers_free(struct cg_timers *timers) {
  while (timers->heap_count > 0) {
    struct slot slot = timers->slots[timers->heap[0]];
    remove_at(timers, 0);
    cg_ref_drop(timers->runtime, slot.function);
    /* Nothing would wake it. A runtime that stops frees its tasks itself, and may have done so. */
    if (slot.task != NULL && !timers->runtime->is_stopping)
      cg_task_drop(slot.task);
  }
  uv_close((uv_handle_t *)&timers->handle, on_closed);
}

int64_t cg_timers_now_ms(const struct cg_timers *timers) {
  return (int64_t)(cg_clock_mono_ns(&timers->clock) / 1000000u);
}

cg_timer_id cg_timers_wake_at(struct cg_timers *timers, int64_t due_ms, struct cg_task *task) {
  return add_slot(timers, due_ms, task, CG_NO_REF);
}

cg_timer_id cg_timers_call_at(struct cg_timers *timers, int64_t due_ms, lua_State *L) {
  return add_slot(timers, due_ms, NULL, cg_ref_take(timers->runtime, L));
}

bool cg_timers_cancel(struct cg_timers *timers, cg_timer_id id) {
  uint32_t index = (uint32_t)(id & SLOTS_MAX);
  if (id == 0 || index >= timers->slot_count)
    return false;
  struct slot *slot = &timers->slots[index];
  if (slot->place == NO_PLACE || slot->serial != id >> SLOT_BITS)
    return false;
  cg_ref_drop(timers->runtime, slot->function);
  remove_at(timers, slot->place);
  arm(timers);
  return true;
}

uint32_t cg_timers_fire(struct cg_timers *timers) {
  int64_t now_ms = cg_timers_now_ms(timers);
  lua_State *L = timers->runtime->L;
  uint32_t fired = 0;
  while (timers->heap_count > 0) {
    struct slot *slot = &timers->slots[timers->heap[0]];
    if (slot->due_ms > now_ms)
      break;
    struct cg_task *task = slot->task;
    cg_ref function = slot->function;
    remove_at(timers, 0);
    if (task != NULL) {
      cg_task_wake(task, 0);
    } else {
      cg_ref_push(L, function);
      cg_ref_drop(timers->runtime, function);
      cg_task_spawn(timers->runtime, L, 0);
    }
    fired++;
  }
  arm(timers);
  return fired;
}

int64_t cg_timers_next_ms(const struct cg_timers *timers) {
  return timers->heap_count == 0 ? -1 : timers->slots[timers->heap[0]].due_ms;
}

static cg_timer_id add_slot(struct cg_timers *timers, int64_t due_ms, struct cg_task *task,
                            cg_ref function) {
  uint32_t index = timers->free_first;
  if (index != NO_PLACE) {
    timers->free_first = timers->slots[index].next_free;
  } else {
    if (timers->slot_count == timers->slot_capacity) {
      timers->slot_capacity = timers->slot_capacity == 0 ? 64 : timers->slot_capacity * 2;
      timers->slots = cg_realloc(timers->slots, timers->slot_capacity * sizeof(struct slot));
      timers->heap = cg_realloc(timers->heap, timers->slot_capacity * sizeof(uint32_t));
    }
    index = timers->slot_count++;
    assert(index < SLOTS_MAX);
  }
  uint32_t place = timers->heap_count++;
  timers->slots[index] = (struct slot){.due_ms = due_ms,
                                       .serial = ++timers->serial,
                                       .task = task,
                                       .function = function,
                                       .place = place};
  timers->heap[place] = index;
  cg_timer_id id = timers->serial << SLOT_BITS | index;
  sift_up(timers, place);
  arm(timers);
  return id;
}

/* Takes the slot at `place` out of the heap and frees it. */
static void remove_at(struct cg_timers *timers, uint32_t place) {
  uint32_t index = timers->heap[place];
  uint32_t last = timers->heap[--timers->heap_count];
  timers->slots[index].place = NO_PLACE;
  timers->slots[index].next_free = timers->free_first;
  timers->free_first = index;
  if (last == index)
    return;
  timers->heap[place] = last;
  timers->slots[last].place = place;
  sift_up(timers, place);
  sift_down(timers, timers->slots[last].place);
}

static bool is_before(const struct cg_timers *timers, uint32_t left, uint32_t right) {
  const struct slot *a = &timers->slots[timers->heap[left]];
  const struct slot *b = &timers->slots[timers->heap[right]];
  return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->serial < b->serial);
}

static void swap_places(struct cg_timers *timers, uint32_t left, uint32_t right) {
  uint32_t index = timers->heap[left];
  timers->heap[left] = timers->heap[right];
  timers->heap[right] = index;
  timers->slots[timers->heap[left]].place = left;
  timers->slots[timers->heap[right]].place = right;
}

static void sift_up(struct cg_timers *timers, uint32_t place) {
  while (place > 0 && is_before(timers, place, (place - 1) / 2)) {
    swap_places(timers, place, (place - 1) / 2);
    place = (place - 1) / 2;
  }
}

static void sift_down(struct cg_timers *timers, uint32_t place) {
  for (;;) {
    uint32_t least = place;
    for (uint32_t child = place * 2 + 1; child <= place * 2 + 2; child++)
      if (child < timers->heap_count && is_before(timers, child, least))
        least = child;
    if (least == place)
      return;
    swap_places(timers, place, least);
    place = least;
  }
}

/* Sets the uv timer to the first due time. */
static void arm(struct cg_timers *timers) {
  if (timers->is_virtual)
    return;
  int64_t next_ms = cg_timers_next_ms(timers);
  if (next_ms == timers->armed_ms)
    return;
  timers->armed_ms = next_ms;
  if (next_ms < 0) {
    uv_timer_stop(&timers->handle);
    return;
  }
  int64_t delay_ms = next_ms - cg_timers_now_ms(timers);
  uv_update_time(timers->runtime->loop);
  uv_timer_start(&timers->handle, on_timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0);
}

static void on_timer(uv_timer_t *handle) {
  struct cg_timers *timers = handle->data;
  timers->armed_ms = -1;
  cg_timers_fire(timers);
}

static void on_closed(uv_handle_t *handle) {
  struct cg_timers *timers = handle->data;
  cg_free(timers->slots);
  cg_free(timers->heap);
  cg_free(timers);
}
