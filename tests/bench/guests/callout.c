/* Asks the upstream named `upstream` for each request, and lets that go on with a header when the answer is there. */
#include "allocator.h"
#include "proxy_wasm.h"

#define TEXT(literal) literal, sizeof(literal) - 1

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

PROXY_IMPORT("proxy_http_call")
enum proxy_status proxy_http_call(const char *upstream, size_t upstream_size, const char *headers, size_t headers_size,
                                  const char *body, size_t body_size, const char *trailers, size_t trailers_size,
                                  uint32_t timeout_ms, uint32_t *call);

/* The ABI's pairs: count, sizes, then names and values, each with a NUL behind it. */
static const struct __attribute__((packed)) {
    uint32_t count, sizes[6];
    char text[sizeof(":method\0GET\0:path\0/auth\0:authority\0auth")];
} HEADERS = {3, {7, 3, 5, 5, 10, 4}, ":method\0GET\0:path\0/auth\0:authority\0auth"};

PROXY_IMPORT("proxy_set_effective_context") enum proxy_status proxy_set_effective_context(uint32_t context);

/* Whose call it is, by its number: the answer comes to the plugin's context. */
enum { CALLS = 1 << 14 };
static uint32_t callers[CALLS];

PROXY_EXPORT("proxy_on_request_headers")
enum proxy_action on_request_headers(uint32_t context, uint32_t count, bool end_of_stream) {
    (void)count, (void)end_of_stream;
    uint32_t call = 0;
    enum proxy_status status =
        proxy_http_call(TEXT("upstream"), (const char *)&HEADERS, sizeof HEADERS, 0, 0, 0, 0, 1000, &call);
    callers[call % CALLS] = context;
    return status == PROXY_OK ? PROXY_PAUSE : PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_http_call_response")
void on_http_call_response(uint32_t context, uint32_t call, uint32_t count, size_t size, uint32_t trailers) {
    (void)context, (void)size, (void)trailers;
    proxy_set_effective_context(callers[call % CALLS]);
    if (count) proxy_add_header_map_value(PROXY_REQUEST_HEADERS, TEXT("x-plugin"), TEXT("asked"));
    proxy_continue_stream(PROXY_REQUEST_STREAM);
}
