/* Two headers read, one added, one replaced, one removed: the work that `make bench` measures, here and in Envoy.
 *
 * The law: it keeps no state and never fails, so that what is measured is the host. */
#include "allocator.h"
#include "proxy_wasm.h"

#define TEXT(literal) literal, sizeof(literal) - 1

PROXY_EXPORT("proxy_abi_version_0_2_1") void proxy_abi_version_0_2_1(void) {}

PROXY_EXPORT("proxy_on_context_create") void proxy_on_context_create(uint32_t context, uint32_t parent) {
    (void)context, (void)parent;
}

PROXY_EXPORT("proxy_on_vm_start") bool proxy_on_vm_start(uint32_t context, size_t size) {
    (void)context, (void)size;
    return true;
}

PROXY_EXPORT("proxy_on_configure") bool proxy_on_configure(uint32_t context, size_t size) {
    (void)context, (void)size;
    return true;
}

PROXY_EXPORT("proxy_on_request_headers")
enum proxy_action proxy_on_request_headers(uint32_t context, uint32_t count, bool end_of_stream) {
    (void)context, (void)count, (void)end_of_stream;
    char *agent = NULL, *path = NULL;
    size_t agent_size = 0, path_size = 0;
    proxy_get_header_map_value(PROXY_REQUEST_HEADERS, TEXT("user-agent"), &agent, &agent_size);
    proxy_get_header_map_value(PROXY_REQUEST_HEADERS, TEXT(":path"), &path, &path_size);
    proxy_add_header_map_value(PROXY_REQUEST_HEADERS, TEXT("x-plugin"), path, path_size);
    deallocate(agent);
    deallocate(path);
    return PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_response_headers")
enum proxy_action proxy_on_response_headers(uint32_t context, uint32_t count, bool end_of_stream) {
    (void)context, (void)count, (void)end_of_stream;
    proxy_replace_header_map_value(PROXY_RESPONSE_HEADERS, TEXT("x-resp"), TEXT("hello"));
    proxy_remove_header_map_value(PROXY_RESPONSE_HEADERS, TEXT("server"));
    return PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_done") bool proxy_on_done(uint32_t context) {
    (void)context;
    return true;
}

PROXY_EXPORT("proxy_on_log") void proxy_on_log(uint32_t context) { (void)context; }

PROXY_EXPORT("proxy_on_delete") void proxy_on_delete(uint32_t context) { (void)context; }
