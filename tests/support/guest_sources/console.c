/* A plugin that does what its configuration says, and logs what it was called with and what every host call answered.
 *
 * One line is `WHEN COMMAND WORD...`; WHEN is a callback without its `proxy_on_`, with `#2` behind it for the second call in
 * its context only. `%41` in a word is the byte 0x41, `%` followed by anything else is nothing. Bytes come out likewise. */
#include "allocator.h"
#include "proxy_wasm.h"

#define IMPORTED(name) PROXY_IMPORT(#name) enum proxy_status name
IMPORTED(proxy_get_log_level)(uint32_t *level);
IMPORTED(proxy_get_buffer_status)(uint32_t type, size_t *size, uint32_t *flags);
IMPORTED(proxy_get_header_map_size)(uint32_t map, size_t *size);
IMPORTED(proxy_set_effective_context)(uint32_t context);
IMPORTED(proxy_done)(void);
IMPORTED(proxy_get_status)(uint32_t *code, char **message, size_t *size);
#ifdef ABI_0_1_0
IMPORTED(proxy_get_configuration)(char **bytes, size_t *size);
IMPORTED(proxy_continue_request)(void);
IMPORTED(proxy_continue_response)(void);
IMPORTED(proxy_clear_route_cache)(void);
PROXY_EXPORT("proxy_abi_version_0_1_0") void version(void) {}
#elif defined ABI_0_2_0
PROXY_EXPORT("proxy_abi_version_0_2_0") void version(void) {}
#else
PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}
#endif

enum { CONTEXTS = 64, CALLBACKS = 24, WORDS = 64, LINE = 4096 };

static uint8_t calls[CONTEXTS][CALLBACKS];
static char line[LINE];
static size_t line_size;

/* --- text */

static void put_char(char c) { if (line_size < LINE) line[line_size++] = c; }
static void put(const char *s) { while (*s) put_char(*s++); }
static void put_number(uint64_t n) {
    char digits[20];
    int k = 0;
    do digits[k++] = (char)('0' + n % 10); while (n /= 10);
    while (k) put_char(digits[--k]);
}
static void put_bytes(const char *s, size_t n) {
    for (; n--; s++) {
        uint8_t c = (uint8_t)*s;
        if (c >= 32 && c < 127 && c != '%') { put_char((char)c); continue; }
        put_char('%');
        put_char("0123456789abcdef"[c >> 4]);
        put_char("0123456789abcdef"[c & 15]);
    }
}
static void flush(void) { proxy_log(PROXY_INFO, line, line_size); line_size = 0; }

static const char *const STATUSES[] = {"OK", "NOT_FOUND", "BAD_ARGUMENT", "SERIALIZATION_FAILURE", "PARSE_FAILURE", "5",
    "INVALID_MEMORY_ACCESS", "EMPTY", "CAS_MISMATCH", "9", "INTERNAL_FAILURE", "11", "UNIMPLEMENTED"};
static void put_status(enum proxy_status status) { put(STATUSES[status]); }

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }
static int equal(const char *a, size_t n, const char *b) {
    while (n && *b) { if (*a++ != *b++) return 0; n--; }
    return !n && !*b;
}

struct word { char *s; size_t n; };
static struct word words[WORDS];
static size_t word_count;

static void decode(struct word *w) {
    size_t to = 0;
    for (size_t from = 0; from < w->n; from++) {
        if (w->s[from] != '%') { w->s[to++] = w->s[from]; continue; }
        if (from + 2 < w->n && hex(w->s[from + 1]) >= 0 && hex(w->s[from + 2]) >= 0) {
            w->s[to++] = (char)(hex(w->s[from + 1]) << 4 | hex(w->s[from + 2]));
            from += 2;
        }
    }
    w->n = to;
}

static struct word word(size_t k) { return k < word_count ? words[k] : (struct word){0, 0}; }
static uint32_t number(size_t k) {
    uint32_t n = 0;
    struct word w = word(k);
    for (size_t i = 0; i < w.n; i++) n = n * 10 + (uint32_t)(w.s[i] - '0');
    return n;
}

/* Words `name=value` from `first` on as serialized pairs. */
static char *pairs_of(size_t first, size_t *size) {
    size_t n = 4, count = word_count > first ? word_count - first : 0;
    for (size_t k = first; k < word_count; k++) n += 8 + word(k).n + 1;
    char *out = allocate(n), *o = out + 4 + 8 * count;
    ((uint32_t *)out)[0] = count;
    for (size_t k = 0; k < count; k++) {
        struct word w = word(first + k);
        size_t at = 0;
        while (at < w.n && w.s[at] != '=') at++;
        ((uint32_t *)out)[1 + 2 * k] = at;
        ((uint32_t *)out)[2 + 2 * k] = w.n - at - 1;
        for (size_t i = 0; i < w.n; i++) *o++ = i == at ? 0 : w.s[i];
        *o++ = 0;
    }
    *size = n;
    return out;
}

static void put_pairs(const char *p, size_t size) {
    if (!p) { put("null"); return; }
    const uint32_t *sizes = (const uint32_t *)p;
    const char *s = p + 4 + 8 * sizes[0];
    for (uint32_t k = 0; k < sizes[0]; k++) {
        if (k) put_char('|');
        put_bytes(s, sizes[1 + 2 * k]);
        s += sizes[1 + 2 * k] + 1;
        put_char('=');
        put_bytes(s, sizes[2 + 2 * k]);
        s += sizes[2 + 2 * k] + 1;
    }
    if (s != p + size) put(" (wrong size)");
}

/* --- commands */

static volatile uint32_t sink;
static uint32_t recurse(uint32_t n) { sink = n; return n ? recurse(n + 1) + sink : 0; }

static void result(enum proxy_status status, const char *value, size_t size) {
    put_status(status);
    if (status == PROXY_OK && value && size) { put_char(' '); put_bytes(value, size); }
}
static void result_number(enum proxy_status status, uint64_t value) {
    put_status(status);
    if (status == PROXY_OK) { put_char(' '); put_number(value); }
}

#include "console_state.h"
#include "console_calls.h"

static int header_command(struct word c) {
    char *value = NULL;
    size_t size = 0;
    struct word key = word(3), text = word(4);
    if (equal(c.s, c.n, "get")) {
        enum proxy_status status = proxy_get_header_map_value(number(2), key.s, key.n, &value, &size);
        result(status, value, size);
    } else if (equal(c.s, c.n, "add")) put_status(proxy_add_header_map_value(number(2), key.s, key.n, text.s, text.n));
    else if (equal(c.s, c.n, "replace")) put_status(proxy_replace_header_map_value(number(2), key.s, key.n, text.s, text.n));
    else if (equal(c.s, c.n, "remove")) put_status(proxy_remove_header_map_value(number(2), key.s, key.n));
    else if (equal(c.s, c.n, "size")) {
        enum proxy_status status = proxy_get_header_map_size(number(2), &size);
        result_number(status, size);
    } else if (equal(c.s, c.n, "pairs")) {
        enum proxy_status status = proxy_get_header_map_pairs(number(2), &value, &size);
        put_status(status);
        if (status == PROXY_OK) { put_char(' '); put_pairs(value, size); }
    } else if (equal(c.s, c.n, "set")) {
        char *pairs = pairs_of(3, &size);
        put_status(proxy_set_header_map_pairs(number(2), pairs, size));
        deallocate(pairs);
    } else if (equal(c.s, c.n, "set_raw")) put_status(proxy_set_header_map_pairs(number(2), key.s, key.n));
    else return 0;
    deallocate(value);
    return 1;
}

static int buffer_command(struct word c) {
    char *value = NULL;
    size_t size = 0;
    uint32_t flags = 7;
    if (equal(c.s, c.n, "buffer")) {
        enum proxy_status status = proxy_get_buffer_bytes(number(2), number(3), number(4), &value, &size);
        result(status, value, size);
    } else if (equal(c.s, c.n, "buffer_status")) {
        enum proxy_status status = proxy_get_buffer_status(number(2), &size, &flags);
        result_number(status, size);
        if (status == PROXY_OK) { put_char(' '); put_number(flags); }
    } else if (equal(c.s, c.n, "set_buffer"))
        put_status(proxy_set_buffer_bytes(number(2), number(3), number(4), word(5).s, word(5).n));
#ifdef ABI_0_1_0
    else if (equal(c.s, c.n, "configuration")) {
        enum proxy_status status = proxy_get_configuration(&value, &size);
        result(status, value, size);
    }
#endif
    else return 0;
    deallocate(value);
    return 1;
}

static int stream_command(struct word c) {
    size_t size = 0;
    if (equal(c.s, c.n, "reply")) {
        char *pairs = pairs_of(6, &size);
        put_status(proxy_send_local_response(number(2), word(3).s, word(3).n, word(4).s, word(4).n, pairs, size,
                                             word(5).n ? number(5) : PROXY_NO_GRPC_STATUS));
    } else if (equal(c.s, c.n, "continue")) put_status(proxy_continue_stream(number(2)));
    else if (equal(c.s, c.n, "close")) put_status(proxy_close_stream(number(2)));
#ifdef ABI_0_1_0
    else if (equal(c.s, c.n, "continue_request")) put_status(proxy_continue_request());
    else if (equal(c.s, c.n, "continue_response")) put_status(proxy_continue_response());
    else if (equal(c.s, c.n, "clear_route_cache")) put_status(proxy_clear_route_cache());
#endif
    else if (equal(c.s, c.n, "effective")) put_status(proxy_set_effective_context(number(2)));
    else if (equal(c.s, c.n, "tick_period")) put_status(proxy_set_tick_period_milliseconds(number(2)));
    else if (equal(c.s, c.n, "proxy_done")) put_status(proxy_done());
    else return 0;
    return 1;
}

static int fact_command(struct word c) {
    char *value = NULL;
    size_t size = 0;
    uint32_t small = 0;
    uint64_t large = 0;
    if (equal(c.s, c.n, "property")) {
        enum proxy_status status = proxy_get_property(word(2).s, word(2).n, &value, &size);
        result(status, value, size);
    } else if (equal(c.s, c.n, "set_property"))
        put_status(proxy_set_property(word(2).s, word(2).n, word(3).s, word(3).n));
    else if (equal(c.s, c.n, "time")) {
        enum proxy_status status = proxy_get_current_time_nanoseconds(&large);
        result_number(status, large);
    } else if (equal(c.s, c.n, "level")) {
        enum proxy_status status = proxy_get_log_level(&small);
        result_number(status, small);
    } else if (equal(c.s, c.n, "status")) {
        small = 99;
        enum proxy_status status = proxy_get_status(&small, &value, &size);
        result_number(status, small);
        if (size) { put_char(' '); put_bytes(value, size); }
    } else if (equal(c.s, c.n, "log")) put_status(proxy_log(number(2), word(3).s, word(3).n));
    else return 0;
    deallocate(value);
    return 1;
}

#include "console_wasi.h"

static int fatal_command(struct word c) {
    if (equal(c.s, c.n, "trap")) __builtin_trap();
    if (equal(c.s, c.n, "loop")) for (;;) sink++;
    if (equal(c.s, c.n, "recurse")) sink = recurse(1);
    if (equal(c.s, c.n, "log_for_ever")) for (;;) proxy_log(PROXY_INFO, "again", 5);
    if (equal(c.s, c.n, "ask_for_ever")) {
        for (;;) {
            char *value = NULL;
            size_t size = 0;
            proxy_get_property("plugin_name", 11, &value, &size);
            deallocate(value);
        }
    }
    if (equal(c.s, c.n, "allocate_for_ever")) {
        uint32_t pages = 0;
        while (__builtin_wasm_memory_grow(0, 16) != UINTPTR_MAX) pages += 16;
        put_number(pages);
        return 1;
    }
    return 0;
}

/* --- the script */

static void split(char *s, size_t n) {
    word_count = 0;
    for (size_t at = 0; at <= n && word_count < WORDS;) {
        size_t end = at;
        while (end < n && s[end] != ' ') end++;
        words[word_count++] = (struct word){s + at, end - at};
        at = end + 1;
    }
    for (size_t k = 1; k < word_count; k++) decode(words + k);
}

static int concerns(struct word when, const char *name, uint32_t call) {
    size_t n = 0;
    while (n < when.n && when.s[n] != '#') n++;
    if (!equal(when.s, n, name)) return 0;
    if (n == when.n) return 1;
    uint32_t wanted = 0;
    for (size_t k = n + 1; k < when.n; k++) wanted = wanted * 10 + (uint32_t)(when.s[k] - '0');
    return wanted == call;
}

/* What the callback answers. */
static uint32_t run_script(const char *name, uint32_t call, uint32_t answer) {
    char *script = NULL;
    size_t size = 0;
    if (proxy_get_buffer_bytes(PROXY_PLUGIN_CONFIGURATION, 0, UINT32_MAX, &script, &size) != PROXY_OK) return answer;
    for (size_t at = 0; at < size;) {
        size_t end = at;
        while (end < size && script[end] != '\n') end++;
        split(script + at, end - at);
        at = end + 1;
        if (!concerns(words[0], name, call)) continue;
        struct word command = word(1);
        if (equal(command.s, command.n, "return")) { answer = number(2); continue; }
        put_bytes(command.s, command.n);
        put(": ");
        if (!header_command(command) && !buffer_command(command) && !stream_command(command) && !fact_command(command) &&
            !wasi_command(command) && !state_command(command) && !call_command(command) && !fatal_command(command)) put("unknown command");
        flush();
    }
    deallocate(script);
    return answer;
}

enum { CREATE, VM_START, CONFIGURE, TICK, DONE, LOG, DELETE, REQUEST_HEADERS, REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY,
       REQUEST_TRAILERS, RESPONSE_TRAILERS, QUEUE_READY, FOREIGN_FUNCTION, NEW_CONNECTION, DOWNSTREAM_DATA,
       DOWNSTREAM_CLOSE, UPSTREAM_DATA, UPSTREAM_CLOSE };
static const char *const NAMES[] = {"context_create", "vm_start", "configure", "tick", "done", "log", "delete",
                                    "request_headers", "request_body", "response_headers", "response_body",
                                    "request_trailers", "response_trailers", "queue_ready", "foreign_function", "new_connection",
                                    "downstream_data", "downstream_connection_close", "upstream_data",
                                    "upstream_connection_close"};

static uint32_t called(uint32_t callback, uint32_t count, const uint32_t *arguments, uint32_t answer) {
    uint32_t call = ++calls[arguments[0] % CONTEXTS][callback];
    put(NAMES[callback]);
    for (uint32_t k = 0; k < count; k++) { put_char(' '); put_number(arguments[k]); }
    flush();
    return run_script(NAMES[callback], call, answer);
}
#define CALLED(callback, answer, ...) \
    called(callback, sizeof((uint32_t[]){__VA_ARGS__}) / 4, (const uint32_t[]){__VA_ARGS__}, answer)

PROXY_EXPORT("proxy_on_context_create") void on_context_create(uint32_t context, uint32_t parent) {
    for (uint32_t k = 0; k < CALLBACKS; k++) calls[context % CONTEXTS][k] = 0;
    CALLED(CREATE, 0, context, parent);
}
PROXY_EXPORT("proxy_on_vm_start") uint32_t on_vm_start(uint32_t context, uint32_t size) { return CALLED(VM_START, 1, context, size); }
PROXY_EXPORT("proxy_on_configure") uint32_t on_configure(uint32_t context, uint32_t size) { return CALLED(CONFIGURE, 1, context, size); }
PROXY_EXPORT("proxy_on_tick") void on_tick(uint32_t context) { CALLED(TICK, 0, context); }
PROXY_EXPORT("proxy_on_done") uint32_t on_done(uint32_t context) { return CALLED(DONE, 1, context); }
PROXY_EXPORT("proxy_on_log") void on_log(uint32_t context) { CALLED(LOG, 0, context); }
PROXY_EXPORT("proxy_on_delete") void on_delete(uint32_t context) { CALLED(DELETE, 0, context); }
#ifdef ABI_0_1_0
PROXY_EXPORT("proxy_on_request_headers") uint32_t on_request_headers(uint32_t context, uint32_t count) { return CALLED(REQUEST_HEADERS, 0, context, count); }
PROXY_EXPORT("proxy_on_response_headers") uint32_t on_response_headers(uint32_t context, uint32_t count) { return CALLED(RESPONSE_HEADERS, 0, context, count); }
#else
PROXY_EXPORT("proxy_on_request_headers") uint32_t on_request_headers(uint32_t context, uint32_t count, uint32_t eos) {
    return CALLED(REQUEST_HEADERS, 0, context, count, eos);
}
PROXY_EXPORT("proxy_on_response_headers") uint32_t on_response_headers(uint32_t context, uint32_t count, uint32_t eos) {
    return CALLED(RESPONSE_HEADERS, 0, context, count, eos);
}
#endif
PROXY_EXPORT("proxy_on_queue_ready") void on_queue_ready(uint32_t context, uint32_t queue) {
    last_id = queue;
    CALLED(QUEUE_READY, 0, context, !!queue);
}
#ifndef ABI_0_1_0
PROXY_EXPORT("proxy_on_foreign_function") void on_foreign_function(uint32_t context, uint32_t function, uint32_t size) {
    CALLED(FOREIGN_FUNCTION, 0, context, function, size);
}
#endif
PROXY_EXPORT("proxy_on_new_connection") uint32_t on_new_connection(uint32_t context) { return CALLED(NEW_CONNECTION, 0, context); }
#ifndef NO_BODIES
PROXY_EXPORT("proxy_on_downstream_data") uint32_t on_downstream_data(uint32_t context, uint32_t size, uint32_t eos) {
    return CALLED(DOWNSTREAM_DATA, 0, context, size, eos);
}
PROXY_EXPORT("proxy_on_upstream_data") uint32_t on_upstream_data(uint32_t context, uint32_t size, uint32_t eos) {
    return CALLED(UPSTREAM_DATA, 0, context, size, eos);
}
#endif
PROXY_EXPORT("proxy_on_downstream_connection_close") void on_downstream_close(uint32_t context, uint32_t peer) {
    CALLED(DOWNSTREAM_CLOSE, 0, context, peer);
}
PROXY_EXPORT("proxy_on_upstream_connection_close") void on_upstream_close(uint32_t context, uint32_t peer) {
    CALLED(UPSTREAM_CLOSE, 0, context, peer);
}
#ifndef NO_BODIES
PROXY_EXPORT("proxy_on_request_trailers") uint32_t on_request_trailers(uint32_t context, uint32_t count) {
    return CALLED(REQUEST_TRAILERS, 0, context, count);
}
PROXY_EXPORT("proxy_on_response_trailers") uint32_t on_response_trailers(uint32_t context, uint32_t count) {
    return CALLED(RESPONSE_TRAILERS, 0, context, count);
}
PROXY_EXPORT("proxy_on_request_body") uint32_t on_request_body(uint32_t context, uint32_t size, uint32_t eos) {
    return CALLED(REQUEST_BODY, 0, context, size, eos);
}
PROXY_EXPORT("proxy_on_response_body") uint32_t on_response_body(uint32_t context, uint32_t size, uint32_t eos) {
    return CALLED(RESPONSE_BODY, 0, context, size, eos);
}
#endif
