/* The ABI's host functions. Every one has the same shape: enums, guest ranges, the object, the work, the outputs.
 * Source of the statuses: Proxy-Wasm 0.2.1, and Envoy's host where it is silent. */
#include "core.h"

/* A host call from inside the guest's allocator would see half-written state: only logs and clocks are let through. */
#define ENTER() do { if (in_allocator) TRAP(); } while (0)

enum { SCRATCH_LIMIT = 1 << 20 };
static Buffer scratch;

static i32 give(const void *bytes, u32 n, gptr pointer_out, gptr size_out) {
  gptr p = 0;
  if (n) { /* never with 0: Go's allocator takes the address of the first byte */
    in_allocator = 1;
    p = guest_allocate(n);
    in_allocator = 0;
    if (!p || !guest_write(p, bytes, n)) return INVALID_MEMORY_ACCESS;
  }
  return guest_store32(pointer_out, p) && guest_store32(size_out, n) ? OK : INVALID_MEMORY_ACCESS;
}

/* The guest's bytes for the length of this host call. */
static i32 take(gptr from, u32 n, u8 **to) {
  if (!guest_range(from, n)) return INVALID_MEMORY_ACCESS;
  scratch.size = 0;
  if (n > SCRATCH_LIMIT || !buffer_reserve(&scratch, n + 1)) return INTERNAL_FAILURE;
  *to = scratch.data;
  return guest_read(scratch.data, from, n) ? OK : INVALID_MEMORY_ACCESS;
}

/* The guest's bytes for the life of the stream. */
static i32 take_for(Context *c, gptr from, u32 n, u8 **to) {
  if (!guest_range(from, n)) return INVALID_MEMORY_ACCESS;
  if (!(*to = arena_take(&c->arena, n ? n : 1))) return INTERNAL_FAILURE;
  return guest_read(*to, from, n) ? OK : INVALID_MEMORY_ACCESS;
}

#define TRY(expression) do { i32 status_ = (expression); if (status_ != OK) return status_; } while (0)

/* --- logs, time, lifecycle */

EXPORT("proxy_log") i32 proxy_log(u32 level, gptr text, u32 n) {
  if (level > LAST_LEVEL) return BAD_ARGUMENT;
  if (!guest_range(text, n)) return INVALID_MEMORY_ACCESS;
  if (level < log_level) return OK;
  if (n > LOG_RING) n = LOG_RING;
  u8 *s;
  TRY(take(text, n, &s));
  log_write(level, s, n);
  return OK;
}

EXPORT("proxy_get_log_level") i32 proxy_get_log_level(gptr level_out) {
  ENTER();
  return guest_store32(level_out, log_level) ? OK : INVALID_MEMORY_ACCESS;
}

EXPORT("proxy_get_current_time_nanoseconds") i32 proxy_get_current_time_nanoseconds(gptr time_out) {
  return guest_store64(time_out, host_clock(0)) ? OK : INVALID_MEMORY_ACCESS;
}

/* Asks Python; the answer's bytes are in `io`. */
static i32 call_op(u32 code, const Context *c) {
  op.context = c ? c->id : 0;
  op.root = c ? (c->root ? c->root : c->id) : 0;
  op.out_size = 0;
  return host_op(code);
}

EXPORT("proxy_set_tick_period_milliseconds") i32 proxy_set_tick_period_milliseconds(u32 period) {
  ENTER();
  op.number[0] = period;
  return current() ? call_op(OP_SET_TICK_PERIOD, current()) : BAD_ARGUMENT;
}

EXPORT("proxy_set_effective_context") i32 proxy_set_effective_context(u32 id) {
  ENTER();
  Context *c = context_of(id);
  if (!c) return BAD_ARGUMENT;
  effective = c;
  return OK;
}

EXPORT("proxy_done") i32 proxy_done(void) {
  ENTER();
  Context *c = current();
  if (!c || !c->pending_done) return NOT_FOUND;
  c->pending_done = 0;
  record(c, F_DONE);
  return OK;
}

/* Of the call that ended last; Ok and no message before the first one did. */
EXPORT("proxy_get_status") i32 proxy_get_status(gptr code_out, gptr message_out, gptr size_out) {
  ENTER();
  if (!guest_store32(code_out, received.status)) return INVALID_MEMORY_ACCESS;
  return give(received.message.data, received.message.size, message_out, size_out);
}

/* --- header maps */

/* Later plugins changed a head: few plugins that log look at it, so it comes when one does. */
static void renew_head(Context *c, u32 type) {
  c->stale &= (u8)~(1u << type);
  op = (Op){.number = {type}};
  if (call_op(OP_FINAL_HEAD, c) != OK) return;
  Map *m = c->maps + type, before = *m;
  i32 read = type == REQUEST_HEADERS ? (m->count = 0, parse_request(c, io.data, op.out_size, "http", 4)) : parse_response(c, io.data, op.out_size);
  if (!read) *m = before;
}

static Map *map_of(Context *c, u32 type) {
  if (type >= MAPS) return received_map(type);
  if (c && c->stale >> type & 1) renew_head(c, type);
  return c && c->maps[type].present ? c->maps + type : NULL;
}

static i32 lowered_key(u32 type, gptr key, u32 n, u8 **to, u32 *size) {
  TRY(take(key, n, to));
  lower(*to, n);
  if (type == REQUEST_HEADERS && IS(*to, n, "host")) { *to = (u8 *)":authority"; n = 10; } /* one field under two names, as in Envoy */
  *size = n;
  return OK;
}

EXPORT("proxy_get_header_map_size") i32 proxy_get_header_map_size(u32 type, gptr size_out) {
  ENTER();
  if (type > LAST_MAP_TYPE) return BAD_ARGUMENT;
  const Map *m = map_of(current(), type);
  return guest_store32(size_out, m ? pairs_size(m) : 0) ? OK : INVALID_MEMORY_ACCESS;
}

EXPORT("proxy_get_header_map_pairs") i32 proxy_get_header_map_pairs(u32 type, gptr pairs_out, gptr size_out) {
  ENTER();
  if (type > LAST_MAP_TYPE) return BAD_ARGUMENT;
  const Map *m = map_of(current(), type);
  if (!m) return give(NULL, 0, pairs_out, size_out);
  Map ordered = {0};
  if (apisix && (type == REQUEST_HEADERS || type == RESPONSE_HEADERS || type == CALL_RESPONSE_HEADERS)) {
    Arena *a = type == CALL_RESPONSE_HEADERS ? &received.arena : &current()->arena;
    if (!apisix_order(&ordered, m, type == REQUEST_HEADERS ? type : RESPONSE_HEADERS, a)) return INTERNAL_FAILURE;
    m = &ordered;
  }
  u32 n = pairs_size(m);
  if (!buffer_reserve(&out, n)) return INTERNAL_FAILURE;
  pairs_write(m, out.data);
  return give(out.data, n, pairs_out, size_out);
}

EXPORT("proxy_get_header_map_value")
i32 proxy_get_header_map_value(u32 type, gptr key, u32 key_size, gptr value_out, gptr size_out) {
  ENTER();
  if (type > LAST_MAP_TYPE) return BAD_ARGUMENT;
  u8 *name;
  u32 n;
  TRY(lowered_key(type, key, key_size, &name, &n));
  const Map *m = map_of(current(), type);
  const Field *f = m ? map_find(m, name, n) : NULL;
  if (f) return give(f->value, f->value_size, value_out, size_out);
  return m && abi == ABI_0_1_0 ? give(NULL, 0, value_out, size_out) : NOT_FOUND;
}

/* The map that may be changed now, or NULL. */
static Map *writable(Context *c, u32 type) {
  return c && type < MAPS && c->writable >> type & 1 ? c->maps + type : NULL;
}

static void changed(Context *c, u32 type, const u8 *name, u32 n) {
  if (!c->maps[type].present) { /* the plugin makes trailers where the message had none */
    c->maps[type].present = 1;
    record(c, F_TRAILERS);
  }
  c->maps[type].changed = 1;
  if (IS(name, n, ":status")) c->status_known = 0;
}

static i32 field_from_guest(Context *c, u32 type, gptr key, u32 key_size, gptr value, u32 value_size, Field *f) {
  u8 *name, *text;
  TRY(take_for(c, key, key_size, &name));
  TRY(take_for(c, value, value_size, &text));
  lower(name, key_size);
  u32 n = key_size;
  if (type == REQUEST_HEADERS && IS(name, n, "host")) { name = (u8 *)":authority"; n = 10; }
  if (!field_valid(type, name, n, text, value_size)) return BAD_ARGUMENT;
  *f = (Field){name, text, n, value_size};
  return OK;
}

static i32 write_field(u32 type, gptr key, u32 key_size, gptr value, u32 value_size, u32 add) {
  if (type > LAST_MAP_TYPE) return BAD_ARGUMENT;
  if (!guest_range(key, key_size) || !guest_range(value, value_size)) return INVALID_MEMORY_ACCESS;
  Context *c = current();
  Map *m = writable(c, type);
  if (!m) return BAD_ARGUMENT;
  if (apisix && !key_size) return OK; /* ignored there */
  Field f;
  TRY(field_from_guest(c, type, key, key_size, value, value_size, &f));
  if (apisix && IS(f.name, f.name_size, ":scheme")) return BAD_ARGUMENT; /* can be read only */
  Field *old = !add || f.name[0] == ':' ? map_find(m, f.name, f.name_size) : NULL;
  if (old) { /* a pseudo-header exists once: adding one replaces it */
    u32 at = (u32)(old - m->fields);
    Field *last = m->fields + m->count;
    u32 kept = at + 1;
    for (Field *g = old + 1; g < last; g++)
      if (!(g->name_size == f.name_size && same(g->name, f.name, f.name_size))) m->fields[kept++] = *g;
    m->count = kept;
    *old = f;
  } else if (!map_add(m, &c->arena, f.name, f.name_size, f.value, f.value_size)) return INTERNAL_FAILURE;
  changed(c, type, f.name, f.name_size);
  return OK;
}

EXPORT("proxy_add_header_map_value")
i32 proxy_add_header_map_value(u32 type, gptr key, u32 key_size, gptr value, u32 value_size) {
  ENTER();
  return write_field(type, key, key_size, value, value_size, 1);
}

EXPORT("proxy_replace_header_map_value")
i32 proxy_replace_header_map_value(u32 type, gptr key, u32 key_size, gptr value, u32 value_size) {
  ENTER();
  return write_field(type, key, key_size, value, value_size, 0);
}

EXPORT("proxy_remove_header_map_value") i32 proxy_remove_header_map_value(u32 type, gptr key, u32 key_size) {
  ENTER();
  if (type > LAST_MAP_TYPE) return BAD_ARGUMENT;
  u8 *name;
  u32 n;
  TRY(lowered_key(type, key, key_size, &name, &n));
  Context *c = current();
  Map *m = writable(c, type);
  if (!m || (apisix && n && name[0] == ':')) return BAD_ARGUMENT;
  if (map_remove(m, name, n)) changed(c, type, name, n);
  return OK;
}

EXPORT("proxy_set_header_map_pairs") i32 proxy_set_header_map_pairs(u32 type, gptr pairs, u32 n) {
  ENTER();
  if (type > LAST_MAP_TYPE) return BAD_ARGUMENT;
  if (!guest_range(pairs, n)) return INVALID_MEMORY_ACCESS;
  Context *c = current();
  Map *m = writable(c, type);
  if (!m) return BAD_ARGUMENT;
  u8 *bytes;
  TRY(take_for(c, pairs, n, &bytes));
  Map fresh = {NULL, 0, 0, 1, 1};
  if (!pairs_read(&fresh, &c->arena, bytes, n)) return BAD_ARGUMENT; /* nothing is applied, where Envoy would wipe the map */
  for (u32 i = 0; i < fresh.count; i++) {
    Field *f = fresh.fields + i;
    if (type == REQUEST_HEADERS && IS(f->name, f->name_size, "host")) { f->name = (const u8 *)":authority"; f->name_size = 10; }
    if (!field_valid(type, f->name, f->name_size, f->value, f->value_size)) return BAD_ARGUMENT;
  }
  *m = fresh;
  changed(c, type, (const u8 *)":status", 7);
  return OK;
}

/* --- buffers */

static Buffer *buffer_of(Context *c, u32 type) {
  switch (type) {
    case BUFFER_REQUEST_BODY:
    case BUFFER_RESPONSE_BODY:
    case BUFFER_DOWNSTREAM_DATA:
    case BUFFER_UPSTREAM_DATA:
      return c && c->root && c->is_tcp == type >> 1 && c->open_body >> (type & 1) & 1 ? c->body + (type & 1) : NULL;
    case BUFFER_VM_CONFIGURATION: return &vm_configuration;
    case BUFFER_PLUGIN_CONFIGURATION: { /* at any time: plugins made for APISIX read it while they serve */
      Context *root = c && c->root ? context_of(c->root) : c;
      return root ? root->body : NULL;
    }
    default: return received_body(type);
  }
}

EXPORT("proxy_get_buffer_bytes")
i32 proxy_get_buffer_bytes(u32 type, u32 start, u32 n, gptr bytes_out, gptr size_out) {
  ENTER();
  if (type > LAST_BUFFER_TYPE) return BAD_ARGUMENT;
  const Buffer *b = buffer_of(current(), type);
  if (!b && apisix && type <= BUFFER_RESPONSE_BODY) b = buffer_of(current(), !type); /* the body of now, by either name */
  if (!b) return NOT_FOUND;
  if (apisix) TRY(apisix_range(b, type, &start, &n));
  if (start >= b->size) return give(NULL, 0, bytes_out, size_out);
  if (n > b->size - start) n = b->size - start;
  return give(b->data + start, n, bytes_out, size_out);
}

EXPORT("proxy_get_configuration") i32 proxy_get_configuration(gptr bytes_out, gptr size_out) {
  ENTER();
  const Buffer *b = buffer_of(current(), starting ? BUFFER_VM_CONFIGURATION : BUFFER_PLUGIN_CONFIGURATION);
  return b ? give(b->data, b->size, bytes_out, size_out) : NOT_FOUND;
}

EXPORT("proxy_get_buffer_status") i32 proxy_get_buffer_status(u32 type, gptr size_out, gptr flags_out) {
  ENTER();
  if (type > LAST_BUFFER_TYPE) return BAD_ARGUMENT;
  const Buffer *b = buffer_of(current(), type);
  if (!b) return NOT_FOUND;
  return guest_store32(size_out, b->size) && guest_store32(flags_out, 0) ? OK : INVALID_MEMORY_ACCESS;
}

/* Replaces `size` bytes at `start` by the guest's: (0, 0) prepends, a start at or behind the end appends. */
EXPORT("proxy_set_buffer_bytes") i32 proxy_set_buffer_bytes(u32 type, u32 start, u32 size, gptr bytes, u32 n) {
  ENTER();
  if (type > BUFFER_UPSTREAM_DATA) return BAD_ARGUMENT; /* all others are read-only */
  if (!guest_range(bytes, n)) return INVALID_MEMORY_ACCESS;
  Context *c = current();
  Buffer *b = buffer_of(c, type);
  if (!b) return NOT_FOUND;
  if (start >= b->size) { start = b->size; size = 0; }
  if (size > b->size - start) size = b->size - start;
  u32 tail = b->size - start - size;
  u32 limit = b->size > body_limit ? b->size : body_limit; /* a piece that only passes through may be larger */
  if (n > limit || start + tail + n > limit || !buffer_reserve(b, start + tail + n)) return INTERNAL_FAILURE;
  __builtin_memmove(b->data + start + n, b->data + start + size, tail);
  b->size = start + n + tail;
  c->changed_body |= (u8)(1u << (type & 1));
  return guest_read(b->data + start, bytes, n) ? OK : INVALID_MEMORY_ACCESS;
}

/* --- streams */

static i32 stream_effect(u32 type, u32 request, u32 response) {
  ENTER();
  if (type > 3) return BAD_ARGUMENT;
  Context *c = current();
  if (!c || !c->root) return BAD_ARGUMENT;
  if (c->is_tcp == type >> 1) record(c, type & 1 ? response : request); /* of the other kind of stream: nothing, as in Envoy */
  return OK;
}

EXPORT("proxy_continue_stream") i32 proxy_continue_stream(u32 type) {
  return stream_effect(type, F_CONTINUE_REQUEST, F_CONTINUE_RESPONSE);
}
EXPORT("proxy_close_stream") i32 proxy_close_stream(u32 type) { return stream_effect(type, F_CLOSE, F_CLOSE); }
EXPORT("proxy_continue_request") i32 proxy_continue_request(void) { return proxy_continue_stream(0); }
EXPORT("proxy_continue_response") i32 proxy_continue_response(void) { return proxy_continue_stream(1); }

static i32 reply_headers_valid(Context *c, const u8 *pairs, u32 n) {
  Map m = {0};
  u8 *bytes = arena_copy(&c->arena, pairs, n);
  if (!bytes || !pairs_read(&m, &c->arena, bytes, n)) return 0;
  for (u32 i = 0; i < m.count; i++)
    if (!field_valid(RESPONSE_HEADERS, m.fields[i].name, m.fields[i].name_size, m.fields[i].value, m.fields[i].value_size)) return 0;
  return 1;
}

/* Takes effect when the callback returns. The first one counts; none does once the response is on its way. */
EXPORT("proxy_send_local_response")
i32 proxy_send_local_response(u32 status, gptr details, u32 details_size, gptr body, u32 body_size, gptr headers,
                              u32 headers_size, u32 grpc_status) {
  ENTER();
  if (!guest_range(details, details_size) || !guest_range(body, body_size) || !guest_range(headers, headers_size))
    return INVALID_MEMORY_ACCESS;
  if (status < 200 || status > 599) return BAD_ARGUMENT;
  Context *c = current();
  if (!c || !c->root || c->answered || c->reply.status) return OK;
  u8 *text, *pairs, *bytes;
  TRY(take_for(c, details, details_size, &text));
  TRY(take_for(c, headers, headers_size, &pairs));
  if (body_size > body_limit || !(bytes = arena_take_large(&c->arena, body_size))) return INTERNAL_FAILURE;
  if (!guest_read(bytes, body, body_size)) return INVALID_MEMORY_ACCESS;
  if (!reply_headers_valid(c, pairs, headers_size)) return BAD_ARGUMENT;
  c->reply = (LocalReply){status, c->is_grpc && grpc_status <= 16 ? grpc_status : ~0u, text, bytes, pairs,
                          details_size, body_size, headers_size};
  record(c, F_LOCAL_REPLY);
  return OK;
}

/* --- properties and foreign functions */

EXPORT("proxy_get_property") i32 proxy_get_property(gptr path, u32 n, gptr value_out, gptr size_out) {
  ENTER();
  u8 *p;
  TRY(take(path, n, &p));
  if (n && !p[n - 1]) n--;
  if (!n) return NOT_FOUND;
  const Context *c = current();
  Bytes value;
  if (c && c->root && property_of(c, p, n, &value)) return give(value.data, value.size, value_out, size_out);
  op.in[0][0] = ADDR(p); op.in[0][1] = n;
  TRY(call_op(OP_GET_PROPERTY, c));
  return give(io.data, op.out_size, value_out, size_out);
}

EXPORT("proxy_set_property") i32 proxy_set_property(gptr path, u32 n, gptr value, u32 value_size) {
  ENTER();
  if (!guest_range(path, n) || !guest_range(value, value_size)) return INVALID_MEMORY_ACCESS;
  Context *c = current();
  if (!c || !c->root) return NOT_FOUND;
  u8 *p, *v;
  TRY(take_for(c, path, n, &p));
  TRY(take_for(c, value, value_size, &v));
  if (n && !p[n - 1]) n--;
  if (apisix && apisix_asks_for_body(c, p, n, value_size)) return OK;
  op.in[0][0] = ADDR(p); op.in[0][1] = n;
  op.in[1][0] = ADDR(v); op.in[1][1] = value_size;
  return n ? call_op(OP_SET_PROPERTY, c) : NOT_FOUND;
}
