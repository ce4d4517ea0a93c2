/* Commands of the console plugin that call other servers, and the callbacks about those calls.
 *
 * `http_call UPSTREAM TIMEOUT BODY TRAILER NAME=VALUE...`, where an empty TRAILER (`%`) is none, as an empty BODY is. */
#ifndef CONSOLE_CALLS_H
#define CONSOLE_CALLS_H

IMPORTED(proxy_http_call)(const char *upstream, size_t upstream_size, const char *headers, size_t headers_size,
                          const char *body, size_t body_size, const char *trailers, size_t trailers_size, uint32_t timeout,
                          uint32_t *id);
IMPORTED(proxy_grpc_call)(const char *upstream, size_t upstream_size, const char *service, size_t service_size,
                          const char *method, size_t method_size, const char *metadata, size_t metadata_size,
                          const char *message, size_t message_size, uint32_t timeout, uint32_t *id);
IMPORTED(proxy_grpc_stream)(const char *upstream, size_t upstream_size, const char *service, size_t service_size,
                            const char *method, size_t method_size, const char *metadata, size_t metadata_size, uint32_t *id);
IMPORTED(proxy_grpc_send)(uint32_t id, const char *message, size_t size, uint32_t end_of_stream);
IMPORTED(proxy_grpc_cancel)(uint32_t id);
IMPORTED(proxy_grpc_close)(uint32_t id);

static uint32_t run_script(const char *name, uint32_t call, uint32_t answer);

/* One word `name=value`, or nothing, as serialized pairs. */
static char *pair_of(size_t k, size_t *size) {
    size_t count = word_count;
    word_count = word(k).n ? k + 1 : k;
    char *pairs = pairs_of(k, size);
    word_count = count;
    return pairs;
}

static void call_begun(enum proxy_status status, uint32_t id) {
    put_status(status);
    if (status == PROXY_OK) { put_char(' '); put_number(id); last_id = id; }
}

static int http_command(struct word c) {
    if (!equal(c.s, c.n, "http_call")) return 0;
    size_t fields_size, trailers_size;
    uint32_t id = 99;
    char *fields = pairs_of(6, &fields_size), *trailers = pair_of(5, &trailers_size);
    enum proxy_status status = proxy_http_call(word(2).s, word(2).n, fields, fields_size, word(4).s, word(4).n, trailers,
                                               word(5).n ? trailers_size : 0, number(3), &id);
    call_begun(status, id);
    deallocate(fields);
    deallocate(trailers);
    return 1;
}

/* `grpc_call UPSTREAM SERVICE METHOD TIMEOUT MESSAGE NAME=VALUE...`, `grpc_stream UPSTREAM SERVICE METHOD NAME=VALUE...` */
static int grpc_command(struct word c) {
    size_t size;
    uint32_t id = 99;
    if (equal(c.s, c.n, "grpc_call")) {
        char *metadata = pairs_of(7, &size);
        enum proxy_status status = proxy_grpc_call(word(2).s, word(2).n, word(3).s, word(3).n, word(4).s, word(4).n, metadata,
                                                   size, word(6).s, word(6).n, number(5), &id);
        call_begun(status, id);
        deallocate(metadata);
    } else if (equal(c.s, c.n, "grpc_stream")) {
        char *metadata = pairs_of(5, &size);
        enum proxy_status status = proxy_grpc_stream(word(2).s, word(2).n, word(3).s, word(3).n, word(4).s, word(4).n, metadata,
                                                     size, &id);
        call_begun(status, id);
        deallocate(metadata);
    } else if (equal(c.s, c.n, "grpc_send")) put_status(proxy_grpc_send(id_word(2), word(3).s, word(3).n, number(4)));
    else if (equal(c.s, c.n, "grpc_cancel")) put_status(proxy_grpc_cancel(id_word(2)));
    else if (equal(c.s, c.n, "grpc_close")) put_status(proxy_grpc_close(id_word(2)));
    else return 0;
    return 1;
}

static int call_command(struct word c) { return http_command(c) || grpc_command(c); }

enum { HTTP_CALL_RESPONSE, GRPC_INITIAL_METADATA, GRPC_MESSAGE, GRPC_TRAILING_METADATA, GRPC_CLOSE, CALL_CALLBACKS };
static uint8_t told_calls[CONTEXTS][CALL_CALLBACKS];

static void told(const char *name, uint32_t callback, uint32_t count, const uint32_t *arguments) {
    uint32_t call = ++told_calls[arguments[0] % CONTEXTS][callback];
    put(name);
    for (uint32_t k = 0; k < count; k++) { put_char(' '); put_number(arguments[k]); }
    flush();
    run_script(name, call, 0);
}

PROXY_EXPORT("proxy_on_http_call_response")
void on_http_call_response(uint32_t root, uint32_t call, uint32_t headers, uint32_t body_size, uint32_t trailers) {
    last_id = call;
    told("http_call_response", HTTP_CALL_RESPONSE, 5, (const uint32_t[]){root, call, headers, body_size, trailers});
}
PROXY_EXPORT("proxy_on_grpc_receive_initial_metadata") void on_initial_metadata(uint32_t root, uint32_t call, uint32_t fields) {
    told("grpc_initial_metadata", GRPC_INITIAL_METADATA, 3, (const uint32_t[]){root, call, fields});
}
PROXY_EXPORT("proxy_on_grpc_receive") void on_grpc_receive(uint32_t root, uint32_t call, uint32_t size) {
    told("grpc_receive", GRPC_MESSAGE, 3, (const uint32_t[]){root, call, size});
}
PROXY_EXPORT("proxy_on_grpc_receive_trailing_metadata") void on_trailing_metadata(uint32_t root, uint32_t call, uint32_t fields) {
    told("grpc_trailing_metadata", GRPC_TRAILING_METADATA, 3, (const uint32_t[]){root, call, fields});
}
PROXY_EXPORT("proxy_on_grpc_close") void on_grpc_close(uint32_t root, uint32_t call, uint32_t status) {
    told("grpc_close", GRPC_CLOSE, 3, (const uint32_t[]){root, call, status});
}

#endif
