/* A plugin that is particular about its configuration, which is one word: it goes on with those that begin with `a` or `b`
 * (with WANTS_B: with `b` alone) and with `share`, does wrong on purpose for some, and refuses all others. What it is told, it
 * logs. Other macros make it fail at its start. */
#include "allocator.h"
#include "proxy_wasm.h"

#define TEXT(s) s, sizeof s - 1
PROXY_IMPORT("proxy_set_shared_data") enum proxy_status set_shared(const char *, size_t, const char *, size_t, uint32_t);
PROXY_IMPORT("proxy_get_shared_data") enum proxy_status get_shared(const char *, size_t, char **, size_t *, uint32_t *);
PROXY_IMPORT("proxy_register_shared_queue") enum proxy_status register_queue(const char *, size_t, uint32_t *);
PROXY_IMPORT("proxy_resolve_shared_queue")
enum proxy_status resolve_queue(const char *, size_t, const char *, size_t, uint32_t *);
PROXY_IMPORT("proxy_enqueue_shared_queue") enum proxy_status enqueue(uint32_t, const char *, size_t);
PROXY_IMPORT("proxy_dequeue_shared_queue") enum proxy_status dequeue(uint32_t, char **, size_t *);
PROXY_IMPORT("proxy_define_metric") enum proxy_status define_metric(uint32_t, const char *, size_t, uint32_t *);
PROXY_IMPORT("proxy_increment_metric") enum proxy_status increment_metric(uint32_t, int64_t);
PROXY_IMPORT("proxy_get_metric") enum proxy_status get_metric(uint32_t, uint64_t *);

enum { VM_CONFIGURATION = 6, PLUGIN_CONFIGURATION = 7 };
static volatile uint32_t sink;
static char line[256];

static void say(const char *what, size_t what_size, const char *word, size_t word_size) {
    size_t used = 0;
    for (size_t i = 0; i < what_size; i++) line[used++] = what[i];
    for (size_t i = 0; i < word_size && used < sizeof line; i++) line[used++] = word[i];
    proxy_log(PROXY_INFO, line, used);
}

static bool is(const char *word, size_t size, const char *expected, size_t expected_size) {
    if (size != expected_size) return false;
    for (size_t i = 0; i < size; i++) if (word[i] != expected[i]) return false;
    return true;
}

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

#if defined TRAP_AT_START || defined LOOP_AT_START || defined SLOW_AT_START
PROXY_EXPORT("_initialize") void initialize(void) {
    say(TEXT("starting"), TEXT(""));
#ifdef TRAP_AT_START
    __builtin_trap();
#elif defined LOOP_AT_START
    for (;;) sink++;
#else
    for (uint32_t i = 0; i < 100000000; i++) sink++;
#endif
}
#endif

PROXY_EXPORT("proxy_on_vm_start") bool on_vm_start(uint32_t id, size_t size) {
    (void)id;
    char *word = "nothing";
    size_t word_size = 7;
    if (size) proxy_get_buffer_bytes(VM_CONFIGURATION, 0, size, &word, &word_size);
    say(TEXT("vm started with "), word, word_size);
#ifdef REFUSE_VM_START
    return false;
#endif
    return !is(word, word_size, TEXT("refuse"));
}

static uint32_t recurse(uint32_t n) { return sink = recurse(n + 1) + sink; }

/* What a plugin may do with others, and what a lonely one must be answered. */
static bool shares(void) {
    char *bytes;
    size_t size;
    uint32_t cas, queue, same, metric;
    uint64_t value;
    if (get_shared(TEXT("key"), &bytes, &size, &cas) != 1) return false;
    if (set_shared(TEXT("key"), TEXT("value"), 0) || set_shared(TEXT("key"), TEXT("x"), 77) != 8) return false;
    if (get_shared(TEXT("key"), &bytes, &size, &cas) || !is(bytes, size, TEXT("value"))) return false;
    if (resolve_queue(TEXT(""), TEXT("queue"), &queue) != 1 || register_queue(TEXT("queue"), &queue)) return false;
    if (resolve_queue(TEXT(""), TEXT("queue"), &same) || same != queue || enqueue(queue, TEXT("item"))) return false;
    if (dequeue(queue, &bytes, &size) || !is(bytes, size, TEXT("item")) || dequeue(queue, &bytes, &size) != 7) return false;
    if (define_metric(0, TEXT("metric"), &metric) || increment_metric(metric, 3) || increment_metric(metric, 4)) return false;
    return !get_metric(metric, &value) && value == 7;
}

PROXY_EXPORT("proxy_on_configure") bool on_configure(uint32_t id, size_t size) {
    (void)id;
    char *word = "";
    size_t word_size = 0;
    if (size) proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, &word, &word_size);
    if (is(word, word_size, TEXT("trap"))) __builtin_trap();
    if (is(word, word_size, TEXT("loop"))) for (;;) sink++;
    if (is(word, word_size, TEXT("recurse"))) recurse(0);
    while (is(word, word_size, TEXT("allocate"))) {
        volatile char *block = allocate(1 << 20);
        if (!block) __builtin_trap();
        *block = 1;
    }
    if (is(word, word_size, TEXT("share"))) return shares();
#ifndef WANTS_B
    if (word_size && word[0] == 'a') return true;
#endif
    if (word_size && word[0] == 'b') return true;
    say(TEXT("not with "), word, word_size);
    return false;
}
