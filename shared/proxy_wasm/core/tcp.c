/* TCP streams: the bytes of a connection in both directions, and the ends of its two sides.
 *
 * A Context with `is_tcp` has no maps, and its bodies are its bytes: [0] from the client (downstream), [1] from the upstream.
 * A session may stay open for days, so what its bytes took goes back with the callback that let them go on. */
#include "core.h"

EXPORT("new_connection") i32 new_connection(u32 id, u32 root) {
  Context *c = stream(id, root);
  if (!c) return NO_ROOM;
  c->is_tcp = c->created = 1;
  c->answered = 1; /* there is nobody to take a local reply */
  on_context_create(id, root);
  effective = NULL;
  u32 action = (u32)on_new_connection(id);
  return settle(c, action || c->effects & F_CLOSE, 0);
}

static u32 release_bytes(Context *c, u32 direction) {
  Buffer *b = c->body + direction;
  u32 n = b->size;
  c->open_body &= (u8)~(1u << direction);
  result.out = ADDR(b->data); result.out_size = n;
  buffer_free(b); /* the bytes stay where they are until memory is taken again: Python reads them first */
  return n;
}

/* The piece is in `io`. Anything but Continue holds what there is, and the next callback sees all of it. */
EXPORT("tcp_data") i32 tcp_data(u32 id, u32 direction, u32 n, u32 eos) {
  Context *c = contexts[id];
  Buffer *b = c->body + direction;
  u32 held = b->size;
  if (!buffer_reserve(b, held + n)) return NO_ROOM;
  copy(b->data + held, io.data, n);
  b->size = held + n;
  enter(c);
  c->open_body |= (u8)(1u << direction);
  c->changed_body &= (u8)~(1u << direction);
  u32 action = (u32)(direction ? on_upstream_data(id, b->size, eos) : on_downstream_data(id, b->size, eos));
  if (action || c->effects & F_CLOSE) return settle(c, 1, 0);
  if (!held && !(c->changed_body >> direction & 1)) {
    release_bytes(c, direction);
    return settle(c, 0, 0);
  }
  c->effects |= F_CHANGED;
  settle(c, 0, 0);
  release_bytes(c, direction);
  return LOOK;
}

/* While paused: how much is held, and all of it, to go on. */
EXPORT("tcp_held") u32 tcp_held(u32 id, u32 direction) { return contexts[id]->body[direction].size; }
EXPORT("tcp_take") u32 tcp_take(u32 id, u32 direction) { return release_bytes(contexts[id], direction); }

/* The connection to the client (0) or to the upstream (1) is gone. Nothing that the plugin asks for has an effect on it. */
EXPORT("tcp_closed") i32 tcp_closed(u32 id, u32 direction, u32 n, u32 peer) {
  (void)n;
  Context *c = contexts[id];
  enter(c);
  if (direction) on_upstream_connection_close(id, peer);
  else on_downstream_connection_close(id, peer);
  c->effects = 0;
  return settle(c, 0, 0);
}
