/* Unit checks of the core: what each is about stands in its name. Part of core_driver.c. */

enum { ROOT = 1, STREAM = 2 };

static void root_up(void) {
  CHECK(root_create(ROOT, text("configuration")) == 0);
  answer_with = 1;
  CHECK(root_start(ROOT) == 1 && root_configure(ROOT) == 1);
  answer_with = 0;
}
static void root_down(void) { root_delete(ROOT); }

static i32 out_is(const char *expected, i32 n) { return n == (i32)strlen(expected) && !memcmp(emitted.data, expected, (u32)n); }

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
  CHECK(finish(STREAM, 0) == 0 && finish(3, 0) == 0);
}

static void check_unfinished_heads(void) {
  static const char *const heads[] = {"", "G", "GET", "GET ", "GET /", "GET / ", "GET / HTTP/1.1", "GET / HTTP/1.1\r",
    "GET / HTTP/1.1\r\nhost", "GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: a", "GET / HTTP/1.1\r\nhost: a\r", "\n", ":\r\n"};
  for (u32 k = 0; k < sizeof heads / sizeof *heads; k++) {
    request_headers(STREAM, ROOT, text(heads[k]), 1);
    response_headers(STREAM, ROOT, text(heads[k]), 1);
    finish(STREAM, 0);
  }
  CHECK(request_headers(STREAM, ROOT, text("GET / HTTP/1.1\r\nno colon\r\n"), 1) == NO_ROOM);
  finish(STREAM, 0);
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
  finish(STREAM, 0);
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
  finish(STREAM, 0);
}

/* A piece that is written to its place by the caller, behind one that the plugin holds. */
static void check_placed_bodies(void) {
  request_headers(STREAM, ROOT, text("POST / HTTP/1.1\r\nhost: a\r\n"), 0);
  answer_with = 1;
  CHECK(body(STREAM, 0, text("held"), 0) == LOOK && result.action == 1);
  answer_with = 0;
  CHECK(body_room(STREAM, 0, 5) != 0);
  memcpy(contexts[STREAM]->body[0].data + 4, "-more", 5);
  CHECK(body(STREAM, 5 << 1, 0, 1) == LOOK && result.out_size == 9);
  CHECK(!memcmp(contexts[STREAM]->body[0].data, "held-more", 9));
  CHECK(body_room(STREAM, 1, 1u << 30) == 0);
  finish(STREAM, 0);
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
  finish(3, 0); /* before Python asked for it */
  CHECK(next_other() == 0 && dirty_count == 0);
  finish(STREAM, 0);
}

