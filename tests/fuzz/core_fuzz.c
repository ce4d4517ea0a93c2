/* Random phases and host calls, the same ones for the same seed. Part of core_driver.c. */

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
  W("request\0referer"), W("request\0useragent"), W("request\0id\0"), W("response\0code"), W("request\0"), W("request"),
  W("request\0trailers\0sum"), W("response\0trailers"), W("response\0grpc_status"), W("grpc-status"), W("sum"),
  W("wasm_process_req_body"), W("wasm_process_resp_body"), W("clear_route_cache")};
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
  switch (random_below(52)) {
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
    case 43: k = pairs(&c); proxy_http_call(a, n, c, k, b, m, c, k, any_number(), place(4)); break;
    case 44: k = pairs(&c); proxy_grpc_call(a, n, b, m, a, n, c, k, b, m, any_number(), place(4)); break;
    case 45: k = pairs(&c); proxy_grpc_stream(a, n, b, m, a, n, c, k, place(4)); break;
    case 46: proxy_grpc_send(any_number(), a, n, any_number()); break;
    case 47: if (one_in(2)) proxy_grpc_cancel(any_number()); else proxy_grpc_close(any_number()); break;
    case 48: proxy_call_foreign_function(a, n, b, m, one_in(4) ? 0 : place(4), one_in(4) ? 0 : place(4)); break;
    case 49: proxy_clear_route_cache(); break;
    case 50: {
      i32 size = show_map(1 + random_below(24), random_below(LAST_MAP_TYPE + 1));
      CHECK(size == -1 || (size >= 4 && (u32)size <= out.capacity));
      break;
    }
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

/* What came of a call, mostly well-formed, and the callback about it; as Python does it, which gives up when room is out. */
static void random_call_ended(u32 id) {
  u32 event = random_below(CALL_FOREIGN_FUNCTION + 1), at, n = 0;
  for (u32 k = random_below(3); k; k--) {
    n = pairs(&at);
    if (!guest_range(at, n) || !io_reserve(n + 1)) return;
    memcpy(io.data, guest + at, n);
    receive_map(MAPS + random_below(LAST_MAP_TYPE + 1 - MAPS), n);
  }
  n = random_below(one_in(10) ? 60000 : 300);
  if (!io_reserve(n + 1)) return;
  memset(io.data, 'r', n);
  receive_status(random_below(20), random_below(n + 1));
  if (one_in(2)) receive_body(one_in(3) ? BUFFER_FOREIGN_ARGUMENTS : one_in(2) ? BUFFER_CALL_RESPONSE_BODY : BUFFER_GRPC_MESSAGE, n);
  root_call(id, event, any_number(), one_in(2) ? known() : 0);
}

static u32 random_trailers(void) {
  static char lines[3000];
  u32 n = 0;
  for (u32 k = random_below(12); k; k--)
    n += (u32)sprintf(lines + n, "%s:%s\r\n", one_in(3) ? "grpc-status" : "Sum", WORDS[random_below(PLAIN)].s);
  if (n && one_in(10)) lines[random_below(n)] = (char)random_below(256);
  if (n && one_in(12)) n = random_below(n);
  return input(lines, n);
}

static u8 alive[25]; /* 0 no, 1 root, 2 stream */

static void settle_all(i32 answer) {
  if (answer == LOOK && one_in(2)) while (next_other()) {}
  if (log_size && one_in(2000)) log_size = 0;
}

enum { LAST_REQUEST = 20 }; /* the contexts behind it are TCP streams */

static i32 tcp_step(u32 id, u32 root) {
  u32 direction = random_below(2);
  if (!contexts[id]) return new_connection(id, root);
  switch (random_below(8)) {
    case 0: return finish(id, random_below(16));
    case 1: return tcp_closed(id, direction, 0, random_below(3));
    case 2: {
      u32 n = tcp_held(id, direction);
      CHECK(tcp_take(id, direction) == n && !tcp_held(id, direction));
      return 0;
    }
    default: {
      u32 n = random_below(one_in(10) ? 60000 : 300);
      if (!io_reserve(n)) return 0;
      if (n) memset(io.data, 't', n);
      return tcp_data(id, direction, n, one_in(5));
    }
  }
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
    switch (random_below(8)) {
      case 4: case 5: random_call_ended(id); break;
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
  if (id > LAST_REQUEST) { settle_all(tcp_step(id, root)); return; }
  i32 answer = 0;
  switch (random_below(10)) {
    case 0: case 1: budget = 1ull << 40; answer = request_headers(id, root, random_head(0), random_below(4)); break;
    case 2: budget = 1ull << 40; answer = response_headers(id, root, random_head(1), random_below(4)); break;
    case 3: case 4: {
      if (!contexts[id]) return;
      u32 n = random_below(one_in(10) ? 60000 : 300);
      u32 direction = random_below(2), placed = one_in(2) ? random_below(9000) : 0;
      if (!io_reserve(n) || (placed && !body_room(id, direction, placed))) return;
      Buffer *b = contexts[id]->body + direction;
      if (placed) memset(b->data + b->size, 'p', placed);
      if (n) memset(io.data, 'b', n);
      answer = body(id, direction | placed << 1, n, one_in(3));
      break;
    }
    case 5: if (contexts[id]) answer = resume_head(id, one_in(2) ? REQUEST_HEADERS : RESPONSE_HEADERS); break;
    case 6: if (contexts[id]) take_body(id, random_below(2)); break;
    case 7: if (contexts[id]) { budget = 1ull << 40; answer = trailers(id, random_below(2), random_trailers(), one_in(9) ? SILENT : 0); } break;
    case 8: if (contexts[id]) answer = take_trailers(id, random_below(2)); break;
    default: answer = finish(id, random_below(16));
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
  return free_bytes() + kept_bytes(&io) + kept_bytes(&out) + kept_bytes(&emitted) + kept_bytes(&scratch) + kept_bytes(&vm_configuration) +
         kept_bytes(&environment) + kept_bytes(&received.body) + kept_bytes(&received.message);
}

static void fuzz(u64 seed, u32 rounds) {
  state = seed * 0x9e3779b97f4a7c15ull + 1;
  action = random_calls;
  everywhere = 1;
  apisix = seed & 1; /* both dialects, over the seeds of the tests */
  for (u32 k = 0; k < rounds; k++) { random_step(); check_blocks(); }
  action = NULL;
  answer_with = 1;
  budget = 1ull << 40;
  for (u32 id = 4; id <= 24; id++) finish(id, 0);
  for (u32 id = 1; id <= 3; id++) if (alive[id]) { root_call(id, CALL_GRPC_CLOSE, 0, 0); root_delete(id); alive[id] = 0; }
  CHECK(dirty_count == 0 && !dirty_contexts);
  u32 unused = 0;
  for (Context *c = free_contexts; c; c = c->next) unused++;
  CHECK(held() + (u64)unused * sizeof(Context) == taken);
}

