/* Heads: an HTTP/1 head that llhttp has accepted becomes a map, and a map becomes an open head (no framing, no empty line). */
#include "core.h"

/* Field lines from p to e into the map; `host` becomes :authority. 0 when they are not lines or room is out. */
static i32 parse_fields(Map *m, Arena *a, u8 *p, u8 *e) {
  while (p < e && *p != '\r') {
    u8 *name = p;
    p = (u8 *)find(p, e, ':');
    u32 name_size = (u32)(p - name);
    if (p++ >= e) return 0;
    lower(name, name_size);
    while (p < e && (*p == ' ' || *p == '\t')) p++;
    u8 *value = p;
    p = (u8 *)find(p, e, '\r');
    if (e - p < 2) return 0;
    u8 *end = p;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
    p += 2;
    Field *authority;
    if (IS(name, name_size, "host") && (authority = FIND(m, ":authority"))) {
      authority->value = value; authority->value_size = (u32)(end - value);
    } else if (!map_add(m, a, name, name_size, value, (u32)(end - value))) return 0;
  }
  return 1;
}

static u8 *arena_copy(Arena *a, const u8 *s, u32 n) {
  u8 *p = arena_take(a, n ? n : 1);
  if (p) copy(p, s, n);
  return p;
}

/* Fields that most heads have room for, with what plugins add; a map grows when there are more. */
enum { USUAL_FIELDS = 16 };

/* `application/grpc` and its kinds, such as `application/grpc+proto`; gRPC-Web is another protocol. */
static i32 grpc_type(const u8 *s, u32 n) {
  return n >= 16 && same(s, (const u8 *)"application/grpc", 16) && (n == 16 || s[16] == '+' || s[16] == ';');
}

/* The gateway says at the end of a head how the client came; as in Envoy that is the scheme. */
static i32 came_by_tls(const Map *m) {
  for (u32 i = m->count; i-- > 0;)
    if (IS(m->fields[i].name, m->fields[i].name_size, "x-forwarded-proto"))
      return IS(m->fields[i].value, m->fields[i].value_size, "https");
  return 0;
}

/* `METHOD TARGET HTTP/1.1` and fields. Pseudo-headers stand first, in Envoy's order. */
static i32 parse_request(Context *c, const u8 *head, u32 n, const char *scheme, u32 scheme_size) {
  Map *m = c->maps + REQUEST_HEADERS;
  u8 *p = arena_copy(&c->arena, head, n), *e = p + n;
  if (!p || !map_reserve(m, &c->arena, USUAL_FIELDS)) return 0;
  u8 *method = p;
  while (p < e && *p != ' ') p++;
  u32 method_size = (u32)(p - method);
  u8 *target = ++p;
  p = (u8 *)find(p, e, ' ');
  u32 target_size = (u32)(p - target);
  p = (u8 *)find(p, e, '\n');
  if (p >= e) return 0;
  ADD(m, &c->arena, ":authority", (const u8 *)"", 0);
  ADD(m, &c->arena, ":path", target, target_size);
  ADD(m, &c->arena, ":method", method, method_size);
  ADD(m, &c->arena, ":scheme", (const u8 *)scheme, scheme_size);
  u32 pseudo = m->count;
  if (!parse_fields(m, &c->arena, p + 1, e)) return 0;
  if (came_by_tls(m)) { m->fields[pseudo - 1].value = (const u8 *)"https"; m->fields[pseudo - 1].value_size = 5; }
  Field *type = FIND(m, "content-type");
  c->is_grpc = type && grpc_type(type->value, type->value_size);
  m->present = 1; m->changed = 0;
  return 1;
}

/* `HTTP/1.1 STATUS REASON` and fields. A second response on the stream (a local reply) takes the first one's place. */
static i32 parse_response(Context *c, const u8 *head, u32 n) {
  Map *m = c->maps + RESPONSE_HEADERS;
  u8 *p = arena_copy(&c->arena, head, n), *e = p + n;
  m->count = 0;
  if (!p || n < 14 || !map_reserve(m, &c->arena, USUAL_FIELDS)) return 0;
  ADD(m, &c->arena, ":status", p + 9, 3);
  const u8 *reason = p += 12;
  p = (u8 *)find(p, e, '\r');
  if (e - p < 2) return 0;
  c->reason = reason; c->reason_size = (u32)(p - reason); /* with its leading space, or empty */
  c->status_known = 1;
  if (!parse_fields(m, &c->arena, p + 2, e)) return 0;
  m->present = 1; m->changed = 0;
  return 1;
}

/* RFC 9110, sections 7.6.1 and 7.8: these are the connection's and the exchange's, whatever a plugin wrote. */
static i32 is_framing(const u8 *s, u32 n) {
  switch (n) {
    case 2: return IS(s, n, "te");
    case 7: return IS(s, n, "upgrade") || IS(s, n, "trailer");
    case 10: return IS(s, n, "connection") || IS(s, n, "keep-alive");
    case 14: return IS(s, n, "content-length");
    case 16: return IS(s, n, "proxy-connection");
    case 17: return IS(s, n, "transfer-encoding");
    default: return 0;
  }
}

static const char *reason_of(u32 status) {
  switch (status) {
#define R(code, text) case code: return " " text;
    R(200, "OK") R(201, "Created") R(202, "Accepted") R(203, "Non-Authoritative Information") R(204, "No Content")
    R(205, "Reset Content") R(206, "Partial Content") R(300, "Multiple Choices") R(301, "Moved Permanently") R(302, "Found")
    R(303, "See Other") R(304, "Not Modified") R(307, "Temporary Redirect") R(308, "Permanent Redirect")
    R(400, "Bad Request") R(401, "Unauthorized") R(402, "Payment Required") R(403, "Forbidden") R(404, "Not Found")
    R(405, "Method Not Allowed") R(406, "Not Acceptable") R(408, "Request Timeout") R(409, "Conflict") R(410, "Gone")
    R(411, "Length Required") R(412, "Precondition Failed") R(413, "Content Too Large") R(414, "URI Too Long")
    R(415, "Unsupported Media Type") R(416, "Range Not Satisfiable") R(417, "Expectation Failed")
    R(421, "Misdirected Request") R(422, "Unprocessable Content") R(425, "Too Early") R(426, "Upgrade Required")
    R(428, "Precondition Required") R(429, "Too Many Requests") R(431, "Request Header Fields Too Large")
    R(451, "Unavailable For Legal Reasons") R(500, "Internal Server Error") R(501, "Not Implemented")
    R(502, "Bad Gateway") R(503, "Service Unavailable") R(504, "Gateway Timeout") R(505, "HTTP Version Not Supported")
#undef R
    default: return " ";
  }
}

static u8 *put(u8 *o, const void *s, u32 n) { copy(o, s, n); return o + n; }
static u32 text_size(const char *s) { u32 n = 0; while (s[n]) n++; return n; }

static u8 *emit_fields(const Map *m, u8 *o) {
  for (u32 i = 0; i < m->count; i++) {
    const Field *f = m->fields + i;
    if (f->name[0] == ':' || is_framing(f->name, f->name_size)) continue;
    o = put(o, f->name, f->name_size);
    *o++ = ':'; *o++ = ' ';
    o = put(o, f->value, f->value_size);
    *o++ = '\r'; *o++ = '\n';
  }
  return o;
}

/* The open head of map `type`, in `out`; 0 when a pseudo-header that it cannot do without was removed or room is out. */
static u32 emit_head(const Context *c, u32 type, Buffer *out) {
  const Map *m = c->maps + type;
  if (!buffer_reserve(out, pairs_size(m) + c->reason_size + 128)) return 0;
  u8 *o = out->data;
  if (type == REQUEST_HEADERS) {
    const Field *method = FIND(m, ":method"), *path = FIND(m, ":path"), *authority = FIND(m, ":authority");
    if (!method || !path || !authority) return 0;
    o = put(o, method->value, method->value_size);
    *o++ = ' ';
    o = put(o, path->value, path->value_size);
    o = put(o, " HTTP/1.1\r\nhost: ", 17);
    o = put(o, authority->value, authority->value_size);
  } else {
    const Field *status = FIND(m, ":status");
    if (!status) return 0;
    const u8 *s = status->value;
    o = put(o, "HTTP/1.1 ", 9);
    o = put(o, s, 3);
    if (c->status_known && c->reason_size) o = put(o, c->reason, c->reason_size);
    else {
      const char *reason = reason_of((s[0] - '0') * 100u + (s[1] - '0') * 10u + (s[2] - '0'));
      o = put(o, reason, text_size(reason));
    }
  }
  *o++ = '\r'; *o++ = '\n';
  return (u32)(emit_fields(m, o) - out->data);
}
