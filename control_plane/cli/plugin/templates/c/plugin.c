/* The law: a plugin context (one for each route) owns its greeting, a stream context (one for each request) finds it by its
 * parent. Ids are the host's choice, so contexts are looked up and never indexed. */
#include "allocator.h"
#include "proxy_wasm.h"

struct context {
    uint32_t id, parent;
    char *greeting;
    size_t size;
    struct context *next;
};

static struct context *contexts;

static struct context *find(uint32_t id) {
    struct context *context = contexts;
    while (context != NULL && context->id != id) context = context->next;
    return context;
}

PROXY_EXPORT("proxy_abi_version_0_2_1") void proxy_abi_version_0_2_1(void) {}

PROXY_EXPORT("proxy_on_context_create") void proxy_on_context_create(uint32_t id, uint32_t parent) {
    struct context *context = allocate(sizeof *context);
    if (context == NULL) __builtin_trap();
    *context = (struct context){.id = id, .parent = parent, .next = contexts};
    contexts = context;
}

PROXY_EXPORT("proxy_on_configure") bool proxy_on_configure(uint32_t id, size_t size) {
    static const char expected[] = "bad configuration: a text is expected";
    struct context *root = find(id);
    if (root == NULL) return false;
    proxy_get_buffer_bytes(PROXY_PLUGIN_CONFIGURATION, 0, size, &root->greeting, &root->size);
    if (root->size == 0) proxy_log(PROXY_ERROR, expected, sizeof expected - 1);
    return root->size > 0;
}

PROXY_EXPORT("proxy_on_response_headers")
enum proxy_action proxy_on_response_headers(uint32_t id, uint32_t count, bool end_of_stream) {
    (void)count, (void)end_of_stream;
    const struct context *stream = find(id), *root = stream == NULL ? NULL : find(stream->parent);
    if (root != NULL)
        proxy_replace_header_map_value(PROXY_RESPONSE_HEADERS, "x-greeting", 10, root->greeting, root->size);
    return PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_delete") void proxy_on_delete(uint32_t id) {
    for (struct context **link = &contexts; *link != NULL; link = &(*link)->next) {
        struct context *context = *link;
        if (context->id != id) continue;
        *link = context->next;
        deallocate(context->greeting);
        deallocate(context);
        return;
    }
}
