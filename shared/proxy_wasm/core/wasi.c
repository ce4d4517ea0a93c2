/* WASI preview 1 as far as it means anything to a plugin: standard output is the log, the environment is what the plugin's
 * configuration gives, and there are no files. Constant answers stand in abi.py. */
#include "core.h"

enum { SUCCESS = 0, BADF = 8, FAULT = 21, INVAL = 28, NOTSUP = 58 };
enum { STDOUT = 1, STDERR = 2 };
enum { RANDOM_LIMIT = 65536 };

EXPORT("args_sizes_get") i32 args_sizes_get(gptr count_out, gptr size_out) {
  return guest_store32(count_out, 0) && guest_store32(size_out, 0) ? SUCCESS : FAULT;
}

EXPORT("environ_sizes_get") i32 environ_sizes_get(gptr count_out, gptr size_out) {
  return guest_store32(count_out, environment_count) && guest_store32(size_out, environment.size) ? SUCCESS : FAULT;
}

/* Python stored `K=V` NUL for each variable. */
EXPORT("environ_get") i32 environ_get(gptr pointers, gptr text) {
  u32 at = 0;
  for (u32 i = 0; i < environment_count; i++) {
    if (!guest_store32(pointers + i * 4, text + at)) return FAULT;
    while (at < environment.size && environment.data[at]) at++;
    at++;
  }
  return guest_write(text, environment.data, environment.size) ? SUCCESS : FAULT;
}

EXPORT("clock_res_get") i32 clock_res_get(u32 id, gptr out_) {
  if (id > 1) return NOTSUP;
  return guest_store64(out_, 1) ? SUCCESS : FAULT;
}

EXPORT("clock_time_get") i32 clock_time_get(u32 id, u64 precision, gptr out_) {
  (void)precision;
  if (id > 1) return NOTSUP;
  return guest_store64(out_, host_clock(id)) ? SUCCESS : FAULT;
}

EXPORT("random_get") i32 random_get(gptr to, u32 n) {
  if (n > RANDOM_LIMIT) return INVAL;
  if (!guest_range(to, n)) return FAULT;
  if (!n) return SUCCESS;
  if (!buffer_reserve(&scratch, n)) return INVAL;
  host_random(scratch.data, n);
  return guest_write(to, scratch.data, n) ? SUCCESS : FAULT;
}

static i32 is_output(u32 fd) { return fd == STDOUT || fd == STDERR; }

EXPORT("fd_fdstat_get") i32 fd_fdstat_get(u32 fd, gptr out_) {
  if (!is_output(fd)) return BADF;
  u64 stat[3] = {0, 64 /* the right to write */, 0};
  return guest_write(out_, stat, sizeof stat) ? SUCCESS : FAULT;
}

/* One call is one message: all pieces joined, one newline at the end cut off. */
EXPORT("fd_write") i32 fd_write(u32 fd, gptr vectors, u32 count, gptr written_out) {
  if (!is_output(fd)) return BADF;
  u32 total = 0, kept = 0;
  if (!buffer_reserve(&scratch, LOG_RING)) return FAULT;
  for (u32 i = 0; i < count; i++) {
    u32 vector[2];
    if (!guest_read(vector, vectors + i * 8, 8) || !guest_range(vector[0], vector[1])) return FAULT;
    u32 n = vector[1] < LOG_RING - kept ? vector[1] : LOG_RING - kept;
    if (!guest_read(scratch.data + kept, vector[0], n)) return FAULT;
    kept += n;
    total += vector[1];
  }
  if (!guest_store32(written_out, total)) return FAULT;
  if (kept && scratch.data[kept - 1] == '\n') kept--;
  if (total) log_write(fd == STDOUT ? LEVEL_INFO : LEVEL_ERROR, scratch.data, kept);
  return SUCCESS;
}

EXPORT("fd_pwrite") i32 fd_pwrite(u32 fd, gptr vectors, u32 count, u64 offset, gptr written_out) {
  (void)offset;
  return fd_write(fd, vectors, count, written_out);
}

/* What a log line has no use for succeeds; nothing else is open. */
EXPORT("fd_allocate") i32 fd_allocate(u32 fd, u64 offset, u64 size) {
  (void)offset; (void)size;
  return is_output(fd) ? SUCCESS : BADF;
}
EXPORT("fd_datasync") i32 fd_datasync(u32 fd) { return is_output(fd) ? SUCCESS : BADF; }
EXPORT("fd_sync") i32 fd_sync(u32 fd) { return is_output(fd) ? SUCCESS : BADF; }
EXPORT("fd_fdstat_set_rights") i32 fd_fdstat_set_rights(u32 fd, u64 base, u64 inheriting) {
  (void)base; (void)inheriting;
  return is_output(fd) ? SUCCESS : BADF;
}
EXPORT("fd_filestat_set_size") i32 fd_filestat_set_size(u32 fd, u64 size) {
  (void)size;
  return is_output(fd) ? SUCCESS : BADF;
}
EXPORT("fd_filestat_set_times") i32 fd_filestat_set_times(u32 fd, u64 accessed, u64 modified, u32 flags) {
  (void)accessed; (void)modified; (void)flags;
  return is_output(fd) ? SUCCESS : BADF;
}
EXPORT("fd_tell") i32 fd_tell(u32 fd, gptr offset_out) {
  if (!is_output(fd)) return BADF;
  return guest_store64(offset_out, 0) ? SUCCESS : FAULT;
}

/* Go's scheduler sleeps through it and stops when it fails. */
EXPORT("poll_oneoff") i32 poll_oneoff(gptr in, gptr out_, u32 count, gptr events_out) {
  (void)in; (void)out_; (void)count;
  return guest_store32(events_out, 0) ? SUCCESS : FAULT;
}

typedef struct { u8 bytes[600]; u32 n; } Line;

static void line_text(Line *l, const char *s) { while (*s && l->n < sizeof l->bytes) l->bytes[l->n++] = (u8)*s++; }

static void line_number(Line *l, u32 value) {
  char digits[11];
  u32 k = sizeof digits - 1;
  digits[k] = 0;
  do digits[--k] = (char)('0' + value % 10); while (value /= 10);
  line_text(l, digits + k);
}

/* A plugin has no process to end: Envoy's host lets it go on to its `unreachable`, here that is the trap already. */
EXPORT("proc_exit") void proc_exit(u32 code) {
  Line l = {.n = 0};
  line_text(&l, "the plugin called proc_exit with code ");
  line_number(&l, code);
  log_write(LEVEL_ERROR, l.bytes, l.n);
  TRAP();
}

/* --- imports from `env` that toolchains declare */

EXPORT("emscripten_notify_memory_growth") void emscripten_notify_memory_growth(u32 memory) { (void)memory; }
EXPORT("pthread_equal") i32 pthread_equal(u32 a, u32 b) { return a == b; }

EXPORT("seed") double seed(void) {
  u32 r = 0;
  host_random(&r, sizeof r);
  return (double)r;
}

/* As a whole number, or with three decimals; what does not fit 32 bits is only said to be large. */
static void line_double(Line *l, double value) {
  if (value != value) { line_text(l, "NaN"); return; }
  if (value < 0) { line_text(l, "-"); value = -value; }
  if (value >= 4294967295.0) { line_text(l, "over 4294967294"); return; }
  u32 whole = (u32)value, thousandths = (u32)((value - whole) * 1000);
  line_number(l, whole);
  if (!thousandths) return;
  line_text(l, thousandths < 10 ? ".00" : thousandths < 100 ? ".0" : ".");
  line_number(l, thousandths);
}

/* AssemblyScript: strings are UTF-16 with their size in bytes before them. */
static void line_utf16(Line *l, gptr text) {
  u8 wide[400];
  u32 n = 0;
  if (!text || !guest_read(&n, text - 4, 4)) return;
  if (n > sizeof wide) n = sizeof wide;
  if (!guest_read(wide, text, n)) return;
  for (u32 i = 0; i + 1 < n && l->n < sizeof l->bytes; i += 2) l->bytes[l->n++] = wide[i + 1] || wide[i] < ' ' || wide[i] > '~' ? '?' : wide[i];
}

/* AssemblyScript's trace(): the text; its numbers are the second parameter's first few of the five. */
EXPORT("trace") void guest_trace(gptr message, u32 count, double a, double b, double c, double d, double e) {
  Line l = {.n = 0};
  double numbers[] = {a, b, c, d, e};
  line_text(&l, "trace: ");
  line_utf16(&l, message);
  for (u32 i = 0; i < count && i < 5; i++) {
    line_text(&l, " ");
    line_double(&l, numbers[i]);
  }
  log_write(LEVEL_INFO, l.bytes, l.n);
}

EXPORT("abort") void guest_abort(gptr message, gptr file, u32 line, u32 column) {
  Line l = {.n = 0};
  line_text(&l, "abort: ");
  line_utf16(&l, message);
  line_text(&l, " at ");
  line_utf16(&l, file);
  line_text(&l, ":"); line_number(&l, line);
  line_text(&l, ":"); line_number(&l, column);
  log_write(LEVEL_ERROR, l.bytes, l.n);
  TRAP();
}
