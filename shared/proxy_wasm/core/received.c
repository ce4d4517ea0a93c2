/* What a call brought back, and the callbacks about it.
 *
 * The law: the maps and the body of a call can be read in the callback about it and by nobody afterwards; the status and the
 * message of the last call that ended stay. One callback runs at a time, so a VM needs these once. */
#include "core.h"

enum { CALL_HTTP_RESPONSE, CALL_GRPC_INITIAL_METADATA, CALL_GRPC_MESSAGE, CALL_GRPC_TRAILING_METADATA, CALL_GRPC_CLOSE,
       CALL_FOREIGN_FUNCTION };

static struct {
  Map maps[LAST_MAP_TYPE + 1 - MAPS];
  Arena arena;
  Buffer body, message;
  u32 body_type, status;
} received;

static Map *received_map(u32 type) { return received.maps[type - MAPS].present ? &received.maps[type - MAPS] : NULL; }
static Buffer *received_body(u32 type) { return received.body_type && received.body_type == type ? &received.body : NULL; }

/* --- for Python: what the next callback is about is in `io` */

EXPORT("receive_map") i32 receive_map(u32 type, u32 n) {
  Map *m = &received.maps[type - MAPS];
  clear(m, sizeof *m);
  u8 *pairs = arena_copy(&received.arena, io.data, n);
  if (!pairs || !pairs_read(m, &received.arena, pairs, n)) return NO_ROOM;
  m->present = 1;
  return 1;
}

EXPORT("receive_body") i32 receive_body(u32 type, u32 n) {
  received.body_type = type;
  return keep(&received.body, n) ? 1 : NO_ROOM;
}

EXPORT("receive_status") i32 receive_status(u32 status, u32 n) {
  received.status = status;
  return keep(&received.message, n) ? 1 : NO_ROOM;
}

static u32 fields_of(u32 type) { return received.maps[type - MAPS].count; }

static void call_ended(u32 stream) {
  Context *c = context_of(stream);
  if (!c || !c->root || !c->calls) return;
  c->calls--;
  if (waits_for_calls && !c->calls) record(c, F_CONTINUE_REQUEST);
}

/* `stream` is the HttpContext that made the HTTP call, 0 for none that is still there. */
EXPORT("root_call") void root_call(u32 id, u32 event, u32 call, u32 stream) {
  enter(contexts[id]);
  switch (event) {
    case CALL_HTTP_RESPONSE:
      on_http_call_response(id, call, fields_of(CALL_RESPONSE_HEADERS), received.body.size, fields_of(CALL_RESPONSE_TRAILERS));
      call_ended(stream);
      break;
    case CALL_GRPC_INITIAL_METADATA: on_grpc_receive_initial_metadata(id, call, fields_of(GRPC_INITIAL_METADATA)); break;
    case CALL_GRPC_MESSAGE: on_grpc_receive(id, call, received.body.size); break;
    case CALL_GRPC_TRAILING_METADATA: on_grpc_receive_trailing_metadata(id, call, fields_of(GRPC_TRAILING_METADATA)); break;
    case CALL_FOREIGN_FUNCTION: on_foreign_function(id, call, received.body.size); break;
    default: on_grpc_close(id, call, received.status);
  }
  clear(received.maps, sizeof received.maps);
  arena_free(&received.arena);
  buffer_free(&received.body);
  received.body_type = 0;
}
