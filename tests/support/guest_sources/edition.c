/* A plugin that tells its edition: NUMBER, put in by the test. Macros make one that does not start. */
#include "allocator.h"
#include "proxy_wasm.h"

#define TEXT(s) s, sizeof s - 1
#define SPELLED(n) #n
#define SPELL(n) SPELLED(n)

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

#ifdef TRAP_AT_START
PROXY_EXPORT("_initialize") void initialize(void) { __builtin_trap(); }
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

PROXY_EXPORT("proxy_on_response_headers") enum proxy_action on_response_headers(uint32_t id, size_t count, bool end) {
    (void)id, (void)count, (void)end;
    proxy_add_header_map_value(PROXY_RESPONSE_HEADERS, TEXT("x-edition"), TEXT(SPELL(NUMBER)));
    return PROXY_CONTINUE;
}
