/* The Proxy-Wasm ABI, version 0.2.1, as C declarations: what a plugin imports from its host, and the numbers it speaks.
 *
 * The law: names and types are the ABI's own, so that its specification is this file's manual. A declaration that is not
 * used costs nothing: only functions that are called become imports of the module.
 *
 * A pointer that the host hands over (every `char **` below) was allocated by this plugin's `proxy_on_memory_allocate`
 * and belongs to the plugin: release it with `deallocate` of allocator.h. An empty result is a null pointer. */
#ifndef PROXY_WASM_H
#define PROXY_WASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_EXPORT(name) __attribute__((export_name(name)))
#define PROXY_IMPORT(name) __attribute__((import_module("env"), import_name(name)))

enum proxy_status {
    PROXY_OK = 0,
    PROXY_NOT_FOUND = 1,
    PROXY_BAD_ARGUMENT = 2,
    PROXY_SERIALIZATION_FAILURE = 3,
    PROXY_PARSE_FAILURE = 4,
    PROXY_INVALID_MEMORY_ACCESS = 6,
    PROXY_EMPTY = 7,
    PROXY_CAS_MISMATCH = 8,
    PROXY_INTERNAL_FAILURE = 10,
    PROXY_UNIMPLEMENTED = 12,
};

enum proxy_action { PROXY_CONTINUE = 0, PROXY_PAUSE = 1 };

enum proxy_log_level { PROXY_TRACE, PROXY_DEBUG, PROXY_INFO, PROXY_WARN, PROXY_ERROR, PROXY_CRITICAL };

enum proxy_map {
    PROXY_REQUEST_HEADERS = 0,
    PROXY_REQUEST_TRAILERS = 1,
    PROXY_RESPONSE_HEADERS = 2,
    PROXY_RESPONSE_TRAILERS = 3,
    PROXY_HTTP_CALL_RESPONSE_HEADERS = 6,
    PROXY_HTTP_CALL_RESPONSE_TRAILERS = 7,
};

enum proxy_buffer {
    PROXY_REQUEST_BODY = 0,
    PROXY_RESPONSE_BODY = 1,
    PROXY_HTTP_CALL_RESPONSE_BODY = 4,
    PROXY_VM_CONFIGURATION = 6,
    PROXY_PLUGIN_CONFIGURATION = 7,
};

enum proxy_stream { PROXY_REQUEST_STREAM = 0, PROXY_RESPONSE_STREAM = 1 };

/* "no gRPC status" in proxy_send_local_response */
#define PROXY_NO_GRPC_STATUS UINT32_MAX

PROXY_IMPORT("proxy_log") enum proxy_status proxy_log(enum proxy_log_level level, const char *message, size_t size);
PROXY_IMPORT("proxy_get_current_time_nanoseconds") enum proxy_status proxy_get_current_time_nanoseconds(uint64_t *time);
PROXY_IMPORT("proxy_set_tick_period_milliseconds") enum proxy_status proxy_set_tick_period_milliseconds(uint32_t period);

PROXY_IMPORT("proxy_get_buffer_bytes")
enum proxy_status proxy_get_buffer_bytes(enum proxy_buffer buffer, size_t start, size_t max_size, char **data,
                                         size_t *size);
PROXY_IMPORT("proxy_set_buffer_bytes")
enum proxy_status proxy_set_buffer_bytes(enum proxy_buffer buffer, size_t start, size_t replaced, const char *data,
                                         size_t size);

PROXY_IMPORT("proxy_get_header_map_value")
enum proxy_status proxy_get_header_map_value(enum proxy_map map, const char *key, size_t key_size, char **value,
                                             size_t *value_size);
PROXY_IMPORT("proxy_add_header_map_value")
enum proxy_status proxy_add_header_map_value(enum proxy_map map, const char *key, size_t key_size, const char *value,
                                             size_t value_size);
PROXY_IMPORT("proxy_replace_header_map_value")
enum proxy_status proxy_replace_header_map_value(enum proxy_map map, const char *key, size_t key_size, const char *value,
                                                 size_t value_size);
PROXY_IMPORT("proxy_remove_header_map_value")
enum proxy_status proxy_remove_header_map_value(enum proxy_map map, const char *key, size_t key_size);
PROXY_IMPORT("proxy_get_header_map_pairs")
enum proxy_status proxy_get_header_map_pairs(enum proxy_map map, char **pairs, size_t *size);
PROXY_IMPORT("proxy_set_header_map_pairs")
enum proxy_status proxy_set_header_map_pairs(enum proxy_map map, const char *pairs, size_t size);

PROXY_IMPORT("proxy_send_local_response")
enum proxy_status proxy_send_local_response(uint32_t status_code, const char *details, size_t details_size,
                                            const char *body, size_t body_size, const char *header_pairs,
                                            size_t header_pairs_size, uint32_t grpc_status);
PROXY_IMPORT("proxy_continue_stream") enum proxy_status proxy_continue_stream(enum proxy_stream stream);
PROXY_IMPORT("proxy_close_stream") enum proxy_status proxy_close_stream(enum proxy_stream stream);

PROXY_IMPORT("proxy_get_property")
enum proxy_status proxy_get_property(const char *path, size_t path_size, char **value, size_t *value_size);
PROXY_IMPORT("proxy_set_property")
enum proxy_status proxy_set_property(const char *path, size_t path_size, const char *value, size_t value_size);

#endif
