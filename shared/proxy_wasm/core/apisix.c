/* The dialect of APISIX, where its Wasm host differs from Envoy's and from the specification: a plugin of this VM sees bodies
 * only after it asked for them, maps in another order, and other answers about buffers and pseudo-headers.
 *
 * The law: every difference stands here, and asks `apisix` first; the rest of the host is the same for both. */
#include "core.h"

static u8 apisix;

EXPORT("set_apisix") void set_apisix(void) { apisix = 1; }

/* Of wasm_process_req_body and wasm_process_resp_body: any value but the empty one asks for bodies, on this stream. */
static i32 apisix_asks_for_body(Context *c, const u8 *path, u32 n, u32 value_size) {
  u32 bit = IS(path, n, "wasm_process_req_body") ? 1 : IS(path, n, "wasm_process_resp_body") ? 2 : 0;
  if (!bit) return 0;
  c->wants_body = (u8)((c->wants_body & ~bit) | (value_size ? bit : 0));
  return 1;
}

enum { HEARS, PASSES, HOLDS };

/* A request's body comes as a whole, a response's piece by piece. */
static u32 apisix_body(const Context *c, u32 direction, u32 eos) {
  if (!(c->wants_body >> direction & 1)) return PASSES;
  return direction || eos ? HEARS : HOLDS;
}

/* Real fields first, a request's `host` among them; then the pseudo-headers. 0 when room is out. */
static i32 apisix_order(Map *to, const Map *from, u32 type, Arena *a) {
  static const char *const names[2][4] = {{":scheme", ":path", ":method", ":authority"}, {":status"}};
  if (!map_reserve(to, a, from->count + 1)) return 0;
  const Field *authority = type == REQUEST_HEADERS ? FIND(from, ":authority") : NULL;
  if (authority && authority->value_size) ADD(to, a, "host", authority->value, authority->value_size);
  for (u32 i = 0; i < from->count; i++)
    if (!from->fields[i].name_size || from->fields[i].name[0] != ':') to->fields[to->count++] = from->fields[i];
  for (u32 i = 0; i < 4 && names[type == RESPONSE_HEADERS][i]; i++) {
    const char *name = names[type == RESPONSE_HEADERS][i];
    const Field *f = map_find(from, (const u8 *)name, text_size(name));
    if (f) to->fields[to->count++] = *f;
  }
  return 1;
}

/* An empty buffer is not there, and a range that has nothing in it is a mistake; configurations are given whole. */
static i32 apisix_range(const Buffer *b, u32 type, u32 *start, u32 *n) {
  if (!b->size) return NOT_FOUND;
  if (type >= BUFFER_VM_CONFIGURATION) { *start = 0; *n = b->size; return OK; }
  return (i32)*start < 0 || (i32)*n <= 0 || *start >= b->size ? BAD_ARGUMENT : OK;
}
