/* Shared data, queues and metrics: what all workers of a host have in common. Python keeps it; here it crosses the border.
 * Without somebody who keeps it (a test, a dry run) every one of these is Unimplemented. */
#include "core.h"

/* Two strings of the guest at once, for the length of this host call. */
static i32 take_two(gptr a, u32 an, gptr b, u32 bn) {
  if (!guest_range(a, an) || !guest_range(b, bn)) return INVALID_MEMORY_ACCESS;
  scratch.size = 0;
  if (an > SCRATCH_LIMIT || bn > SCRATCH_LIMIT || !buffer_reserve(&scratch, an + bn + 1)) return INTERNAL_FAILURE;
  if (!guest_read(scratch.data, a, an) || !guest_read(scratch.data + an, b, bn)) return INVALID_MEMORY_ACCESS;
  op.in[0][0] = ADDR(scratch.data); op.in[0][1] = an;
  op.in[1][0] = ADDR(scratch.data + an); op.in[1][1] = bn;
  return OK;
}

static i32 store(gptr to, u32 value) { return guest_store32(to, value) ? OK : INVALID_MEMORY_ACCESS; }

EXPORT("proxy_get_shared_data") i32 proxy_get_shared_data(gptr key, u32 n, gptr value_out, gptr size_out, gptr cas_out) {
  ENTER();
  TRY(take_two(key, n, 0, 0));
  TRY(call_op(OP_GET_SHARED_DATA, current()));
  u32 cas = op.out_number;
  TRY(give(io.data, op.out_size, value_out, size_out));
  return store(cas_out, cas);
}

EXPORT("proxy_set_shared_data") i32 proxy_set_shared_data(gptr key, u32 n, gptr value, u32 value_size, u32 cas) {
  ENTER();
  TRY(take_two(key, n, value, value_size));
  op.number[0] = cas;
  return call_op(OP_SET_SHARED_DATA, current());
}

EXPORT("proxy_register_shared_queue") i32 proxy_register_shared_queue(gptr name, u32 n, gptr id_out) {
  ENTER();
  TRY(take_two(name, n, 0, 0));
  TRY(call_op(OP_REGISTER_QUEUE, current()));
  return store(id_out, op.out_number);
}

EXPORT("proxy_resolve_shared_queue")
i32 proxy_resolve_shared_queue(gptr vm_id, u32 vm_id_size, gptr name, u32 n, gptr id_out) {
  ENTER();
  TRY(take_two(vm_id, vm_id_size, name, n));
  TRY(call_op(OP_RESOLVE_QUEUE, current()));
  return store(id_out, op.out_number);
}

EXPORT("proxy_enqueue_shared_queue") i32 proxy_enqueue_shared_queue(u32 id, gptr data, u32 n) {
  ENTER();
  TRY(take_two(data, n, 0, 0));
  op.number[0] = id;
  return call_op(OP_ENQUEUE, current());
}

EXPORT("proxy_dequeue_shared_queue") i32 proxy_dequeue_shared_queue(u32 id, gptr data_out, gptr size_out) {
  ENTER();
  op.number[0] = id;
  TRY(call_op(OP_DEQUEUE, current()));
  return give(io.data, op.out_size, data_out, size_out);
}

EXPORT("proxy_define_metric") i32 proxy_define_metric(u32 type, gptr name, u32 n, gptr id_out) {
  ENTER();
  if (type > 2) return BAD_ARGUMENT;
  TRY(take_two(name, n, 0, 0));
  op.number[0] = type;
  TRY(call_op(OP_DEFINE_METRIC, current()));
  return store(id_out, op.out_number);
}

/* A 64-bit number goes as its two halves. */
static i32 metric(u32 code, u32 id, u64 value) {
  ENTER();
  op.number[0] = id;
  op.in[0][0] = (u32)value; op.in[0][1] = (u32)(value >> 32);
  return call_op(code, current());
}

EXPORT("proxy_increment_metric") i32 proxy_increment_metric(u32 id, u64 delta) { return metric(OP_INCREMENT_METRIC, id, delta); }
EXPORT("proxy_record_metric") i32 proxy_record_metric(u32 id, u64 value) { return metric(OP_RECORD_METRIC, id, value); }

EXPORT("proxy_get_metric") i32 proxy_get_metric(u32 id, gptr value_out) {
  TRY(metric(OP_GET_METRIC, id, 0));
  u64 value;
  __builtin_memcpy(&value, io.data, sizeof value);
  return guest_store64(value_out, value) ? OK : INVALID_MEMORY_ACCESS;
}
