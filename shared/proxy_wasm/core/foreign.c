/* Foreign functions: those of Python that a plugin calls by name, and the route of a request, which one of them forgets. */
#include "core.h"

/* The request finds its route anew when it goes on, by what plugins have made of its head. */
EXPORT("proxy_clear_route_cache") i32 proxy_clear_route_cache(void) {
  ENTER();
  Context *c = current();
  if (c && c->root) record(c, F_CLEAR_ROUTE_CACHE);
  return OK;
}

/* The function's own status. An output pointer of 0 is not wanted. */
EXPORT("proxy_call_foreign_function")
i32 proxy_call_foreign_function(gptr name, u32 n, gptr arguments, u32 size, gptr result_out, gptr size_out) {
  ENTER();
  TRY(take_two(name, n, arguments, size));
  if (IS(scratch.data, n, "clear_route_cache")) return proxy_clear_route_cache();
  TRY(call_op(OP_CALL_FOREIGN_FUNCTION, current()));
  if (result_out && size_out) return give(io.data, op.out_size, result_out, size_out);
  return size_out ? store(size_out, op.out_size) : OK;
}

/* For a foreign function in Python: a stream's map, as pairs in `out`; -1 when it is not there. */
EXPORT("show_map") i32 show_map(u32 id, u32 type) {
  const Map *m = map_of(context_of(id), type);
  u32 n = m ? pairs_size(m) : 0;
  if (!m || !buffer_reserve(&out, n)) return -1;
  pairs_write(m, out.data);
  result.out = ADDR(out.data);
  return (i32)n;
}
