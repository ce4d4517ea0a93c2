/* The core as a native program under sanitizers: unit checks, then a deterministic fuzz of phases and host calls.
 *
 * The law: this file is glue, guest and Python at once. The guest's memory is a block of its own, so that the address
 * sanitizer sees any step beyond it; every allocation of the core is one too. `core_driver SEED ROUNDS` prints what it did and
 * answers 0; a failed check or a sanitizer ends it with a message. */
#include "core.c"

#undef NULL
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)

static void fail(const char *what, int line) {
  fprintf(stderr, "core_driver.c:%d: %s does not hold\n", line, what);
  exit(1);
}

/* --- what glue, guest and Python are in the gateway */

static u8 *guest;
static u32 guest_size = 1 << 16;
static u64 taken, budget = 1ull << 40, flushed, calls, traps;
static jmp_buf trapped;

void driver_trap(void) { traps++; longjmp(trapped, 1); }

void *driver_allocate(u32 n) {
  if (taken + n > budget) return NULL;
  taken += n;
  return malloc(n);
}

#ifdef __SANITIZE_ADDRESS__
#define ADDRESSES 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define ADDRESSES 1
#endif
#endif
#ifdef ADDRESSES
#include <sanitizer/asan_interface.h>
void driver_only(void *data, u32 n, u32 room) {
  __asan_poison_memory_region(data, room);
  __asan_unpoison_memory_region(data, n);
}
#else
void driver_only(void *data, u32 n, u32 room) { (void)data; (void)n; (void)room; }
#endif

i32 guest_range(gptr from, u32 n) { return (u64)from + n <= guest_size; }
i32 guest_read(void *to, gptr from, u32 n) {
  if (!guest_range(from, n)) return 0;
  if (n) memcpy(to, guest + from, n);
  return 1;
}
i32 guest_write(gptr to, const void *from, u32 n) {
  if (!guest_range(to, n)) return 0;
  if (n) memcpy(guest + to, from, n);
  return 1;
}
i32 guest_store32(gptr to, u32 value) { return guest_write(to, &value, 4); }
i32 guest_store64(gptr to, u64 value) { return guest_write(to, &value, 8); }

void host_flush_logs(void) { flushed++; log_size = 0; }
u64 host_clock(u32 id) { return 1000 + id; }
void host_random(void *to, u32 n) { memset(to, 7, n); }
/* Every answer has the same bytes; a metric is eight of them. */
i32 host_op(u32 code) {
  const char *answer = code != OP_FINAL_HEAD ? "plugin name"
      : op.number[0] == RESPONSE_HEADERS ? "HTTP/1.1 299 Late\r\nfinal: yes\r\n" : "PUT /final HTTP/1.1\r\nfinal: yes\r\n";
  u32 size = (u32)strlen(answer);
  if (!buffer_reserve(&io, size)) return INTERNAL_FAILURE;
  memcpy(io.data, answer, size);
  op.out_size = size;
  op.out_number = 5;
  return OK;
}

/* --- what the guest does in its callbacks: nothing, a check's own function, or random calls */

static void (*action)(u32 id);
static u32 answer_with;
static i32 everywhere; /* also when a context begins and ends */
static u32 act(u32 id) {
  if (action) action(id);
  return answer_with;
}

gptr guest_allocate(u32 n) {
  CHECK(n > 0);
  return n <= 4096 ? 0x8000 : 0;
}
static u32 act_at_ends(u32 id) { return everywhere ? act(id) : 1; }
void on_context_create(u32 id, u32 parent) { (void)parent; act_at_ends(id); }
i32 on_vm_start(u32 id, u32 size) { (void)size; return (i32)act(id); }
i32 on_configure(u32 id, u32 size) { (void)size; return (i32)act(id); }
void on_tick(u32 id) { act(id); }
void on_queue_ready(u32 id, u32 queue) { (void)queue; act(id); }
void on_http_call_response(u32 id, u32 call, u32 n, u32 size, u32 trailers) { (void)call; (void)n; (void)size; (void)trailers; act(id); }
void on_grpc_receive_initial_metadata(u32 id, u32 call, u32 n) { (void)call; (void)n; act(id); }
void on_grpc_receive(u32 id, u32 call, u32 size) { (void)call; (void)size; act(id); }
void on_grpc_receive_trailing_metadata(u32 id, u32 call, u32 n) { (void)call; (void)n; act(id); }
void on_grpc_close(u32 id, u32 call, u32 status) { (void)call; (void)status; act(id); }
i32 on_done(u32 id) { return (i32)act_at_ends(id); }
void on_log(u32 id) { act_at_ends(id); }
void on_delete(u32 id) { act_at_ends(id); }
i32 on_new_connection(u32 id) { return (i32)act(id); }
i32 on_downstream_data(u32 id, u32 size, u32 eos) { (void)size; (void)eos; return (i32)act(id); }
void on_downstream_connection_close(u32 id, u32 peer) { (void)peer; act(id); }
i32 on_upstream_data(u32 id, u32 size, u32 eos) { (void)size; (void)eos; return (i32)act(id); }
void on_upstream_connection_close(u32 id, u32 peer) { (void)peer; act(id); }
i32 on_request_headers(u32 id, u32 n, u32 eos) { (void)n; (void)eos; return (i32)act(id); }
i32 on_request_body(u32 id, u32 size, u32 eos) { (void)size; (void)eos; return (i32)act(id); }
i32 on_request_trailers(u32 id, u32 n) { (void)n; return (i32)act(id); }
i32 on_response_trailers(u32 id, u32 n) { (void)n; return (i32)act(id); }
void on_foreign_function(u32 id, u32 function, u32 size) { (void)function; (void)size; act(id); }
i32 on_response_headers(u32 id, u32 n, u32 eos) { (void)n; (void)eos; return (i32)act(id); }
i32 on_response_body(u32 id, u32 size, u32 eos) { (void)size; (void)eos; return (i32)act(id); }

static u32 input(const void *bytes, u32 n) {
  CHECK(!n || buffer_reserve(&io, n));
  if (n) memcpy(io.data, bytes, n);
  return n;
}
static u32 text(const char *s) { return input(s, (u32)strlen(s)); }
static u32 put_guest(u32 at, const char *s) {
  memcpy(guest + at, s, strlen(s));
  return (u32)strlen(s);
}

#include "core_checks.c"
#include "core_fuzz.c"

int main(int argc, char **argv) {
  u64 seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  u32 rounds = argc > 2 ? (u32)strtoul(argv[2], NULL, 10) : 10000;
  guest = malloc(guest_size);
  memset(guest, 0, guest_size);
  setup(ABI_0_2_1, LEVEL_INFO, 40000);
  set_vm_configuration(text("vm"));
  CHECK(set_environment(2, input("A=1\0B=2", 8)));
  root_up();
  check_heads();
  check_unfinished_heads();
  check_arena_limit();
  check_bodies();
  check_placed_bodies();
  check_logs();
  check_traps();
  check_others();
  root_down();
  log_size = 0;
  fuzz(seed, rounds);
  printf("%u rounds, %llu host calls, %llu flushes, %llu bytes taken\n", rounds, calls, flushed, taken);
  return 0;
}
