/* The core of the Proxy-Wasm host: the ABI's header maps, buffers and streams, inside the plugin's own Store.
 *
 * The law: the core trusts Python and the llhttp-validated heads that Python hands it, and nothing that comes from the
 * guest. It never calls the guest from inside a host call; what a host call causes is recorded in `result` and performed by
 * Python after the callback returned. All memory is bounded: per stream by ARENA_LIMIT, per body by the plugin's limit.
 *
 * One translation unit (core.c includes the rest), freestanding wasm32; the same sources build natively for the unit and
 * fuzz tests, where the functions below that glue and Python provide are the test driver's.
 */
#ifndef WASPGATE_CORE_H
#define WASPGATE_CORE_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef u32 gptr; /* an address in the guest's memory */

#ifdef __wasm__
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name), used))
#define TRAP() __builtin_trap()
#else
#define IMPORT(module, name)
#define EXPORT(name)
void driver_trap(void) __attribute__((noreturn));
#define TRAP() driver_trap()
#endif
#define ADDR(p) ((u32)(unsigned long)(p)) /* how Python sees a pointer; meaningless natively */
#define NULL ((void *)0)

/* Numbers shared with abi.py. */
enum { OK = 0, NOT_FOUND = 1, BAD_ARGUMENT = 2, SERIALIZATION_FAILURE = 3, INVALID_MEMORY_ACCESS = 6, INTERNAL_FAILURE = 10,
       UNIMPLEMENTED = 12 };
enum { REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS, MAPS /* of a stream; the rest are of calls */,
       GRPC_INITIAL_METADATA = 4, GRPC_TRAILING_METADATA, CALL_RESPONSE_HEADERS, CALL_RESPONSE_TRAILERS, LAST_MAP_TYPE = 7 };
enum { BUFFER_REQUEST_BODY, BUFFER_RESPONSE_BODY, BUFFER_DOWNSTREAM_DATA, BUFFER_UPSTREAM_DATA, BUFFER_CALL_RESPONSE_BODY, BUFFER_GRPC_MESSAGE, BUFFER_VM_CONFIGURATION,
       BUFFER_PLUGIN_CONFIGURATION, BUFFER_FOREIGN_ARGUMENTS, LAST_BUFFER_TYPE = 8 };
enum { ABI_0_1_0, ABI_0_2_0, ABI_0_2_1 };
enum { F_CHANGED = 1, F_LOCAL_REPLY = 2, F_CONTINUE_REQUEST = 4, F_CONTINUE_RESPONSE = 8, F_CLOSE = 16, F_DONE = 32,
       F_OTHERS = 64, F_BAD_HEAD = 128, F_TRAILERS = 256, F_CLEAR_ROUTE_CACHE = 512, F_FINISHED = 1024 };
enum { LEVEL_INFO = 2, LEVEL_ERROR = 4, LAST_LEVEL = 5 };

/* What a phase function answers. >= 0: go on, nothing else to do, and so many bytes at result.out (0: what came in is
 * unchanged). Anything else: */
enum { LOOK = -1 /* read `result` */, NO_ROOM = -2 /* a limit of this stream was reached */ };

/* --- glue: both memories, and the guest's exports (link.py generates it). Reads and writes answer 0 when out of range. */
IMPORT("glue", "guest_range") i32 guest_range(gptr from, u32 n);
IMPORT("glue", "guest_read") i32 guest_read(void *to, gptr from, u32 n);
IMPORT("glue", "guest_write") i32 guest_write(gptr to, const void *from, u32 n);
IMPORT("glue", "guest_store32") i32 guest_store32(gptr to, u32 value);
IMPORT("glue", "guest_store64") i32 guest_store64(gptr to, u64 value);
IMPORT("glue", "guest_allocate") gptr guest_allocate(u32 n);
IMPORT("glue", "proxy_on_context_create") void on_context_create(u32 id, u32 parent);
IMPORT("glue", "proxy_on_vm_start") i32 on_vm_start(u32 id, u32 size);
IMPORT("glue", "proxy_on_configure") i32 on_configure(u32 id, u32 size);
IMPORT("glue", "proxy_on_tick") void on_tick(u32 id);
IMPORT("glue", "proxy_on_queue_ready") void on_queue_ready(u32 id, u32 queue);
IMPORT("glue", "proxy_on_http_call_response") void on_http_call_response(u32 id, u32 call, u32 n, u32 size, u32 trailers);
IMPORT("glue", "proxy_on_grpc_receive_initial_metadata") void on_grpc_receive_initial_metadata(u32 id, u32 call, u32 n);
IMPORT("glue", "proxy_on_grpc_receive") void on_grpc_receive(u32 id, u32 call, u32 size);
IMPORT("glue", "proxy_on_grpc_receive_trailing_metadata") void on_grpc_receive_trailing_metadata(u32 id, u32 call, u32 n);
IMPORT("glue", "proxy_on_grpc_close") void on_grpc_close(u32 id, u32 call, u32 status);
IMPORT("glue", "proxy_on_done") i32 on_done(u32 id);
IMPORT("glue", "proxy_on_log") void on_log(u32 id);
IMPORT("glue", "proxy_on_delete") void on_delete(u32 id);
IMPORT("glue", "proxy_on_new_connection") i32 on_new_connection(u32 id);
IMPORT("glue", "proxy_on_downstream_data") i32 on_downstream_data(u32 id, u32 size, u32 eos);
IMPORT("glue", "proxy_on_downstream_connection_close") void on_downstream_connection_close(u32 id, u32 peer);
IMPORT("glue", "proxy_on_upstream_data") i32 on_upstream_data(u32 id, u32 size, u32 eos);
IMPORT("glue", "proxy_on_upstream_connection_close") void on_upstream_connection_close(u32 id, u32 peer);
IMPORT("glue", "proxy_on_request_headers") i32 on_request_headers(u32 id, u32 n, u32 eos);
IMPORT("glue", "proxy_on_request_body") i32 on_request_body(u32 id, u32 size, u32 eos);
IMPORT("glue", "proxy_on_request_trailers") i32 on_request_trailers(u32 id, u32 n);
IMPORT("glue", "proxy_on_response_headers") i32 on_response_headers(u32 id, u32 n, u32 eos);
IMPORT("glue", "proxy_on_response_body") i32 on_response_body(u32 id, u32 size, u32 eos);
IMPORT("glue", "proxy_on_response_trailers") i32 on_response_trailers(u32 id, u32 n);
IMPORT("glue", "proxy_on_foreign_function") void on_foreign_function(u32 id, u32 function, u32 size);

/* --- Python: whatever needs the world outside. Arguments and answers of host_op stand in `op`. */
IMPORT("host", "op") i32 host_op(u32 code);
IMPORT("host", "flush_logs") void host_flush_logs(void);
IMPORT("host", "clock") u64 host_clock(u32 id);
IMPORT("host", "random") void host_random(void *to, u32 n);

typedef struct Block Block; /* see memory.c */
typedef struct { Block *blocks; u32 total; } Arena;
typedef struct { u8 *data; u32 size, capacity; Block *block; } Buffer;
typedef struct { const u8 *name, *value; u32 name_size, value_size; } Field;
typedef struct { Field *fields; u32 count, capacity; u8 present, changed; } Map;

typedef struct {
  u32 status, grpc_status; /* status 0: none was sent */
  const u8 *details, *body, *headers;
  u32 details_size, body_size, headers_size;
} LocalReply;

typedef struct Context Context;
struct Context {
  Context *next;      /* in the free list, or in the list of contexts with effects */
  u32 id, root;       /* root == 0: this is a PluginContext */
  u8 created;         /* the guest has seen on_context_create */
  u8 writable;        /* bit per map type: it may be changed now */
  u8 open_body;       /* bit per direction: the body buffer may be read and changed now */
  u8 wants_body;      /* bit per direction, in the dialect of APISIX: the plugin has asked for it */
  u8 changed_body;    /* bit per direction: it was changed since its last piece came */
  u8 answered;        /* the response has begun: a local reply has no effect any more */
  u8 pending_done;    /* on_done of a PluginContext answered false */
  u8 is_grpc;
  u8 is_tcp;          /* a connection, not a request (tcp.c) */
  u8 stale;           /* bit per map type: the head changed after it was here; Python has it (final_head) */
  u8 status_known;    /* :status stands as it was parsed, so `reason` belongs to it */
  u8 dirty;           /* is in the list of contexts with effects */
  u32 effects;        /* F_* recorded by host calls */
  u32 calls;          /* HTTP calls that it made and that have not ended */
  Map maps[MAPS];
  Arena arena;
  Buffer body[2];     /* a PluginContext keeps its configuration in [0] */
  LocalReply reply;
  const u8 *reason;
  u32 reason_size;
};

/* What Python reads after a phase that answered LOOK; vm.py unpacks it in this order. */
typedef struct {
  u32 action, flags, out, out_size, log_size, others, reply_status, reply_grpc_status, reply_details, reply_details_size,
      reply_body, reply_body_size, reply_headers, reply_headers_size;
} Result;

/* Arguments of host_op: byte strings in core memory and numbers. The answer is written to `io`, `out_size` bytes. */
typedef struct { u32 context, root, in[2][2], number[2], out_size, out_number; } Op;
enum { OP_GET_PROPERTY = 1, OP_SET_PROPERTY, OP_SET_TICK_PERIOD, OP_GET_SHARED_DATA, OP_SET_SHARED_DATA, OP_REGISTER_QUEUE,
       OP_RESOLVE_QUEUE, OP_ENQUEUE, OP_DEQUEUE, OP_DEFINE_METRIC, OP_INCREMENT_METRIC, OP_RECORD_METRIC, OP_GET_METRIC, OP_CALL_FOREIGN_FUNCTION,
       OP_FINAL_HEAD };
enum { OP_HTTP_CALL = 32, OP_GRPC_CALL, OP_GRPC_STREAM, OP_GRPC_SEND, OP_GRPC_CANCEL, OP_GRPC_CLOSE };

#endif
