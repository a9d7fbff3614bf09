/* spawn.c - one uv_process, three pipes and a timer. */
#include "runtime/spawn.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "runtime/runtime.h"

#define PENDING_BYTES_MAX ((size_t)256 << 10) /* Of an output that nobody takes, and of input. */
#define READ_BYTES ((size_t)16 << 10)         /* Room for one read. */
#define KILL_DELAY_MS 1000                    /* Between SIGTERM and SIGKILL. */
#define REAP_TRIES 200                        /* Milliseconds to wait for one at the end. */

static void on_exit(uv_process_t *process, int64_t exit_code, int signal);
static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *room);
static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *room);
static void on_timer(uv_timer_t *timer);
static void end(struct cg_spawn *spawn, enum cg_spawn_outcome outcome);
static void close_output(struct cg_spawn *spawn, int output);
static void check_over(struct cg_spawn *spawn);
static void close_handle(struct cg_spawn *spawn, uv_handle_t *handle);
static void reap_now(struct cg_spawn *spawn);

static struct cg_spawn *new_spawn(struct cg_runtime *runtime,
                                  const struct cg_spawn_request *request) {
  struct cg_spawn *spawn = cg_alloc(sizeof(*spawn));
  spawn->runtime = runtime;
  spawn->output_max = request->output_max;
  uv_pipe_init(runtime->loop, &spawn->input, 0);
  spawn->input.data = spawn;
  uv_timer_init(runtime->loop, &spawn->timer);
  spawn->timer.data = spawn;
  spawn->process.data = spawn;
  for (int i = 0; i < CG_SPAWN_OUTPUTS; i++) {
    uv_pipe_init(runtime->loop, &spawn->output[i], 0);
    spawn->output[i].data = spawn;
    spawn->bytes[i] = cg_buf_take(NULL, 0); /* They may outlive the runtime's pool. */
    spawn->is_open[i] = true;
  }
  spawn->open_handles = 3 + CG_SPAWN_OUTPUTS; /* With the process. */
  return spawn;
}

static int start_process(struct cg_spawn *spawn, const struct cg_spawn_request *request) {
  uv_stdio_container_t stdio[1 + CG_SPAWN_OUTPUTS];
  stdio[0].flags = UV_CREATE_PIPE | UV_READABLE_PIPE;
  stdio[0].data.stream = (uv_stream_t *)&spawn->input;
  for (int i = 0; i < CG_SPAWN_OUTPUTS; i++) {
    stdio[1 + i].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
    stdio[1 + i].data.stream = (uv_stream_t *)&spawn->output[i];
  }
  uv_process_options_t options = {.exit_cb = on_exit,
                                  .file = request->args[0],
                                  .args = request->args,
                                  .env = request->env,
                                  .cwd = request->cwd,
                                  .flags = UV_PROCESS_DETACHED,
                                  .stdio_count = 1 + CG_SPAWN_OUTPUTS,
                                  .stdio = stdio};
  return uv_spawn(spawn->runtime->loop, &spawn->process, &options);
}

enum cg_code cg_spawn_start(struct cg_spawn **out, struct cg_runtime *runtime,
                            const struct cg_spawn_request *request, cg_spawn_fn on_change,
                            void *arg, struct cg_err *err) {
  struct cg_spawn *spawn = new_spawn(runtime, request);
  cg_task_busy(runtime, 1);
  int status = start_process(spawn, request);
  if (status != 0) {
    spawn->is_exited = true;
    for (int i = 0; i < CG_SPAWN_OUTPUTS; i++)
      close_output(spawn, i);
    check_over(spawn);
    cg_spawn_free(spawn);
    return cg_err_set(err, cg_err_from_errno(-status), "start %s%s%s: %s", request->args[0],
                      request->cwd != NULL ? " in " : "", request->cwd != NULL ? request->cwd : "",
                      uv_strerror(status));
  }
  spawn->on_change = on_change;
  spawn->arg = arg;
  for (int i = 0; i < CG_SPAWN_OUTPUTS; i++)
    uv_read_start((uv_stream_t *)&spawn->output[i], on_alloc, on_read);
  uv_update_time(runtime->loop); /* Starting has taken its time. */
  if (request->time_ms > 0)
    uv_timer_start(&spawn->timer, on_timer, (uint64_t)request->time_ms, 0);
  *out = spawn;
  return CG_OK;
}

static void changed(struct cg_spawn *spawn) {
  if (spawn->on_change != NULL)
    spawn->on_change(spawn->arg);
}

/* --- output --- */

static int output_of(const struct cg_spawn *spawn, const void *handle) {
  return handle == &spawn->output[CG_SPAWN_STDOUT] ? CG_SPAWN_STDOUT : CG_SPAWN_STDERR;
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *room) {
  (void)wanted;
  struct cg_spawn *spawn = handle->data;
  struct cg_buf *bytes = spawn->bytes[output_of(spawn, handle)];
  room->base = (char *)cg_buf_room(bytes, READ_BYTES);
  room->len = READ_BYTES;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *room) {
  (void)room;
  struct cg_spawn *spawn = stream->data;
  int output = output_of(spawn, stream);
  if (count < 0) {
    close_output(spawn, output);
    check_over(spawn);
    return;
  }
  if (spawn->is_ending) /* What comes now is of no use to anybody. */
    return;
  spawn->bytes[output]->size += (size_t)count;
  spawn->total += (size_t)count;
  if (spawn->output_max > 0 && spawn->total > spawn->output_max) {
    end(spawn, CG_SPAWN_TOO_LARGE);
    return;
  }
  if (spawn->output_max == 0 && spawn->bytes[output]->size >= PENDING_BYTES_MAX) {
    spawn->is_paused[output] = true;
    uv_read_stop(stream);
  }
  changed(spawn);
}

void cg_spawn_taken(struct cg_spawn *spawn, int output) {
  spawn->bytes[output]->size = 0;
  if (!spawn->is_paused[output] || !spawn->is_open[output])
    return;
  spawn->is_paused[output] = false;
  uv_read_start((uv_stream_t *)&spawn->output[output], on_alloc, on_read);
}

static void close_output(struct cg_spawn *spawn, int output) {
  if (!spawn->is_open[output])
    return;
  spawn->is_open[output] = false;
  close_handle(spawn, (uv_handle_t *)&spawn->output[output]);
}

/* --- input --- */

/* Bytes under way to the program. */
struct write {
  uv_write_t request;     /* libuv's. */
  struct cg_spawn *spawn; /* Whose. */
  struct cg_buf *bytes;   /* What. */
};

static void on_written(uv_write_t *request, int status) {
  struct write *write = request->data;
  struct cg_spawn *spawn = write->spawn;
  cg_buf_unref(write->bytes);
  cg_free(write);
  if (status != UV_ECANCELED)
    changed(spawn);
}

bool cg_spawn_has_room(const struct cg_spawn *spawn) {
  return uv_is_closing((const uv_handle_t *)&spawn->input) ||
         uv_stream_get_write_queue_size((const uv_stream_t *)&spawn->input) < PENDING_BYTES_MAX;
}

void cg_spawn_write(struct cg_spawn *spawn, const void *bytes, size_t size) {
  if (uv_is_closing((uv_handle_t *)&spawn->input) || size == 0)
    return;
  struct write *write = cg_alloc(sizeof(*write));
  write->spawn = spawn;
  write->bytes = cg_buf_take(NULL, size);
  write->request.data = write;
  cg_buf_append(write->bytes, bytes, size);
  uv_buf_t buf = uv_buf_init((char *)write->bytes->data, (unsigned)size);
  if (uv_write(&write->request, (uv_stream_t *)&spawn->input, &buf, 1, on_written) != 0) {
    cg_buf_unref(write->bytes); /* It has closed its input. */
    cg_free(write);
  }
}

static void on_shut(uv_shutdown_t *request, int status) {
  (void)status;
  struct cg_spawn *spawn = request->data;
  cg_free(request);
  close_handle(spawn, (uv_handle_t *)&spawn->input);
}

void cg_spawn_finish(struct cg_spawn *spawn) {
  if (uv_is_closing((uv_handle_t *)&spawn->input))
    return;
  uv_shutdown_t *request = cg_alloc(sizeof(*request));
  request->data = spawn;
  if (uv_shutdown(request, (uv_stream_t *)&spawn->input, on_shut) != 0) {
    cg_free(request);
    close_handle(spawn, (uv_handle_t *)&spawn->input);
  }
}

/* --- ends --- */

static void signal_group(const struct cg_spawn *spawn, int number) {
  if (spawn->process.pid > 0)
    kill(-spawn->process.pid, number);
}

static void on_exit(uv_process_t *process, int64_t exit_code, int signal) {
  struct cg_spawn *spawn = process->data;
  spawn->is_exited = true;
  spawn->exit_code = exit_code;
  spawn->signal = signal;
  if (spawn->is_ending) { /* Others of the group may have ignored SIGTERM. */
    signal_group(spawn, SIGKILL);
    for (int i = 0; i < CG_SPAWN_OUTPUTS; i++)
      close_output(spawn, i);
  }
  check_over(spawn);
}

static void end(struct cg_spawn *spawn, enum cg_spawn_outcome outcome) {
  if (spawn->is_over || spawn->is_ending)
    return;
  spawn->is_ending = true;
  spawn->outcome = outcome;
  signal_group(spawn, SIGTERM);
  uv_timer_start(&spawn->timer, on_timer, KILL_DELAY_MS, 0);
}

/* Its time is over; or it did not end when it was told to. */
static void on_timer(uv_timer_t *timer) {
  struct cg_spawn *spawn = timer->data;
  if (!spawn->is_ending) {
    end(spawn, CG_SPAWN_TIMEOUT);
    return;
  }
  signal_group(spawn, SIGKILL);
  for (int i = 0; i < CG_SPAWN_OUTPUTS; i++)
    close_output(spawn, i);
  check_over(spawn);
}

static void check_over(struct cg_spawn *spawn) {
  bool is_open = spawn->is_open[CG_SPAWN_STDOUT] || spawn->is_open[CG_SPAWN_STDERR];
  if (spawn->is_over || !spawn->is_exited || is_open)
    return;
  spawn->is_over = true;
  if (spawn->outcome == CG_SPAWN_RUNNING)
    spawn->outcome = CG_SPAWN_ENDED;
  if (!spawn->runtime->is_stopping)
    cg_task_busy(spawn->runtime, -1);
  changed(spawn);
  close_handle(spawn, (uv_handle_t *)&spawn->process);
  close_handle(spawn, (uv_handle_t *)&spawn->timer);
  close_handle(spawn, (uv_handle_t *)&spawn->input);
}

void cg_spawn_end(struct cg_spawn *spawn) {
  end(spawn, CG_SPAWN_CANCELLED);
}

static void free_when_closed(struct cg_spawn *spawn) {
  if (spawn->open_handles > 0 || spawn->on_change != NULL)
    return;
  for (int i = 0; i < CG_SPAWN_OUTPUTS; i++)
    cg_buf_unref(spawn->bytes[i]);
  cg_free(spawn);
}

static void on_closed(uv_handle_t *handle) {
  struct cg_spawn *spawn = handle->data;
  spawn->open_handles--;
  free_when_closed(spawn);
}

static void close_handle(struct cg_spawn *spawn, uv_handle_t *handle) {
  (void)spawn;
  if (!uv_is_closing(handle))
    uv_close(handle, on_closed);
}

void cg_spawn_free(struct cg_spawn *spawn) {
  if (spawn == NULL)
    return;
  spawn->on_change = NULL;
  if (spawn->is_over) {
    free_when_closed(spawn);
    return;
  }
  end(spawn, CG_SPAWN_CANCELLED);
  if (spawn->runtime->is_stopping)
    reap_now(spawn);
}

/* The loop will not turn for long: ends it here and now, and leaves no zombie. */
static void reap_now(struct cg_spawn *spawn) {
  signal_group(spawn, SIGKILL);
  int status;
  for (int i = 0; i < REAP_TRIES && !spawn->is_exited; i++) {
    if (waitpid(spawn->process.pid, &status, WNOHANG) != 0)
      break;
    struct timespec one_ms = {.tv_nsec = 1000000};
    nanosleep(&one_ms, NULL);
  }
  spawn->is_exited = true;
  for (int i = 0; i < CG_SPAWN_OUTPUTS; i++)
    close_output(spawn, i);
  check_over(spawn);
}
