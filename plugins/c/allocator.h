/* Memory for a plugin without a C library: `allocate` and `deallocate`, and the allocator that the host calls.
 *
 * The law: a block is a power of two and remembers which; a released block waits in its size's list for the next request
 * of that size. Nothing is ever given back to the host, so the memory stays at the highest need that there was at once. */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

#include "proxy_wasm.h"

#define WASM_PAGE 65536u
/* The smallest block is the 8-byte header and 8 bytes of use; every use is aligned to 8, enough for all of C's integers. */
#define SMALLEST_BLOCK_BITS 4u
#define LARGEST_BLOCK_BITS 26u

struct block {
    uint32_t bits;
    struct block *next;
};

static struct block *released[LARGEST_BLOCK_BITS + 1];
static uintptr_t fresh, fresh_end;

static struct block *carve(uint32_t bits) {
    uintptr_t size = (uintptr_t)1 << bits;
    if (fresh_end - fresh < size) {
        uintptr_t pages = (size + WASM_PAGE - 1) / WASM_PAGE;
        uintptr_t before = __builtin_wasm_memory_grow(0, pages);
        if (before == UINTPTR_MAX) return NULL;
        /* Memory that the host or the linker put in between makes the two areas not adjoin: the old rest is left. */
        if (before * WASM_PAGE != fresh_end) fresh = before * WASM_PAGE;
        fresh_end = (before + pages) * WASM_PAGE;
    }
    struct block *block = (struct block *)fresh;
    fresh += size;
    block->bits = bits;
    return block;
}

/* NULL when the host grants no more memory. */
static void *allocate(size_t size) {
    uint32_t bits = SMALLEST_BLOCK_BITS;
    while (bits <= LARGEST_BLOCK_BITS && ((size_t)1 << bits) - sizeof(struct block) < size) bits++;
    if (bits > LARGEST_BLOCK_BITS) return NULL;
    struct block *block = released[bits];
    if (block != NULL) released[bits] = block->next;
    else if ((block = carve(bits)) == NULL) return NULL;
    return block + 1;
}

static void deallocate(void *pointer) {
    if (pointer == NULL) return;
    struct block *block = (struct block *)pointer - 1;
    block->next = released[block->bits];
    released[block->bits] = block;
}

PROXY_EXPORT("proxy_on_memory_allocate") void *proxy_on_memory_allocate(size_t size) { return allocate(size); }

#endif
