/* sink.c - the outside world of the crash spec: takes note of every call that a step makes.
 *
 * Usage: sink FIFO FILE. Each line that comes through the FIFO is appended to FILE and synced, and
 * only then looked at: a key that was called before is counted as a repeat. The line "quit" ends
 * it, with a last line on stdout: "calls N keys N repeats N".
 * The program under test is killed, the sink never is; a line that stands in the FIFO is not lost.
 * Owns: the FIFO's reading end, FILE, the table of keys. Thread: one. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)256 << 10)
#define TABLE_BEGIN 1024 /* Places at first; a power of two. */

/* The keys seen: open addressing, at most half full. */
struct keys {
  char **places;      /* NULL: free. Each a string of its own, for ever. */
  size_t place_count; /* A power of two. */
  size_t key_count;   /* Places taken. */
};

/* The sink. */
struct sink {
  int file;         /* Where the lines go. */
  struct keys keys; /* Of the calls. */
  uint64_t calls;   /* Lines "call KEY ...". */
  uint64_t repeats; /* Of them, those whose key was there already. */
  bool is_quitting; /* "quit" has come. */
};

static void die(const char *what) {
  fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (!memory)
    die("memory");
  return memory;
}

/* FNV-1a. */
static size_t hash_of(const char *key, size_t size) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (size_t index = 0; index < size; index++)
    hash = (hash ^ (uint8_t)key[index]) * UINT64_C(1099511628211);
  return (size_t)(hash ^ hash >> 32);
}

/* The place of a key, or the free one where it belongs. */
static size_t find_place(const struct keys *keys, const char *key, size_t size) {
  size_t place = hash_of(key, size) & (keys->place_count - 1);
  while (keys->places[place] != NULL &&
         (strncmp(keys->places[place], key, size) != 0 || keys->places[place][size] != 0))
    place = (place + 1) & (keys->place_count - 1);
  return place;
}

static void grow(struct keys *keys) {
  struct keys wider = {.place_count = keys->place_count == 0 ? TABLE_BEGIN : keys->place_count * 2,
                       .key_count = keys->key_count};
  wider.places = allocate(wider.place_count, sizeof(wider.places[0]));
  for (size_t place = 0; place < keys->place_count; place++) {
    char *key = keys->places[place];
    if (key != NULL)
      wider.places[find_place(&wider, key, strlen(key))] = key;
  }
  free(keys->places);
  *keys = wider;
}

/* Adds a key; false when it was there. */
static bool add_key(struct keys *keys, const char *key, size_t size) {
  if (keys->key_count * 2 >= keys->place_count)
    grow(keys);
  size_t place = find_place(keys, key, size);
  if (keys->places[place] != NULL)
    return false;
  keys->places[place] = memcpy(allocate(size + 1, 1), key, size);
  keys->key_count++;
  return true;
}

static void take_line(struct sink *sink, const char *line, size_t size) {
  if (size == 4 && memcmp(line, "quit", 4) == 0)
    sink->is_quitting = true;
  if (size < 6 || memcmp(line, "call ", 5) != 0)
    return;
  const char *key = line + 5;
  const char *end = memchr(key, ' ', size - 5);
  sink->calls++;
  if (!add_key(&sink->keys, key, end ? (size_t)(end - key) : size - 5))
    sink->repeats++;
}

static void write_durably(const struct sink *sink, const char *bytes, size_t size) {
  while (size > 0) {
    ssize_t written = write(sink->file, bytes, size);
    if (written < 0 && errno != EINTR)
      die("write");
    if (written > 0) {
      bytes += written;
      size -= (size_t)written;
    }
  }
  if (fdatasync(sink->file) != 0)
    die("fdatasync");
}

/* Notes the whole lines of the buffer; returns how many bytes they are. */
static size_t take_lines(struct sink *sink, const char *bytes, size_t size) {
  const char *last = memrchr(bytes, '\n', size);
  if (last == NULL)
    return 0;
  size_t whole = (size_t)(last - bytes) + 1;
  write_durably(sink, bytes, whole);
  for (size_t from = 0; from < whole;) {
    const char *end = memchr(bytes + from, '\n', whole - from);
    size_t line_size = (size_t)(end - (bytes + from));
    take_line(sink, bytes + from, line_size);
    from += line_size + 1;
  }
  return whole;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: sink FIFO FILE\n");
    return 2;
  }
  /* Open for writing too, so that reading does not end when the program under test is killed. */
  int fifo = open(argv[1], O_RDWR | O_CLOEXEC);
  if (fifo < 0)
    die(argv[1]);
  struct sink sink = {.file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
  if (sink.file < 0)
    die(argv[2]);
  char *buffer = allocate(BUFFER_BYTES, 1);
  size_t filled = 0;
  while (!sink.is_quitting) {
    ssize_t count = read(fifo, buffer + filled, BUFFER_BYTES - filled);
    if (count < 0 && errno != EINTR)
      die("read");
    if (count <= 0)
      continue;
    filled += (size_t)count;
    size_t taken = take_lines(&sink, buffer, filled);
    memmove(buffer, buffer + taken, filled - taken);
    filled -= taken;
  }
  printf("calls %llu keys %zu repeats %llu\n", (unsigned long long)sink.calls, sink.keys.key_count,
         (unsigned long long)sink.repeats);
  return 0;
}
