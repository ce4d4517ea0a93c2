/* Trailers: field lines after a body, of both directions, that came with the message or that a plugin made.
 *
 * The law: trailers come after the last piece of a body, which then does not end the stream. A message that came without them
 * gets some from a plugin that writes into the map while the last piece is its own. */
#include "core.h"

static u32 trailers_of(u32 direction) { return direction ? RESPONSE_TRAILERS : REQUEST_TRAILERS; }

static u32 emit_trailers(Map *m) {
  m->changed = 0;
  if (!buffer_reserve(&out, pairs_size(m))) return 0;
  return (u32)(emit_fields(m, out.data) - out.data);
}

/* They go on, and are closed for changes. Changed ones may be nothing at all, so their size alone says too little. */
static i32 release_trailers(Context *c, u32 type) {
  Map *m = c->maps + type;
  c->writable &= (u8)~(1u << type);
  if (!m->changed) return settle(c, 0, 0);
  u32 n = emit_trailers(m);
  c->effects |= F_CHANGED;
  settle(c, 0, 0);
  result.out = ADDR(out.data); result.out_size = n;
  return LOOK;
}

/* APISIX has no trailers: they are the end of the body there, which a plugin that waits for all of it must not miss. */
static i32 apisix_end_body(Context *c, u32 direction) {
  Buffer *b = c->body + direction;
  if (!(c->wants_body >> direction & 1)) return settle(c, 0, 0);
  c->open_body |= (u8)(1u << direction);
  u32 action = (u32)(direction ? on_response_body(c->id, b->size, 1) : on_request_body(c->id, b->size, 1));
  if (waits_for_calls && !direction) action = await_calls(c, action);
  if (c->effects & (F_LOCAL_REPLY | F_CLOSE) || action == 1 || action == 2) return settle(c, 1, 0);
  c->open_body &= (u8)~(1u << direction);
  if (action >= DROP) b->size = 0;
  return settle(c, 0, 0);
}

/* The field lines are in `io`. */
EXPORT("trailers") i32 trailers(u32 id, u32 direction, u32 n, u32 flags) {
  Context *c = contexts[id];
  u32 type = trailers_of(direction);
  Map *m = c->maps + type;
  u8 *p = arena_copy(&c->arena, io.data, n);
  m->count = 0;
  if (!p || !map_reserve(m, &c->arena, USUAL_FIELDS) || !parse_fields(m, &c->arena, p, p + n)) return NO_ROOM;
  m->present = 1; m->changed = 0;
  if (flags & SILENT) return 0;
  enter(c);
  if (apisix) return apisix_end_body(c, direction);
  c->writable |= (u8)(1u << type);
  c->open_body |= c->body[direction].size ? (u8)(1u << direction) : 0; /* a held body is still the plugin's */
  u32 action = (u32)(direction ? on_response_trailers(id, m->count) : on_request_trailers(id, m->count));
  if (c->effects & (F_LOCAL_REPLY | F_CLOSE)) return settle(c, 1, 0);
  return action ? settle(c, 1, 0) : release_trailers(c, type);
}

/* After a pause in trailers, or when a plugin made some in its last piece of the body: as they stand now. */
EXPORT("take_trailers") i32 take_trailers(u32 id, u32 direction) {
  Context *c = contexts[id];
  enter(c);
  return release_trailers(c, trailers_of(direction));
}
