/* The core as a native program under sanitizers: unit checks, then a deterministic fuzz of phases and host calls.
 *
 * The law: this file is glue, guest and Python at once. The guest's memory is a block of its own, so that the address
 * sanitizer sees any step beyond it; every allocation of the core is one too. `core_driver SEED ROUNDS` prints what it did and
 * answers 0; a failed check or a sanitizer ends it with a message. */
#include "core.c"

#undef NULL
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)

static void fail(const char *what, int line) {
  fprintf(stderr, "core_driver.c:%d: %s does not hold\n", line, what);
  exit(1);
}

/* --- what glue, guest and Python are in the gateway */

static u8 *guest;
static u32 guest_size = 1 << 16;
static u64 taken, budget = 1ull << 40, flushed, calls, traps;
static jmp_buf trapped;

void driver_trap(void) { traps++; longjmp(trapped, 1); }

void *driver_allocate(u32 n) {
  if (taken + n > budget) return NULL;
  taken += n;
  return malloc(n);
}

#ifdef __SANITIZE_ADDRESS__
#define ADDRESSES 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define ADDRESSES 1
#endif
#endif
#ifdef ADDRESSES
#include <sanitizer/asan_interface.h>
void driver_only(void *data, u32 n, u32 room) {
  __asan_poison_memory_region(data, room);
  __asan_unpoison_memory_region(data, n);
}
#else
void driver_only(void *data, u32 n, u32 room) { (void)data; (void)n; (void)room; }
#endif

i32 guest_range(gptr from, u32 n) { return (u64)from + n <= guest_size; }
i32 guest_read(void *to, gptr from, u32 n) {
  if (!guest_range(from, n)) return 0;
  if (n) memcpy(to, guest + from, n);
  return 1;
}
i32 guest_write(gptr to, const void *from, u32 n) {
  if (!guest_range(to, n)) return 0;
  if (n) memcpy(guest + to, from, n);
  return 1;
}
i32 guest_store32(gptr to, u32 value) { return guest_write(to, &value, 4); }
i32 guest_store64(gptr to, u64 value) { return guest_write(to, &value, 8); }

void host_flush_logs(void) { flushed++; log_size = 0; }
u64 host_clock(u32 id) { return 1000 + id; }
void host_random(void *to, u32 n) { memset(to, 7, n); }
/* Every answer has the same bytes; a metric is eight of them. */
i32 host_op(u32 code) {
  (void)code;
  if (!buffer_reserve(&io, 11)) return INTERNAL_FAILURE;
  memcpy(io.data, "plugin name", 11);
  op.out_size = 11;
  op.out_number = 5;
  return OK;
}

/* --- what the guest does in its callbacks: nothing, a check's own function, or random calls */

static void (*action)(u32 id);
static u32 answer_with;
static i32 everywhere; /* also when a context begins and ends */
static u32 act(u32 id) {
  if (action) action(id);
  return answer_with;
}

gptr guest_allocate(u32 n) {
  CHECK(n > 0);
  return n <= 4096 ? 0x8000 : 0;
}
static u32 act_at_ends(u32 id) { return everywhere ? act(id) : 1; }
void on_context_create(u32 id, u32 parent) { (void)parent; act_at_ends(id); }
i32 on_vm_start(u32 id, u32 size) { (void)size; return (i32)act(id); }
i32 on_configure(u32 id, u32 size) { (void)size; return (i32)act(id); }
void on_tick(u32 id) { act(id); }
void on_queue_ready(u32 id, u32 queue) { (void)queue; act(id); }
i32 on_done(u32 id) { return (i32)act_at_ends(id); }
void on_log(u32 id) { act_at_ends(id); }
void on_delete(u32 id) { act_at_ends(id); }
i32 on_request_headers(u32 id, u32 n, u32 eos) { (void)n; (void)eos; return (i32)act(id); }
i32 on_request_body(u32 id, u32 size, u32 eos) { (void)size; (void)eos; return (i32)act(id); }
i32 on_response_headers(u32 id, u32 n, u32 eos) { (void)n; (void)eos; return (i32)act(id); }
i32 on_response_body(u32 id, u32 size, u32 eos) { (void)size; (void)eos; return (i32)act(id); }

static u32 input(const void *bytes, u32 n) {
  CHECK(!n || buffer_reserve(&io, n));
  if (n) memcpy(io.data, bytes, n);
  return n;
}
static u32 text(const char *s) { return input(s, (u32)strlen(s)); }
static u32 put_guest(u32 at, const char *s) {
  memcpy(guest + at, s, strlen(s));
  return (u32)strlen(s);
}

/* --- unit checks */

enum { ROOT = 1, STREAM = 2 };

static void root_up(void) {
  CHECK(root_create(ROOT, text("configuration")) == 0);
  answer_with = 1;
  CHECK(root_start(ROOT) == 1 && root_configure(ROOT) == 1);
  answer_with = 0;
}
static void root_down(void) { root_delete(ROOT); }

static i32 out_is(const char *expected, i32 n) { return n == (i32)strlen(expected) && !memcmp(out.data, expected, (u32)n); }

static void add_one(u32 id) {
  (void)id;
  u32 k = put_guest(0, "X-Added"), v = put_guest(100, "yes");
  CHECK(proxy_add_header_map_value(REQUEST_HEADERS, 0, k, 100, v) == OK);
}
static void make_503(u32 id) {
  (void)id;
  u32 k = put_guest(0, ":status"), v = put_guest(100, "503");
  CHECK(proxy_replace_header_map_value(RESPONSE_HEADERS, 0, k, 100, v) == OK);
}
static void add_to_response(u32 id) {
  (void)id;
  u32 k = put_guest(0, "x-added"), v = put_guest(100, "yes");
  CHECK(proxy_replace_header_map_value(RESPONSE_HEADERS, 0, k, 100, v) == OK);
}

static void check_heads(void) {
  CHECK(request_headers(STREAM, ROOT, text("GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n"), 1) == 0);
  action = add_one;
  CHECK(out_is("GET / HTTP/1.1\r\nhost: a\r\nb: c\r\nx-added: yes\r\n",
               request_headers(3, ROOT, text("GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n"), 1)));
  action = add_to_response;
  static char long_head[40000];
  u32 n = (u32)sprintf(long_head, "HTTP/1.1 200 ");
  memset(long_head + n, 'r', 30000);
  strcpy(long_head + n + 30000, "\r\na: b\r\n");
  CHECK(response_headers(3, ROOT, text(long_head), 1) == (i32)strlen(long_head) + 14);
  action = make_503;
  CHECK(out_is("HTTP/1.1 503 Service Unavailable\r\na: b\r\n", response_headers(3, ROOT, text("HTTP/1.1 200 OK\r\na: b\r\n"), 1)));
  action = NULL;
  CHECK(finish(STREAM) == 0 && finish(3) == 0);
}

static void check_unfinished_heads(void) {
  static const char *const heads[] = {"", "G", "GET", "GET ", "GET /", "GET / ", "GET / HTTP/1.1", "GET / HTTP/1.1\r",
    "GET / HTTP/1.1\r\nhost", "GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: a", "GET / HTTP/1.1\r\nhost: a\r", "\n", ":\r\n"};
  for (u32 k = 0; k < sizeof heads / sizeof *heads; k++) {
    request_headers(STREAM, ROOT, text(heads[k]), 1);
    response_headers(STREAM, ROOT, text(heads[k]), 1);
    finish(STREAM);
  }
  CHECK(request_headers(STREAM, ROOT, text("GET / HTTP/1.1\r\nno colon\r\n"), 1) == NO_ROOM);
  finish(STREAM);
}

static void replace_often(u32 id) {
  (void)id;
  u32 k = put_guest(0, "x");
  memset(guest + 100, 'v', 4000);
  i32 status = OK;
  u32 times = 0;
  for (; status == OK && times < 1000; times++) status = proxy_replace_header_map_value(REQUEST_HEADERS, 0, k, 100, 4000);
  CHECK(status == INTERNAL_FAILURE && times > 100);
}

static void check_arena_limit(void) {
  action = replace_often;
  request_headers(STREAM, ROOT, text("GET / HTTP/1.1\r\nhost: a\r\n"), 1);
  CHECK(contexts[STREAM]->arena.total <= 2 * ARENA_LIMIT);
  action = NULL;
  finish(STREAM);
}

static void check_bodies(void) {
  request_headers(STREAM, ROOT, text("POST / HTTP/1.1\r\nhost: a\r\n"), 0);
  CHECK(body(STREAM, 0, text("plain"), 0) == 0);
  answer_with = 1;
  CHECK(body(STREAM, 0, text("held"), 0) == LOOK && result.action == 1);
  answer_with = 0;
  CHECK(body(STREAM, 0, text("-more"), 1) == LOOK && result.out_size == 9);
  CHECK(!memcmp(contexts[STREAM]->body[0].data, "held-more", 9));
  CHECK(body(STREAM, 1, 0, 1) == 0);
  finish(STREAM);
}

static void exit_now(u32 id) { (void)id; proc_exit(3); }
static void abort_now(u32 id) {
  (void)id;
  u32 size = 3000; /* UTF-16, its size before it: longer than what is shown */
  guest_store32(guest_size - 3004, size);
  memset(guest + guest_size - size, 'm', size);
  guest_abort(guest_size - size, 2, 1, 1);
}
static void check_traps(void) {
  static void (*const ends[])(u32) = {exit_now, abort_now};
  for (u32 k = 0; k < 2; k++) {
    action = ends[k];
    if (!setjmp(trapped)) {
      root_tick(ROOT);
      CHECK(!"the end of a plugin returned");
    }
    CHECK(traps == k + 1);
  }
  action = NULL;
  log_size = 0;
}

static void log_much(u32 id) {
  (void)id;
  for (u32 n = 0; n < 400; n++) CHECK(proxy_log(2, 0, n) == OK);
  CHECK(proxy_log(5, 0, guest_size) == OK);
  log_size = 0;
  while (LOG_RING - log_size > 2000) proxy_log(2, 0, 1000);
  proxy_log(2, 0, LOG_RING - log_size - 2 * LOG_HEADER - 6);
  CHECK(LOG_RING - log_size == LOG_HEADER + 6); /* room for another record's header, not for its text */
  CHECK(proxy_log(2, 0, 10) == OK && log_size == LOG_HEADER + 10);
  u32 written = 0, vectors[] = {0, 40000, 8, 40000, 0, 65536};
  guest_write(0, vectors, sizeof vectors);
  CHECK(fd_write(1, 0, 3, 0x9000) == SUCCESS && guest_read(&written, 0x9000, 4) && written == 145536);
}
static void check_logs(void) {
  u64 before = flushed;
  action = log_much;
  root_tick(ROOT);
  action = NULL;
  CHECK(flushed - before >= 2 && log_size <= LOG_RING);
  log_size = 0;
}

static void other_done(u32 id) {
  CHECK(proxy_set_effective_context(id == STREAM ? 3 : STREAM) == OK);
  CHECK(proxy_continue_stream(0) == OK);
}
static void check_others(void) {
  answer_with = 1;
  for (u32 id = STREAM; id <= 3; id++) request_headers(id, ROOT, text("GET / HTTP/1.1\r\nhost: a\r\n"), 1);
  answer_with = 0;
  action = other_done;
  CHECK(body(STREAM, 0, 0, 1) == LOOK && (result.flags & F_OTHERS));
  action = NULL;
  CHECK(next_other() == 3 && result.flags == F_CONTINUE_REQUEST && next_other() == 0);
  action = other_done;
  body(STREAM, 0, 0, 1);
  action = NULL;
  finish(3); /* before Python asked for it */
  CHECK(next_other() == 0 && dirty_count == 0);
  finish(STREAM);
}

/* --- fuzz */

static u64 state;
static u32 random_below(u32 n) {
  state ^= state << 13; state ^= state >> 7; state ^= state << 17;
  return (u32)(state >> 11) % n;
}
static u32 one_in(u32 n) { return !random_below(n); }

/* Names, values and property paths; the first PLAIN of them may stand in a head. */
#define W(literal) {literal, sizeof(literal) - 1}
static const struct { const char *s; u32 n; } WORDS[] = {
  W("x"), W("X-Long-Name"), W("host"), W("application/grpc"), W("application/grpc+proto"), W("/a?b=c"), W("GET"), W("200"), W("503"),
  W("content-length"), W("content-type"), W(""), W(" "), W("\x80\xff"), W(":path"), W(":method"), W(":authority"), W(":status"),
  W("Host"), W("\r\n"), W("plugin_name"), W("request\0headers\0host"), W("request\0headers"), W("response\0headers\0"),
  W("request\0path"), W("request\0url_path"), W("request\0query"), W("request\0host"), W("request\0scheme"), W("request\0method"),
  W("request\0referer"), W("request\0useragent"), W("request\0id\0"), W("response\0code"), W("request\0"), W("request")};
enum { PLAIN = 14, WORD_COUNT = sizeof WORDS / sizeof *WORDS };

/* An address with so many bytes behind it: mostly good, at the very end, beyond, or wrapping around. */
static u32 place(u32 n) {
  switch (random_below(8)) {
    case 0: return guest_size - (n < guest_size ? n : 0);
    case 1: return guest_size - random_below(8);
    case 2: return 0xffffffffu - random_below(64);
    default: return random_below(guest_size / 2);
  }
}
static u32 bytes(u32 *at) {
  u32 word = random_below(WORD_COUNT), n = WORDS[word].n + (one_in(6) ? random_below(12) : 0);
  if (one_in(20)) n = one_in(2) ? random_below(5000) : 0xffffffffu - random_below(40);
  *at = place(n);
  if (n < 5000 && guest_range(*at, n)) {
    memset(guest + *at, 'v', n);
    memcpy(guest + *at, WORDS[word].s, WORDS[word].n < n ? WORDS[word].n : n);
  }
  return n;
}
static u32 pairs(u32 *at) {
  u8 data[512], *o = data + 4;
  u32 count = random_below(6), sizes[12], n = 4 + 8 * count;
  for (u32 k = 0; k < 2 * count; k++) sizes[k] = random_below(9);
  put32(data, count);
  for (u32 k = 0; k < 2 * count; k++) o = put32(o, sizes[k]);
  for (u32 k = 0; k < 2 * count; k++) {
    for (u32 i = 0; i < sizes[k]; i++) *o++ = (u8)('a' + random_below(26));
    *o++ = 0;
    n += sizes[k] + 1;
  }
  if (one_in(3)) data[random_below(n)] = (u8)random_below(256);
  if (one_in(5)) n = random_below(n + 3);
  *at = place(n);
  if (guest_range(*at, n) && n <= sizeof data) memcpy(guest + *at, data, n);
  return n;
}
static u32 any_type(void) { return one_in(6) ? random_below(12) : random_below(3); }
static u32 any_number(void) { return one_in(3) ? random_below(20) : one_in(2) ? 0x7fffffffu : 0xffffffffu; }
static u32 known(void) { return 1 + random_below(24); }

static void random_call(void) {
  u32 a, b, c, n = bytes(&a), m = bytes(&b), k;
  calls++;
  switch (random_below(44)) {
    case 0: proxy_log(random_below(8), a, n); break;
    case 1: proxy_get_log_level(place(4)); break;
    case 2: proxy_get_current_time_nanoseconds(place(8)); break;
    case 3: proxy_set_tick_period_milliseconds(any_number()); break;
    case 4: proxy_set_effective_context(one_in(5) ? any_number() : known()); break;
    case 5: proxy_done(); break;
    case 6: proxy_get_status(place(4), place(4), place(4)); break;
    case 7: proxy_get_header_map_size(any_type(), place(4)); break;
    case 8: proxy_get_header_map_pairs(any_type(), place(4), place(4)); break;
    case 9: case 10: proxy_get_header_map_value(any_type(), a, n, place(4), place(4)); break;
    case 11: case 12: case 13: proxy_add_header_map_value(any_type(), a, n, b, m); break;
    case 14: case 15: proxy_replace_header_map_value(any_type(), a, n, b, m); break;
    case 16: proxy_remove_header_map_value(any_type(), a, n); break;
    case 17: case 18: k = pairs(&c); proxy_set_header_map_pairs(any_type(), c, k); break;
    case 19: proxy_get_buffer_bytes(random_below(10), any_number(), any_number(), place(4), place(4)); break;
    case 20: case 21: proxy_set_buffer_bytes(random_below(3), any_number(), any_number(), a, n); break;
    case 22: proxy_get_buffer_status(random_below(10), place(4), place(4)); break;
    case 23: proxy_continue_stream(random_below(5)); break;
    case 24: if (one_in(8)) proxy_close_stream(random_below(5)); break;
    case 25: k = pairs(&c); proxy_send_local_response(one_in(4) ? any_number() : 403, a, n, b, m, c, k, random_below(20)); break;
    case 26: proxy_get_property(a, n, place(4), place(4)); proxy_get_property(b, m, place(4), place(4)); break;
    case 27: proxy_set_property(a, n, b, m); break;
    case 28: proxy_call_foreign_function(a, n, b, m, 0, 0); break;
    case 29: proxy_get_configuration(place(4), place(4)); break;
    case 30: guest_store32(64, a); guest_store32(68, n); fd_write(1 + random_below(2), one_in(4) ? place(8) : 64, random_below(3), place(4)); break;
    case 31: random_get(a, n); break;
    case 32: environ_get(place(8), place(8)); environ_sizes_get(place(4), place(4)); break;
    case 33: proxy_get_shared_data(a, n, place(4), place(4), place(4)); break;
    case 34: proxy_set_shared_data(a, n, b, m, any_number()); break;
    case 35: proxy_register_shared_queue(a, n, place(4)); break;
    case 36: proxy_resolve_shared_queue(a, n, b, m, place(4)); break;
    case 37: proxy_enqueue_shared_queue(any_number(), a, n); break;
    case 38: proxy_dequeue_shared_queue(any_number(), place(4), place(4)); break;
    case 39: proxy_define_metric(random_below(4), a, n, place(4)); break;
    case 40: proxy_increment_metric(any_number(), any_number()); break;
    case 41: proxy_record_metric(any_number(), any_number()); break;
    case 42: proxy_get_metric(any_number(), place(8)); break;
    default: fd_fdstat_get(1, place(24)); clock_time_get(0, 0, place(8)); clock_res_get(1, place(8)); break;
  }
}
static void random_calls(u32 id) {
  (void)id;
  for (u32 k = random_below(5); k; k--) random_call();
  answer_with = one_in(3) ? random_below(5) : 0;
}

static u32 random_head(i32 response) {
  static char head[3000];
  u32 n = (u32)sprintf(head, response ? "HTTP/1.1 %u Reason\r\n" : "GET /%u HTTP/1.1\r\n", 200 + random_below(300));
  for (u32 k = random_below(20); k; k--)
    n += (u32)sprintf(head + n, "%s:%*s%s \r\n", one_in(4) ? "Host" : one_in(3) ? "Content-Type" : "Name", (int)random_below(4),
                      "", WORDS[random_below(PLAIN)].s);
  if (one_in(10)) head[random_below(n)] = (char)random_below(256);
  if (one_in(12)) n = random_below(n);
  return input(head, n);
}

static u8 alive[25]; /* 0 no, 1 root, 2 stream */

static void settle_all(i32 answer) {
  if (answer == LOOK && one_in(2)) while (next_other()) {}
  if (log_size && one_in(2000)) log_size = 0;
}

static void random_step(void) {
  u32 id = 1 + random_below(24), root = 1 + id % 3;
  budget = one_in(4) ? taken + random_below(1 << 16) : 1ull << 40;
  if (id <= 3) {
    if (!alive[id]) {
      u32 n = random_below(3000);
      if (io_reserve(n)) memset(io.data, 'c', n); else n = 0;
      if (root_create(id, n) != NO_ROOM) alive[id] = 1;
      else if (contexts[id]) root_delete(id);
      return;
    }
    switch (random_below(6)) {
      case 0: root_start(id); break;
      case 1: root_configure(id); break;
      case 2: root_done(id); break;
      case 3: root_queue_ready(id, 7); break;
      default: root_tick(id);
    }
    settle_all(root_settle(id));
    return;
  }
  if (!alive[root]) return;
  i32 answer = 0;
  switch (random_below(8)) {
    case 0: case 1: budget = 1ull << 40; answer = request_headers(id, root, random_head(0), random_below(4)); break;
    case 2: budget = 1ull << 40; answer = response_headers(id, root, random_head(1), random_below(4)); break;
    case 3: case 4: {
      if (!contexts[id]) return;
      u32 n = random_below(one_in(10) ? 60000 : 300);
      if (!io_reserve(n)) return;
      if (n) memset(io.data, 'b', n);
      answer = body(id, random_below(2), n, one_in(3));
      break;
    }
    case 5: if (contexts[id]) answer = resume_head(id, one_in(2) ? REQUEST_HEADERS : RESPONSE_HEADERS); break;
    case 6: if (contexts[id]) take_body(id, random_below(2)); break;
    default: answer = finish(id);
  }
  CHECK(answer >= NO_ROOM && answer < 1 << 21);
  settle_all(answer);
}

static u64 free_bytes(void) {
  u64 n = 0;
  for (u32 class = 0; class <= MAX_CLASS; class++)
    for (Block *b = free_blocks[class]; b; b = b->next) n += 1ull << class;
  return n;
}
static u64 kept_bytes(const Buffer *b) { return b->block ? 1ull << b->block->class : 0; }
static void check_blocks(void) {
  for (u32 id = 1; id <= 24; id++)
    if (contexts[id])
      for (Block *b = contexts[id]->arena.blocks; b; b = b->next) CHECK(b->used <= block_room(b));
}
static u64 held(void) {
  return free_bytes() + kept_bytes(&io) + kept_bytes(&out) + kept_bytes(&scratch) + kept_bytes(&vm_configuration) +
         kept_bytes(&environment);
}

static void fuzz(u64 seed, u32 rounds) {
  state = seed * 0x9e3779b97f4a7c15ull + 1;
  action = random_calls;
  everywhere = 1;
  for (u32 k = 0; k < rounds; k++) { random_step(); check_blocks(); }
  action = NULL;
  answer_with = 1;
  budget = 1ull << 40;
  for (u32 id = 4; id <= 24; id++) finish(id);
  for (u32 id = 1; id <= 3; id++) if (alive[id]) { root_delete(id); alive[id] = 0; }
  CHECK(dirty_count == 0 && !dirty_contexts);
  u32 unused = 0;
  for (Context *c = free_contexts; c; c = c->next) unused++;
  CHECK(held() + (u64)unused * sizeof(Context) == taken);
}

int main(int argc, char **argv) {
  u64 seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  u32 rounds = argc > 2 ? (u32)strtoul(argv[2], NULL, 10) : 10000;
  guest = malloc(guest_size);
  memset(guest, 0, guest_size);
  setup(ABI_0_2_1, LEVEL_INFO, 40000);
  set_vm_configuration(text("vm"));
  CHECK(set_environment(2, input("A=1\0B=2", 8)));
  root_up();
  check_heads();
  check_unfinished_heads();
  check_arena_limit();
  check_bodies();
  check_logs();
  check_traps();
  check_others();
  root_down();
  log_size = 0;
  fuzz(seed, rounds);
  printf("%u rounds, %llu host calls, %llu flushes, %llu bytes taken\n", rounds, calls, flushed, taken);
  return 0;
}
