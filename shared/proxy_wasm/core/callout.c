/* HTTP and gRPC calls: what a plugin asks goes to Python, which performs it; received.c has what comes of it.
 * Without somebody who performs them (a test, a dry run) every one of these is Unimplemented. */
#include "core.h"

enum { MOST_STRINGS = 5 };
typedef struct { gptr at; u32 size; } GuestString;

/* Into op.in[0]: the sizes of the guest's strings, then the strings. */
static i32 take_strings(const GuestString *strings, u32 count) {
  u32 total = 4 * count, limit = SCRATCH_LIMIT + body_limit;
  for (u32 k = 0; k < count; k++) if (!guest_range(strings[k].at, strings[k].size)) return INVALID_MEMORY_ACCESS;
  for (u32 k = 0; k < count; k++) {
    if (strings[k].size > limit - total) return INTERNAL_FAILURE;
    total += strings[k].size;
  }
  scratch.size = 0;
  if (!buffer_reserve(&scratch, total)) return INTERNAL_FAILURE;
  u8 *o = scratch.data;
  for (u32 k = 0; k < count; k++) o = put32(o, strings[k].size);
  for (u32 k = 0; k < count; o += strings[k++].size)
    if (!guest_read(o, strings[k].at, strings[k].size)) return INVALID_MEMORY_ACCESS;
  op.in[0][0] = ADDR(scratch.data); op.in[0][1] = total;
  return OK;
}

/* As in Envoy's host: the id is 0 unless the call was begun. */
static i32 begin_call(u32 code, const GuestString *strings, u32 count, gptr id_out) {
  TRY(take_strings(strings, count));
  TRY(store(id_out, 0));
  if (!current()) return BAD_ARGUMENT;
  TRY(call_op(code, current()));
  return store(id_out, op.out_number);
}

EXPORT("proxy_http_call")
i32 proxy_http_call(gptr upstream, u32 upstream_size, gptr headers, u32 headers_size, gptr body, u32 body_size, gptr trailers,
                    u32 trailers_size, u32 timeout, gptr id_out) {
  ENTER();
  const GuestString strings[] = {{upstream, upstream_size}, {headers, headers_size}, {body, body_size}, {trailers, trailers_size}};
  op.number[0] = timeout;
  i32 status = begin_call(OP_HTTP_CALL, strings, 4, id_out);
  if (status == OK && current()->root) current()->calls++;
  return status;
}

EXPORT("proxy_grpc_call")
i32 proxy_grpc_call(gptr upstream, u32 upstream_size, gptr service, u32 service_size, gptr method, u32 method_size,
                    gptr metadata, u32 metadata_size, gptr message, u32 message_size, u32 timeout, gptr id_out) {
  ENTER();
  const GuestString strings[MOST_STRINGS] = {{upstream, upstream_size}, {service, service_size}, {method, method_size},
                                             {metadata, metadata_size}, {message, message_size}};
  op.number[0] = timeout;
  return begin_call(OP_GRPC_CALL, strings, 5, id_out);
}

EXPORT("proxy_grpc_stream")
i32 proxy_grpc_stream(gptr upstream, u32 upstream_size, gptr service, u32 service_size, gptr method, u32 method_size,
                      gptr metadata, u32 metadata_size, gptr id_out) {
  ENTER();
  const GuestString strings[] = {{upstream, upstream_size}, {service, service_size}, {method, method_size},
                                 {metadata, metadata_size}};
  return begin_call(OP_GRPC_STREAM, strings, 4, id_out);
}

EXPORT("proxy_grpc_send") i32 proxy_grpc_send(u32 id, gptr message, u32 n, u32 end_of_stream) {
  ENTER();
  const GuestString string = {message, n};
  TRY(take_strings(&string, 1));
  op.number[0] = id; op.number[1] = end_of_stream;
  return call_op(OP_GRPC_SEND, current());
}

static i32 end_grpc(u32 code, u32 id) {
  ENTER();
  op.number[0] = id;
  return call_op(code, current());
}

EXPORT("proxy_grpc_cancel") i32 proxy_grpc_cancel(u32 id) { return end_grpc(OP_GRPC_CANCEL, id); }
EXPORT("proxy_grpc_close") i32 proxy_grpc_close(u32 id) { return end_grpc(OP_GRPC_CLOSE, id); }
