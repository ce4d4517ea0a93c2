/* Memory: power-of-two blocks from free lists, arenas of blocks for one stream, growable buffers for bodies. */
#include "core.h"

enum { MIN_CLASS = 12, MAX_CLASS = 27, HEADER = 16 }; /* 4 KiB to 128 MiB: a body limit of 64 MiB fits one block */
/* A stream's heads and everything that plugins write into them: 32 KiB each way is what the gateway lets in, the rest is the
 * plugins' room. */
enum { ARENA_LIMIT = 1 << 20 };

struct Block { Block *next; u32 class, used; };

static Block *free_blocks[MAX_CLASS + 1];

/* In a native test only so many bytes of a block may be touched: the sanitizer sees what the block's size would hide. */
#ifdef __wasm__
#define ONLY(data, n, room) ((void)0)
#else
void driver_only(void *data, u32 n, u32 room);
#define ONLY(data, n, room) driver_only(data, n, room)
#endif

#ifdef __wasm__
extern u8 __heap_base;
static u32 heap_top, heap_end;

static void *heap_take(u32 n) {
  if (!heap_top) {
    heap_top = (ADDR(&__heap_base) + 15) & ~15u;
    heap_end = (u32)__builtin_wasm_memory_size(0) << 16;
  }
  if (n > heap_end - heap_top) {
    u32 pages = (n - (heap_end - heap_top) + 65535) >> 16;
    if (__builtin_wasm_memory_grow(0, pages) == (u32)-1) return NULL;
    heap_end += pages << 16;
  }
  void *p = (void *)heap_top;
  heap_top += n;
  return p;
}
#else
void *driver_allocate(u32 n);
static void *heap_take(u32 n) { return driver_allocate(n); }
#endif

/* Eight bytes at a time. */
static inline u64 get64(const u8 *p) { u64 v; __builtin_memcpy(&v, p, 8); return v; }
static inline void put64(u8 *p, u64 v) { __builtin_memcpy(p, &v, 8); }
#define EACH(byte) (0x0101010101010101ull * (byte))

/* To another place, which does not overlap. */
static inline void copy(void *to, const void *from, u32 n) {
  u8 *d = to;
  const u8 *s = from;
  if (n > 128) { __builtin_memcpy(d, s, n); return; } /* memory.copy is a call out of compiled code: not for short strings */
  if (n >= 8) {
    for (u32 i = 0; i + 8 < n; i += 8) put64(d + i, get64(s + i));
    put64(d + n - 8, get64(s + n - 8)); /* the last ones, some of them again */
  } else if (n >= 4) {
    u32 first, last;
    __builtin_memcpy(&first, s, 4); __builtin_memcpy(&last, s + n - 4, 4);
    __builtin_memcpy(d, &first, 4); __builtin_memcpy(d + n - 4, &last, 4);
  } else if (n) {
    d[0] = s[0]; d[n >> 1] = s[n >> 1]; d[n - 1] = s[n - 1];
  }
}

/* The first `byte` from `p`, or `e`. */
static const u8 *find(const u8 *p, const u8 *e, u8 byte) {
  for (; e - p >= 8; p += 8) {
    u64 w = get64(p) ^ EACH(byte), zero = (w - EACH(1)) & ~w & EACH(0x80);
    if (zero) return p + (__builtin_ctzll(zero) >> 3);
  }
  while (p < e && *p != byte) p++;
  return p;
}

/* A to Z to a to z. */
static void lower(u8 *s, u32 n) {
  for (; n >= 8; n -= 8, s += 8) {
    u64 w = get64(s), low = w & EACH(0x7f);
    u64 capital = (low + EACH(0x80 - 'A')) & ~(low + EACH(0x80 - 'Z' - 1)) & ~w & EACH(0x80);
    put64(s, w | capital >> 2);
  }
  for (; n--; s++) if (*s >= 'A' && *s <= 'Z') *s |= 32;
}

static void clear(void *p, u32 n) { __builtin_memset(p, 0, n); }

static Block *block_take(u32 n) {
  u32 class = MIN_CLASS;
  while (class <= MAX_CLASS && (1u << class) - HEADER < n) class++;
  if (class > MAX_CLASS) return NULL;
  Block *b = free_blocks[class];
  if (b) free_blocks[class] = b->next;
  else if (!(b = heap_take(1u << class))) return NULL;
  b->class = class; b->used = 0; b->next = NULL;
  ONLY(b + 1, 0, (1u << class) - HEADER);
  return b;
}

static void block_free(Block *b) { b->next = free_blocks[b->class]; free_blocks[b->class] = b; }
static u32 block_room(const Block *b) { return (1u << b->class) - HEADER; }
static u8 *block_data(Block *b) { return (u8 *)b + HEADER; }

/* NULL when the stream is over its limit or memory is out. */
static void *arena_take(Arena *a, u32 n) {
  if (n > ARENA_LIMIT) return NULL;
  u32 asked = n;
  n = (n + 7) & ~7u;
  Block *b = a->blocks;
  if (!b || block_room(b) - b->used < n) {
    if (a->total + n > ARENA_LIMIT || !(b = block_take(n))) return NULL;
    b->next = a->blocks; a->blocks = b;
    a->total += block_room(b);
  }
  void *p = block_data(b) + b->used;
  b->used += n;
  ONLY(p, asked, n);
  return p;
}

/* Beside the limit, for what has one of its own: a block that nothing else goes into. */
static void *arena_take_large(Arena *a, u32 n) {
  Block *b = block_take(n ? n : 1);
  if (!b) return NULL;
  b->used = block_room(b);
  if (a->blocks) { b->next = a->blocks->next; a->blocks->next = b; }
  else a->blocks = b;
  ONLY(block_data(b), n ? n : 1, block_room(b));
  return block_data(b);
}

static void arena_free(Arena *a) {
  while (a->blocks) { Block *b = a->blocks; a->blocks = b->next; block_free(b); }
  a->total = 0;
}

static i32 buffer_reserve(Buffer *b, u32 n) {
  if (n <= b->capacity) { ONLY(b->data, n > b->size ? n : b->size, b->capacity); return 1; }
  Block *bigger = block_take(n);
  if (!bigger) return 0;
  ONLY(block_data(bigger), n, block_room(bigger));
  copy(block_data(bigger), b->data, b->size);
  if (b->block) block_free(b->block);
  b->block = bigger; b->data = block_data(bigger); b->capacity = block_room(bigger);
  return 1;
}

static void buffer_free(Buffer *b) {
  if (b->block) block_free(b->block);
  clear(b, sizeof *b);
}
