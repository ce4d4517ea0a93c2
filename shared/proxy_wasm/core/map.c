/* Header maps: fields in the order of the wire, names in lower case, pseudo-headers among them. */
#include "core.h"

enum { PAIRS_MAX_COUNT = 1024, PAIRS_MAX_SIZE = 1 << 20 }; /* as in Envoy's host */

static inline i32 same(const u8 *a, const u8 *b, u32 n) {
  for (; n >= 8; n -= 8, a += 8, b += 8) if (get64(a) != get64(b)) return 0;
  while (n--) if (*a++ != *b++) return 0;
  return 1;
}
#define IS(s, n, literal) ((n) == sizeof(literal) - 1 && same((s), (const u8 *)(literal), sizeof(literal) - 1))

static Field *map_find(const Map *m, const u8 *name, u32 n) {
  for (u32 i = 0; i < m->count; i++)
    if (m->fields[i].name_size == n && same(m->fields[i].name, name, n)) return m->fields + i;
  return NULL;
}
#define FIND(m, literal) map_find((m), (const u8 *)(literal), sizeof(literal) - 1)

static i32 map_reserve(Map *m, Arena *a, u32 n) {
  if (n <= m->capacity) return 1;
  u32 capacity = n + 16;
  Field *fields = arena_take(a, capacity * sizeof *fields);
  if (!fields) return 0;
  copy(fields, m->fields, m->count * sizeof *fields);
  m->fields = fields; m->capacity = capacity;
  return 1;
}

static i32 map_add(Map *m, Arena *a, const u8 *name, u32 n, const u8 *value, u32 vn) {
  if (!map_reserve(m, a, m->count + 1)) return 0;
  m->fields[m->count++] = (Field){name, value, n, vn};
  return 1;
}
#define ADD(m, a, literal, value, n) map_add((m), (a), (const u8 *)(literal), sizeof(literal) - 1, (value), (n))

static i32 map_remove(Map *m, const u8 *name, u32 n) {
  u32 kept = 0;
  for (u32 i = 0; i < m->count; i++)
    if (!(m->fields[i].name_size == n && same(m->fields[i].name, name, n))) m->fields[kept++] = m->fields[i];
  i32 removed = (i32)(m->count - kept);
  m->count = kept;
  return removed;
}

/* --- what may stand in a map: RFC 9110, sections 5.1 and 5.5, and the pseudo-headers of the ABI */

static const u8 token_bits[32] = { /* RFC 9110, section 5.6.2: tchar */
  0, 0, 0, 0, 0xfa, 0x6c, 0xff, 0x03, 0xfe, 0xff, 0xff, 0xc7, 0xff, 0xff, 0xff, 0x57};
static inline i32 is_token(u8 c) { return token_bits[c >> 3] >> (c & 7) & 1; }

static i32 all_token(const u8 *s, u32 n) {
  if (!n) return 0;
  while (n--) if (!is_token(*s++)) return 0;
  return 1;
}

/* No CR, LF or NUL, nor any other control but TAB: none of them can leave as one field value. */
static i32 value_valid(const u8 *s, u32 n) {
  while (n--) { u8 c = *s++; if ((c < 32 && c != 9) || c == 127) return 0; }
  return 1;
}

static i32 visible(const u8 *s, u32 n) {
  if (!n) return 0;
  while (n--) { u8 c = *s++; if (c <= 32 || c == 127) return 0; }
  return 1;
}

/* Of a final response: with an interim one in its place the client would wait for another. */
static i32 status_valid(const u8 *s, u32 n) {
  return n == 3 && s[0] >= '2' && s[0] <= '5' && s[1] >= '0' && s[1] <= '9' && s[2] >= '0' && s[2] <= '9';
}

static i32 field_valid(u32 type, const u8 *name, u32 n, const u8 *value, u32 vn) {
  if (!n || name[0] != ':') return all_token(name, n) && value_valid(value, vn);
  if (type == REQUEST_HEADERS) {
    if (IS(name, n, ":method")) return all_token(value, vn);
    if (IS(name, n, ":path") || IS(name, n, ":authority")) return visible(value, vn);
    return IS(name, n, ":scheme") && all_token(value, vn);
  }
  return type == RESPONSE_HEADERS && IS(name, n, ":status") && status_valid(value, vn);
}

/* --- serialization: count, (name size, value size) each, then name NUL value NUL each; little endian */

static u32 get32(const u8 *p) { u32 v; __builtin_memcpy(&v, p, 4); return v; }
static u8 *put32(u8 *p, u32 v) { __builtin_memcpy(p, &v, 4); return p + 4; }

static u32 pairs_size(const Map *m) {
  u32 n = 4;
  for (u32 i = 0; i < m->count; i++) n += 10 + m->fields[i].name_size + m->fields[i].value_size;
  return n;
}

static void pairs_write(const Map *m, u8 *out) {
  u8 *o = put32(out, m->count);
  for (u32 i = 0; i < m->count; i++) { o = put32(o, m->fields[i].name_size); o = put32(o, m->fields[i].value_size); }
  for (u32 i = 0; i < m->count; i++) {
    const Field *f = m->fields + i;
    copy(o, f->name, f->name_size); o += f->name_size; *o++ = 0;
    copy(o, f->value, f->value_size); o += f->value_size; *o++ = 0;
  }
}

/* Reads pairs into an empty map whose fields point into `in`; names are lowered there. Empty, one zero byte and a zero count
 * are all the empty map. 0 when malformed. */
static i32 pairs_read(Map *m, Arena *a, u8 *in, u32 n) {
  if (n == 0 || (n == 1 && in[0] == 0)) return 1;
  if (n < 4 || n > PAIRS_MAX_SIZE) return 0;
  u32 count = get32(in);
  if (count > PAIRS_MAX_COUNT || 4 + count * 8 > n || !map_reserve(m, a, count)) return 0;
  u32 at = 4 + count * 8;
  for (u32 i = 0; i < count; i++) {
    u32 name_size = get32(in + 4 + i * 8), value_size = get32(in + 8 + i * 8);
    if (name_size >= n - at) return 0;
    u8 *name = in + at;
    at += name_size + 1;
    if (at > n || in[at - 1] || value_size >= n - at) return 0;
    u8 *value = in + at;
    at += value_size + 1;
    if (at > n || in[at - 1]) return 0;
    lower(name, name_size);
    m->fields[m->count++] = (Field){name, value, name_size, value_size};
  }
  return at == n;
}
