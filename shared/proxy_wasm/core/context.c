/* Contexts and phases: what Python calls. Every phase enters the guest once and settles what it left behind. */
#include "core.h"

enum { MAX_CONTEXTS = 1 << 16 };

static Context *contexts[MAX_CONTEXTS], *free_contexts, *dirty_contexts;
static Context *entered, *effective; /* whose callback runs; whom proxy_set_effective_context chose */
static u32 dirty_count;
static u32 abi, body_limit = 1 << 20;
static u8 in_allocator, starting, waits_for_calls;
static Buffer io, out, emitted /* a head, until the next one */, vm_configuration, environment;
static u32 environment_count;
static Result result;
static Op op;

/* --- logs: records of level, context, size and text, until Python drains them */

enum { LOG_RING = 1 << 16, LOG_HEADER = 12 };
static u8 log_ring[LOG_RING];
static u32 log_size, log_level;

static void log_write(u32 level, const u8 *text, u32 n) {
  if (level < log_level) return;
  if (n > LOG_RING - LOG_HEADER) n = LOG_RING - LOG_HEADER;
  if (log_size + LOG_HEADER + n > LOG_RING) { host_flush_logs(); log_size = 0; }
  u8 *o = put32(put32(put32(log_ring + log_size, level), entered ? entered->id : 0), n);
  copy(o, text, n);
  log_size += LOG_HEADER + n;
}

/* --- for Python */

/* A region of `n` bytes that Python fills before a phase, and host_op answers in. 0 when memory is out. */
EXPORT("io_reserve") u32 io_reserve(u32 n) { return buffer_reserve(&io, n) ? ADDR(io.data) : 0; }
EXPORT("result_address") u32 result_address(void) { return ADDR(&result); }
EXPORT("op_address") u32 op_address(void) { return ADDR(&op); }
EXPORT("log_address") u32 log_address(void) { return ADDR(log_ring); }
EXPORT("log_size_address") u32 log_size_address(void) { return ADDR(&log_size); } /* Python sets it to 0 when it has read */

EXPORT("setup") void setup(u32 version, u32 level, u32 max_body) { abi = version; log_level = level; body_limit = max_body; }

/* The dialect of APISIX: a request waits for its HTTP calls whatever its callback answered, and goes on after the last. */
EXPORT("set_waits_for_calls") void set_waits_for_calls(void) { waits_for_calls = 1; }

static i32 keep(Buffer *b, u32 n) {
  b->size = 0;
  if (!buffer_reserve(b, n)) return 0;
  copy(b->data, io.data, n);
  b->size = n;
  return 1;
}

EXPORT("set_vm_configuration") i32 set_vm_configuration(u32 n) { return keep(&vm_configuration, n); }
EXPORT("set_environment") i32 set_environment(u32 count, u32 n) { environment_count = count; return keep(&environment, n); }

/* --- contexts */

static Context *context_of(u32 id) { return id && id < MAX_CONTEXTS ? contexts[id] : NULL; }
static Context *current(void) { return effective ? effective : entered; }

static Context *context_take(u32 id, u32 root) {
  if (!id || id >= MAX_CONTEXTS || contexts[id]) return NULL;
  if (!free_contexts) {
    enum { BATCH = 16 };
    Context *batch = heap_take(BATCH * sizeof *batch);
    if (!batch) return NULL;
    for (u32 i = 0; i < BATCH; i++) { batch[i].next = free_contexts; free_contexts = batch + i; }
  }
  Context *c = free_contexts;
  free_contexts = c->next;
  clear(c, sizeof *c);
  c->id = id; c->root = root;
  return contexts[id] = c;
}

static void context_free(Context *c) {
  arena_free(&c->arena);
  buffer_free(c->body);
  buffer_free(c->body + 1);
  if (c->dirty) {
    Context **at = &dirty_contexts;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    dirty_count--;
  }
  if (effective == c) effective = NULL;
  if (entered == c) entered = NULL;
  contexts[c->id] = NULL;
  c->next = free_contexts; free_contexts = c;
}

static void record(Context *c, u32 effect) {
  c->effects |= effect;
  if (c == entered || c->dirty) return;
  c->dirty = 1; c->next = dirty_contexts; dirty_contexts = c;
  dirty_count++;
}

static void enter(Context *c) { entered = c; effective = NULL; }

static void report(Context *c, u32 action, u32 flags, u32 out_size) {
  c->effects = 0;
  const LocalReply *r = &c->reply;
  result = (Result){action, flags, ADDR(emitted.data), out_size, log_size, dirty_count,
                    r->status, r->grpc_status, ADDR(r->details), r->details_size, ADDR(r->body), r->body_size,
                    ADDR(r->headers), r->headers_size};
}

/* The effects of `c` into `result`; LOOK unless there is nothing to say but `answer`. */
static i32 settle(Context *c, u32 action, i32 answer) {
  u32 flags = c->effects | (dirty_count ? F_OTHERS : 0);
  if (!action && !flags && !log_size) return answer;
  report(c, action, flags | (answer ? F_CHANGED : 0), (u32)answer);
  return LOOK;
}

/* The next context that another one's callback acted on, its effects in `result`; 0 when there is none. */
EXPORT("next_other") u32 next_other(void) {
  Context *c = dirty_contexts;
  if (!c) return 0;
  dirty_contexts = c->next; dirty_count--;
  c->dirty = 0;
  report(c, 0, c->effects, 0);
  return c->id;
}

/* --- plugin contexts; their configuration is in `io` */

EXPORT("root_create") i32 root_create(u32 id, u32 n) {
  Context *c = context_take(id, 0);
  if (!c || !keep(c->body, n)) return NO_ROOM;
  enter(c);
  c->created = 1;
  on_context_create(id, 0);
  return settle(c, 0, 0);
}

/* 1: the plugin agreed, 0: it refused; logs and other effects are in `result` through root_settle. */
EXPORT("root_start") i32 root_start(u32 id) {
  enter(contexts[id]);
  starting = 1;
  i32 agreed = on_vm_start(id, vm_configuration.size) != 0;
  starting = 0;
  return agreed;
}
EXPORT("root_configure") i32 root_configure(u32 id) { Context *c = contexts[id]; enter(c); return on_configure(id, c->body->size) != 0; }
EXPORT("root_tick") void root_tick(u32 id) { enter(contexts[id]); on_tick(id); }
EXPORT("root_queue_ready") void root_queue_ready(u32 id, u32 queue) { enter(contexts[id]); on_queue_ready(id, queue); }
EXPORT("root_settle") i32 root_settle(u32 id) { return settle(contexts[id], 0, 0); }

/* 1: it may be deleted now; 0: the plugin calls proxy_done later. */
EXPORT("root_done") i32 root_done(u32 id) {
  Context *c = contexts[id];
  enter(c);
  i32 now = on_done(id) != 0;
  c->pending_done = !now;
  return now;
}

EXPORT("root_delete") i32 root_delete(u32 id) {
  Context *c = contexts[id];
  enter(c);
  on_delete(id);
  i32 answer = log_size || dirty_count ? LOOK : 0;
  if (answer) result = (Result){.flags = dirty_count ? F_OTHERS : 0, .log_size = log_size, .others = dirty_count};
  context_free(c);
  return answer;
}

/* --- streams; the head or the body piece is in `io` */

enum { EOS = 1, SILENT = 2 /* only for on_log to see: no callback */ };

static Context *stream(u32 id, u32 root) {
  Context *c = context_of(id);
  if (!c) c = context_take(id, root);
  if (c) enter(c);
  return c;
}

/* A local reply beside a call is dropped there as well. */
static u32 await_calls(Context *c, u32 action) {
  if (!c->calls) return action;
  c->effects &= ~(u32)F_LOCAL_REPLY;
  c->reply.status = 0;
  return 1;
}

/* A head goes on: emitted anew if a plugin changed it, and closed for changes from now on. */
static i32 release_head(Context *c, u32 type) {
  Map *m = c->maps + type;
  c->writable &= (u8)~(1u << type);
  if (type == RESPONSE_HEADERS) c->answered = 1;
  if (!m->changed) return 0;
  u32 n = emit_head(c, type, &emitted);
  m->changed = 0;
  result.out = ADDR(emitted.data);
  if (!n) c->effects |= F_BAD_HEAD;
  return (i32)n;
}

/* The head has been read before the guest is entered for the first time: what a host call answers there comes through `io` too. */
static i32 head_phase(Context *c, u32 type, u32 flags) {
  if (flags & SILENT) return 0;
  if (!c->created) { c->created = 1; on_context_create(c->id, c->root); effective = NULL; }
  Map *m = c->maps + type;
  u32 eos = (flags & EOS) | apisix; /* a body comes there only when it is asked for */
  c->writable |= (u8)(1u << type);
  u32 action = (u32)(type == REQUEST_HEADERS ? on_request_headers(c->id, m->count, eos) : on_response_headers(c->id, m->count, eos));
  if (waits_for_calls && type == REQUEST_HEADERS) action = await_calls(c, action);
  if (c->effects & (F_LOCAL_REPLY | F_CLOSE)) { c->writable = 0; return settle(c, 1, 0); }
  return settle(c, action, action ? 0 : release_head(c, type));
}

EXPORT("request_headers") i32 request_headers(u32 id, u32 root, u32 n, u32 flags) {
  Context *c = stream(id, root);
  if (!c || (c->maps[REQUEST_HEADERS].count = 0, !parse_request(c, io.data, n, "http", 4))) return NO_ROOM;
  return head_phase(c, REQUEST_HEADERS, flags);
}

EXPORT("response_headers") i32 response_headers(u32 id, u32 root, u32 n, u32 flags) {
  Context *c = stream(id, root);
  if (!c || !parse_response(c, io.data, n)) return NO_ROOM;
  return head_phase(c, RESPONSE_HEADERS, flags);
}

static void end_stream(Context *c);

/* A response that is here in full: its head, and the end of the stream if the plugin lets it pass. `result` says that it has
 * passed before the last callbacks run, so that one that traps spoils no response. */
EXPORT("last_response") i32 last_response(u32 id, u32 root, u32 n, u32 flags) {
  result.flags = 0;
  Context *c = stream(id, root);
  if (!c || !parse_response(c, io.data, n)) return NO_ROOM;
  i32 size = head_phase(c, RESPONSE_HEADERS, flags);
  if (size == LOOK) {
    if (result.action || result.flags & ~(u32)(F_CHANGED | F_OTHERS)) return LOOK;
    size = (i32)result.out_size;
  }
  result = (Result){.flags = F_FINISHED | (size ? F_CHANGED : 0), .out = ADDR(emitted.data), .out_size = (u32)size};
  end_stream(c);
  if (!log_size && !dirty_count) return size;
  result.flags |= dirty_count ? F_OTHERS : 0;
  result.log_size = log_size; result.others = dirty_count;
  return LOOK;
}

/* After a pause: the head as it stands now. */
EXPORT("resume_head") i32 resume_head(u32 id, u32 type) {
  Context *c = contexts[id];
  enter(c);
  return settle(c, 0, release_head(c, type));
}

/* Action of a body callback: 0 continue, 1 and 2 hold what there is, 3 drop it. */
enum { DROP = 3 };

/* Where the next piece of so many bytes goes, for one that is too large to be copied twice. */
EXPORT("body_room") u32 body_room(u32 id, u32 direction, u32 n) {
  Buffer *b = contexts[id]->body + direction;
  return buffer_reserve(b, b->size + n) ? ADDR(b->data + b->size) : 0;
}

/* `way` is the direction, and twice the size of a piece that is in its place already. */
EXPORT("body") i32 body(u32 id, u32 way, u32 n, u32 eos) {
  Context *c = contexts[id];
  u32 direction = way & 1, placed = way >> 1;
  Buffer *b = c->body + direction;
  u32 held = b->size;
  if (!buffer_reserve(b, held + placed + n)) return NO_ROOM;
  copy(b->data + held + placed, io.data, n);
  b->size = held + placed + n;
  enter(c);
  if (apisix) {
    u32 way = apisix_body(c, direction, eos);
    if (way == PASSES) { b->size = 0; return settle(c, 0, 0); }
    if (way == HOLDS) return b->size > body_limit ? NO_ROOM : settle(c, 1, 0);
  }
  c->open_body |= (u8)(1u << direction);
  if (eos) c->writable |= (u8)(1u << (direction ? RESPONSE_TRAILERS : REQUEST_TRAILERS));
  c->changed_body &= (u8)~(1u << direction);
  u32 action = (u32)(direction ? on_response_body(id, b->size, eos) : on_request_body(id, b->size, eos));
  if (waits_for_calls && !direction) action = await_calls(c, action);
  if (c->effects & (F_LOCAL_REPLY | F_CLOSE)) return settle(c, 1, 0);
  if (action == 1 || action == 2) return b->size > body_limit ? NO_ROOM : settle(c, 1, 0);
  c->open_body &= (u8)~(1u << direction);
  if (eos && !(c->effects & F_TRAILERS)) c->writable &= (u8)~(1u << (direction ? RESPONSE_TRAILERS : REQUEST_TRAILERS));
  if (action >= DROP) b->size = 0;
  if (action < DROP && !held && !(c->changed_body >> direction & 1)) { b->size = 0; return settle(c, 0, 0); }
  c->effects |= F_CHANGED;
  settle(c, 0, 0);
  result.out = ADDR(b->data); result.out_size = b->size;
  b->size = 0; /* the bytes stay where they are until the next piece: Python reads them first */
  return LOOK;
}

/* After a pause: what the plugin holds goes on, whatever it is. */
EXPORT("take_body") u32 take_body(u32 id, u32 direction) {
  Context *c = contexts[id];
  Buffer *b = c->body + direction;
  c->open_body &= (u8)~(1u << direction);
  result.out = ADDR(b->data);
  u32 n = b->size;
  b->size = 0;
  return n;
}

/* The order is the specification's (Envoy logs first, but lets go last as well). */
static void end_stream(Context *c) {
  u32 id = c->id;
  c->writable = 0; c->open_body = 0; c->answered = 1;
  on_done(id);
  effective = NULL;
  on_log(id);
  effective = NULL;
  on_delete(id);
  c->effects = 0;
  context_free(c);
}

/* `stale`: bit per map type whose head changed after the plugin had it. A failing on_log must not keep the stream. */
EXPORT("finish") i32 finish(u32 id, u32 stale) {
  Context *c = contexts[id];
  if (!c) return 0; /* there was no room for it */
  enter(c);
  c->stale = (u8)(stale & (1u << REQUEST_HEADERS | 1u << RESPONSE_HEADERS));
  if (!c->created) {
    if (!c->maps[REQUEST_HEADERS].present) { context_free(c); return 0; } /* nor for its head: the guest has not heard of it */
    on_context_create(id, c->root); /* another plugin ended the request before it came here, and this one logs it, as in Envoy */
    effective = NULL;
  }
  end_stream(c);
  i32 answer = log_size || dirty_count ? LOOK : 0;
  if (answer) result = (Result){.flags = dirty_count ? F_OTHERS : 0, .log_size = log_size, .others = dirty_count};
  return answer;
}
