/* Turns the case of every letter of a response's body, piece by piece as it comes. */
#include "allocator.h"
#include "proxy_wasm.h"

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

PROXY_EXPORT("proxy_on_response_body") enum proxy_action on_response_body(uint32_t context, size_t size, bool end_of_stream) {
    (void)context, (void)end_of_stream;
    char *bytes = NULL;
    size_t taken = 0;
    if (!size || proxy_get_buffer_bytes(PROXY_RESPONSE_BODY, 0, size, &bytes, &taken) != PROXY_OK) return PROXY_CONTINUE;
    for (size_t k = 0; k < taken; k++)
        if ((uint8_t)((bytes[k] | 32) - 'a') < 26) bytes[k] ^= 32;
    proxy_set_buffer_bytes(PROXY_RESPONSE_BODY, 0, taken, bytes, taken);
    deallocate(bytes);
    return PROXY_CONTINUE;
}
