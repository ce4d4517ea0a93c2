/* Plugins that do wrong, one wrong for each macro; without any, a good one that marks the response.
 * What host calls answered to a wrong argument is shown in the response's x-answers. */
#include "allocator.h"
#include "proxy_wasm.h"

#define TEXT(s) s, sizeof s - 1

static volatile uint32_t sink;
static char answers[64];
static size_t answered;

static void note(enum proxy_status status) {
    if (answered) answers[answered++] = ' ';
    if (status >= 10) answers[answered++] = (char)('0' + status / 10);
    answers[answered++] = (char)('0' + status % 10);
}

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

#ifdef TRAP_AT_START
PROXY_EXPORT("_initialize") void initialize(void) { __builtin_trap(); }
#endif
#ifdef LOOP_AT_START
PROXY_EXPORT("_initialize") void initialize(void) { for (;;) sink++; }
#endif
#ifdef REFUSE_VM_START
PROXY_EXPORT("proxy_on_vm_start") bool on_vm_start(uint32_t id, size_t size) { (void)id, (void)size; return false; }
#endif
PROXY_EXPORT("proxy_on_configure") bool on_configure(uint32_t id, size_t size) {
    (void)id, (void)size;
#ifdef TRAP_AT_CONFIGURE
    __builtin_trap();
#endif
#ifdef REFUSE_CONFIGURE
    return false;
#else
    return true;
#endif
}

static void wild_pointers(void) {
    char *out = (char *)0xfffffff0u;
    char **wild = (char **)0xfffffff8u;
    char *value;
    size_t size;
    note(proxy_log(PROXY_INFO, out, 64));
    note(proxy_get_header_map_value(PROXY_REQUEST_HEADERS, out, 64, &value, &size));
    note(proxy_get_header_map_value(PROXY_REQUEST_HEADERS, TEXT(":path"), wild, &size));
    note(proxy_get_header_map_value(PROXY_REQUEST_HEADERS, TEXT(":path"), &value, (size_t *)wild + 1));
    note(proxy_add_header_map_value(PROXY_REQUEST_HEADERS, TEXT("x-wild"), out, UINT32_MAX));
    note(proxy_set_header_map_pairs(PROXY_REQUEST_HEADERS, out, UINT32_MAX));
    note(proxy_get_property(TEXT("plugin_name"), wild, &size));
    note(proxy_send_local_response(200, TEXT(""), out, UINT32_MAX, TEXT(""), PROXY_NO_GRPC_STATUS));
}

/* One pair, "x-a" = "b\r\nx-injected: 1". */
static const struct { uint32_t count, name_size, value_size; char text[24]; } PAIRS = {
    1, 3, 16, "x-a\0b\r\nx-injected: 1"};

static void inject(enum proxy_map map) {
    note(proxy_add_header_map_value(map, TEXT("x-a"), TEXT("b\r\nx-injected: 1")));
    note(proxy_add_header_map_value(map, TEXT("x-a: b\r\nx-injected"), TEXT("1")));
    note(proxy_replace_header_map_value(map, TEXT("x-a"), TEXT("b\nx-injected: 1")));
    note(proxy_replace_header_map_value(map, map == PROXY_REQUEST_HEADERS ? ":path" : ":status", map == PROXY_REQUEST_HEADERS ? 5 : 7,
                                        TEXT("/ HTTP/1.1\r\nx-injected: 1\r\n")));
    note(proxy_set_header_map_pairs(map, (const char *)&PAIRS, sizeof PAIRS));
}

PROXY_EXPORT("proxy_on_request_headers") enum proxy_action on_request_headers(uint32_t id, size_t count, bool end) {
    (void)id, (void)count, (void)end;
    answered = 0;
#ifdef TRAP_ON_REQUEST
    __builtin_trap();
#endif
#ifdef LOOP_ON_REQUEST
    for (;;) sink++;
#endif
#ifdef RECURSE_ON_REQUEST
    sink = on_request_headers(id + 1, count, end) + sink;
#endif
#ifdef ALLOCATE_ON_REQUEST
    for (;;) {
        volatile char *block = allocate(1 << 20);
        if (!block) __builtin_trap(); /* as allocators of most languages do */
        *block = 1;
    }
#endif
#ifdef WILD_POINTERS
    wild_pointers();
#endif
#ifdef INJECT
    inject(PROXY_REQUEST_HEADERS);
    char *path; /* it ends in /reply where one is wanted */
    size_t size;
    proxy_get_header_map_value(PROXY_REQUEST_HEADERS, TEXT(":path"), &path, &size);
    if (path[size - 1] == 'y') note(proxy_send_local_response(403, TEXT(""), TEXT("no\n"), (const char *)&PAIRS, sizeof PAIRS, PROXY_NO_GRPC_STATUS));
#endif
    return PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_response_headers") enum proxy_action on_response_headers(uint32_t id, size_t count, bool end) {
    (void)id, (void)count, (void)end, (void)wild_pointers, (void)inject;
#ifdef INJECT
    inject(PROXY_RESPONSE_HEADERS);
#endif
    if (answered) proxy_add_header_map_value(PROXY_RESPONSE_HEADERS, TEXT("x-answers"), answers, answered);
    proxy_add_header_map_value(PROXY_RESPONSE_HEADERS, TEXT("x-plugin"), TEXT("was here"));
    return PROXY_CONTINUE;
}
