/* Properties that the maps can answer; Python knows the rest (properties.py). Segments of a path are joined by NUL.
 * Values are encoded as in Envoy: strings raw, integers in 8 bytes little endian, a map as pairs. */
#include "core.h"

typedef struct { const u8 *data; u32 size; } Bytes;

static u64 integer_property;

static i32 field_bytes(const Field *f, Bytes *value) {
  if (!f) return 0;
  *value = (Bytes){f->value, f->value_size};
  return 1;
}

static i32 path_part(const Map *m, u32 query, Bytes *value) {
  const Field *f = FIND(m, ":path");
  if (!f) return 0;
  u32 at = 0;
  while (at < f->value_size && f->value[at] != '?') at++;
  if (query && at < f->value_size) at++;
  *value = query ? (Bytes){f->value + at, f->value_size - at} : (Bytes){f->value, at};
  return 1;
}

/* All values of a name, joined by commas, as in Envoy. */
static i32 joined_values(const Map *m, const u8 *name, u32 n, Bytes *value) {
  const Field *first = map_find(m, name, n), *end = m->fields + m->count;
  if (!first) return 0;
  *value = (Bytes){first->value, first->value_size};
  u32 total = first->value_size;
  for (const Field *f = first + 1; f < end; f++)
    if (f->name_size == n && same(f->name, name, n)) total += 1 + f->value_size;
  if (total == first->value_size) return 1;
  if (!buffer_reserve(&out, total)) return 0;
  u8 *o = out.data;
  for (const Field *f = first; f < end; f++) {
    if (f->name_size != n || !same(f->name, name, n)) continue;
    if (f != first) *o++ = ',';
    copy(o, f->value, f->value_size);
    o += f->value_size;
  }
  *value = (Bytes){out.data, total};
  return 1;
}

/* `headers` is the whole map, `headers` NUL name one value; the name is compared as given: map keys are in lower case. */
static i32 headers_property(const Map *m, const u8 *rest, u32 n, Bytes *value) {
  if (n) return joined_values(m, rest + 1, n - 1, value);
  u32 size = pairs_size(m);
  if (!buffer_reserve(&out, size)) return 0;
  pairs_write(m, out.data);
  *value = (Bytes){out.data, size};
  return 1;
}

static i32 trailers_property(const Context *c, u32 type, const u8 *rest, u32 n, Bytes *value) {
  return c->maps[type].present && headers_property(c->maps + type, rest, n, value);
}

static i32 request_property(const Map *m, const u8 *s, u32 n, Bytes *value) {
  if (IS(s, n, "path")) return field_bytes(FIND(m, ":path"), value);
  if (IS(s, n, "url_path")) return path_part(m, 0, value);
  if (IS(s, n, "query")) return path_part(m, 1, value);
  if (IS(s, n, "host")) return field_bytes(FIND(m, ":authority"), value);
  if (IS(s, n, "scheme")) return field_bytes(FIND(m, ":scheme"), value);
  if (IS(s, n, "method")) return field_bytes(FIND(m, ":method"), value);
  if (IS(s, n, "referer")) return field_bytes(FIND(m, "referer"), value);
  if (IS(s, n, "useragent")) return field_bytes(FIND(m, "user-agent"), value);
  if (IS(s, n, "id")) return field_bytes(FIND(m, "x-request-id"), value);
  return 0;
}

static i32 response_code(const Map *m, Bytes *value) {
  const Field *f = FIND(m, ":status");
  if (!f) return 0;
  integer_property = (u64)((f->value[0] - '0') * 100 + (f->value[1] - '0') * 10 + (f->value[2] - '0'));
  *value = (Bytes){(const u8 *)&integer_property, 8};
  return 1;
}

/* In trailers, or in the head of a response that is nothing else. */
static i32 grpc_status(const Context *c, Bytes *value) {
  const Field *f = FIND(c->maps + RESPONSE_TRAILERS, "grpc-status");
  if (!f) f = FIND(c->maps + RESPONSE_HEADERS, "grpc-status");
  if (!f || !f->value_size || f->value_size > 2) return 0;
  integer_property = 0;
  for (u32 i = 0; i < f->value_size; i++) {
    if (f->value[i] < '0' || f->value[i] > '9') return 0;
    integer_property = integer_property * 10 + (u64)(f->value[i] - '0');
  }
  *value = (Bytes){(const u8 *)&integer_property, 8};
  return 1;
}

#define UNDER(s, n, literal) ((n) >= sizeof(literal) - 1 && same((s), (const u8 *)(literal), sizeof(literal) - 1) && \
                              ((n) == sizeof(literal) - 1 || !(s)[sizeof(literal) - 1]))

static i32 property_of(const Context *c, const u8 *path, u32 n, Bytes *value) {
  const Map *request = c->maps + REQUEST_HEADERS, *response = c->maps + RESPONSE_HEADERS;
  if (request->present && UNDER(path, n, "request\0headers")) return headers_property(request, path + 15, n - 15, value);
  if (response->present && UNDER(path, n, "response\0headers")) return headers_property(response, path + 16, n - 16, value);
  if (response->present && IS(path, n, "response\0code")) return response_code(response, value);
  if (response->present && IS(path, n, "response\0grpc_status")) return grpc_status(c, value);
  if (UNDER(path, n, "request\0trailers")) return trailers_property(c, REQUEST_TRAILERS, path + 16, n - 16, value);
  if (UNDER(path, n, "response\0trailers")) return trailers_property(c, RESPONSE_TRAILERS, path + 17, n - 17, value);
  if (request->present && n > 8 && same(path, (const u8 *)"request\0", 8)) return request_property(request, path + 8, n - 8, value);
  return 0;
}
