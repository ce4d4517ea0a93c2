/* Greets: sets one response header, and answers one path by itself. Both come from the plugin's configuration.
 *
 * The law: a plugin context owns its settings, a stream context borrows those of its parent. Ids are the host's choice
 * (they may grow for ever or be used again), so contexts are found by hash and never by index. */
#include "allocator.h"
#include "flat_json.h"
#include "proxy_wasm.h"

#define LITERAL(literal) ((struct text){(char *)(literal), sizeof(literal) - 1})

struct settings {
    char *document; /* the configuration's bytes; the texts below point into it */
    struct text header, value, reply_path, reply_body;
    uint32_t reply_status;
};

struct context {
    uint32_t id, parent;
    struct context *next;
    struct settings settings;
};

#define BUCKETS 256u
static struct context *contexts[BUCKETS];

static struct context *find(uint32_t id) {
    struct context *context = contexts[id % BUCKETS];
    while (context != NULL && context->id != id) context = context->next;
    return context;
}

static const struct settings *settings_of(uint32_t stream) {
    const struct context *context = find(stream);
    if (context != NULL && context->parent != 0) context = find(context->parent);
    return context == NULL ? NULL : &context->settings;
}

static bool same(struct text a, struct text b) { return a.size == b.size && __builtin_memcmp(a.at, b.at, a.size) == 0; }

int memcmp(const void *a, const void *b, size_t size) {
    const unsigned char *left = a, *right = b;
    for (; size > 0; size--, left++, right++)
        if (*left != *right) return *left - *right;
    return 0;
}

/* One log line of at most this many bytes; a longer configuration is cut, which a log survives. */
static bool refuse(const char *what, struct text about) {
    char line[256] = "greeting: bad configuration: ";
    size_t size = sizeof "greeting: bad configuration: " - 1;
    while (*what != '\0' && size < sizeof line) line[size++] = *what++;
    for (size_t i = 0; i < about.size && size < sizeof line; i++) line[size++] = about.at[i];
    proxy_log(PROXY_ERROR, line, size);
    return false;
}

/* A field name as RFC 9110 section 5.1 wants it. */
static bool is_token(struct text text) {
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.size; i++) {
        char byte = text.at[i];
        bool known = (byte >= '0' && byte <= '9') || ((byte | 32) >= 'a' && (byte | 32) <= 'z');
        for (size_t m = 0; !known && m < sizeof marks - 1; m++) known = byte == marks[m];
        if (!known) return false;
    }
    return text.size > 0;
}

static bool is_line(struct text text) {
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.at[i] < ' ' || text.at[i] == 127) return false;
    return true;
}

static bool accept(struct settings *settings, const struct json_field *field) {
    struct {
        struct text key;
        struct text *target;
    } strings[] = {
        {LITERAL("header"), &settings->header},
        {LITERAL("value"), &settings->value},
        {LITERAL("reply_path"), &settings->reply_path},
        {LITERAL("reply_body"), &settings->reply_body},
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        if (!same(field->key, strings[i].key)) continue;
        if (!field->is_string) return refuse("a string is expected for ", field->key);
        *strings[i].target = field->string;
        return true;
    }
    if (!same(field->key, LITERAL("reply_status"))) return refuse("unknown key ", field->key);
    if (field->is_string || field->integer < 200 || field->integer > 599)
        return refuse("a number from 200 to 599 is expected for ", field->key);
    settings->reply_status = (uint32_t)field->integer;
    return true;
}

static bool parse(struct settings *settings, size_t size) {
    struct json_reader reader = {.at = settings->document, .end = settings->document + size};
    struct json_field field;
    settings->header = LITERAL("x-greeting");
    settings->reply_status = 403;
    while (json_next(&reader, &field))
        if (!accept(settings, &field)) return false;
    if (reader.error != NULL) return refuse(reader.error, LITERAL(""));
    if (!is_token(settings->header)) return refuse("not a header name: ", settings->header);
    if (settings->value.size == 0 || !is_line(settings->value))
        return refuse("one line of text is expected for ", LITERAL("value"));
    if (settings->reply_path.size > 0 && settings->reply_path.at[0] != '/')
        return refuse("a path that begins with / is expected for ", LITERAL("reply_path"));
    return true;
}

PROXY_EXPORT("proxy_abi_version_0_2_1") void proxy_abi_version_0_2_1(void) {}

PROXY_EXPORT("proxy_on_context_create") void proxy_on_context_create(uint32_t id, uint32_t parent) {
    struct context *context = allocate(sizeof *context);
    if (context == NULL) __builtin_trap();
    *context = (struct context){.id = id, .parent = parent, .next = contexts[id % BUCKETS]};
    contexts[id % BUCKETS] = context;
}

PROXY_EXPORT("proxy_on_configure") bool proxy_on_configure(uint32_t id, size_t size) {
    struct context *context = find(id);
    if (context == NULL) return false;
    deallocate(context->settings.document);
    context->settings = (struct settings){0};
    size_t received = 0;
    if (proxy_get_buffer_bytes(PROXY_PLUGIN_CONFIGURATION, 0, size, &context->settings.document, &received) != PROXY_OK)
        return refuse("the host did not hand it over", LITERAL(""));
    return parse(&context->settings, received);
}

PROXY_EXPORT("proxy_on_request_headers")
enum proxy_action proxy_on_request_headers(uint32_t id, uint32_t count, bool end_of_stream) {
    (void)count, (void)end_of_stream;
    const struct settings *settings = settings_of(id);
    if (settings == NULL || settings->reply_path.size == 0) return PROXY_CONTINUE;
    struct text path = {0};
    if (proxy_get_header_map_value(PROXY_REQUEST_HEADERS, ":path", 5, &path.at, &path.size) != PROXY_OK)
        return PROXY_CONTINUE;
    char *owned = path.at;
    for (size_t i = 0; i < path.size; i++)
        if (path.at[i] == '?') path.size = i;
    bool replies = same(path, settings->reply_path);
    deallocate(owned);
    if (!replies) return PROXY_CONTINUE;
    proxy_send_local_response(settings->reply_status, "greeting", 8, settings->reply_body.at, settings->reply_body.size,
                              NULL, 0, PROXY_NO_GRPC_STATUS);
    return PROXY_PAUSE;
}

PROXY_EXPORT("proxy_on_response_headers")
enum proxy_action proxy_on_response_headers(uint32_t id, uint32_t count, bool end_of_stream) {
    (void)count, (void)end_of_stream;
    const struct settings *settings = settings_of(id);
    if (settings != NULL)
        proxy_replace_header_map_value(PROXY_RESPONSE_HEADERS, settings->header.at, settings->header.size,
                                       settings->value.at, settings->value.size);
    return PROXY_CONTINUE;
}

PROXY_EXPORT("proxy_on_delete") void proxy_on_delete(uint32_t id) {
    for (struct context **link = &contexts[id % BUCKETS]; *link != NULL; link = &(*link)->next) {
        struct context *context = *link;
        if (context->id != id) continue;
        *link = context->next;
        deallocate(context->settings.document);
        deallocate(context);
        return;
    }
}
