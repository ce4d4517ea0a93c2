/* A plugin that tells its context ids: it logs them, with its configuration, on every request, and when a context ends. */
#include "allocator.h"
#include "proxy_wasm.h"

enum { CONTEXTS = 1024, LINE = 512 };

struct context { uint32_t parent; char *conf; size_t conf_size; };
static struct context contexts[CONTEXTS];
static char line[LINE];
static size_t line_size;

static void put_bytes(const char *s, size_t n) { while (n-- && line_size < LINE) line[line_size++] = *s++; }
static void put(const char *s) { while (*s) put_bytes(s++, 1); }
static void put_number(uint32_t n) {
    if (n >= 10) put_number(n / 10);
    char digit = (char)('0' + n % 10);
    put_bytes(&digit, 1);
}
static void flush(void) { proxy_log(PROXY_INFO, line, line_size); line_size = 0; }

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

PROXY_EXPORT("proxy_on_context_create") void on_context_create(uint32_t id, uint32_t parent) {
    if (id >= CONTEXTS) __builtin_trap();
    contexts[id] = (struct context){.parent = parent};
}

PROXY_EXPORT("proxy_on_configure") bool on_configure(uint32_t id, size_t size) {
    return proxy_get_buffer_bytes(PROXY_PLUGIN_CONFIGURATION, 0, size, &contexts[id].conf, &contexts[id].conf_size) == PROXY_OK;
}

/* APISIX's own test plugin says it in these words. */
PROXY_EXPORT("proxy_on_request_headers") enum proxy_action on_request_headers(uint32_t id, size_t count, bool end) {
    (void)count, (void)end;
    const struct context *plugin = contexts + contexts[id].parent;
    put("run plugin ctx ");
    put_number(contexts[id].parent);
    put(" with conf ");
    put_bytes(plugin->conf, plugin->conf_size);
    put(" in http ctx ");
    put_number(id);
    flush();
    return PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_delete") void on_delete(uint32_t id) {
    if (!contexts[id].parent) {
        put("delete plugin ctx ");
        put_number(id);
        flush();
    }
    deallocate(contexts[id].conf);
    contexts[id] = (struct context){0};
}
