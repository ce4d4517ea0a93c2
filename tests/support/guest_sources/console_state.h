/* Commands of the console plugin that reach what plugins share: data, queues, metrics; and foreign functions. */
#ifndef CONSOLE_STATE_H
#define CONSOLE_STATE_H

IMPORTED(proxy_get_shared_data)(const char *key, size_t n, char **value, size_t *size, uint32_t *cas);
IMPORTED(proxy_set_shared_data)(const char *key, size_t n, const char *value, size_t size, uint32_t cas);
IMPORTED(proxy_register_shared_queue)(const char *name, size_t n, uint32_t *id);
IMPORTED(proxy_resolve_shared_queue)(const char *vm_id, size_t vm_n, const char *name, size_t n, uint32_t *id);
IMPORTED(proxy_enqueue_shared_queue)(uint32_t id, const char *data, size_t n);
IMPORTED(proxy_dequeue_shared_queue)(uint32_t id, char **data, size_t *n);
IMPORTED(proxy_define_metric)(uint32_t type, const char *name, size_t n, uint32_t *id);
IMPORTED(proxy_increment_metric)(uint32_t id, int64_t delta);
IMPORTED(proxy_record_metric)(uint32_t id, uint64_t value);
IMPORTED(proxy_get_metric)(uint32_t id, uint64_t *value);
IMPORTED(proxy_call_foreign_function)(const char *name, size_t n, const char *in, size_t size, char **out, size_t *out_size);

static int64_t signed_number(size_t k) {
    struct word w = word(k);
    int64_t n = 0;
    for (size_t i = w.n && *w.s == '-'; i < w.n; i++) n = n * 10 + (w.s[i] - '0');
    return w.n && *w.s == '-' ? -n : n;
}

/* What was given last: a queue or a metric that a later command names `@`. */
static uint32_t last_id;
static uint32_t id_word(size_t k) { return equal(word(k).s, word(k).n, "@") ? last_id : number(k); }

static void result_id(enum proxy_status status, uint32_t id) {
    put_status(status);
    if (status != PROXY_OK) return;
    put(id ? " id" : " zero");
    last_id = id;
}

static int data_command(struct word c) {
    char *value = NULL;
    size_t size = 0;
    uint32_t cas = 0;
    if (equal(c.s, c.n, "get_data")) {
        enum proxy_status status = proxy_get_shared_data(word(2).s, word(2).n, &value, &size, &cas);
        result(status, value, size);
        if (status == PROXY_OK) put(cas ? " cas" : " no cas");
        last_id = cas;
    } else if (equal(c.s, c.n, "set_data"))
        put_status(proxy_set_shared_data(word(2).s, word(2).n, word(3).s, word(3).n, id_word(4)));
    else return 0;
    deallocate(value);
    return 1;
}

static int queue_command(struct word c) {
    char *value = NULL;
    size_t size = 0;
    uint32_t id = 0;
    if (equal(c.s, c.n, "register_queue")) {
        enum proxy_status status = proxy_register_shared_queue(word(2).s, word(2).n, &id);
        result_id(status, id);
    } else if (equal(c.s, c.n, "resolve_queue")) {
        enum proxy_status status = proxy_resolve_shared_queue(word(2).s, word(2).n, word(3).s, word(3).n, &id);
        result_id(status, id);
    } else if (equal(c.s, c.n, "enqueue")) put_status(proxy_enqueue_shared_queue(id_word(2), word(3).s, word(3).n));
    else if (equal(c.s, c.n, "dequeue")) {
        enum proxy_status status = proxy_dequeue_shared_queue(id_word(2), &value, &size);
        result(status, value, size);
    } else return 0;
    deallocate(value);
    return 1;
}

static int metric_command(struct word c) {
    uint32_t id = 0;
    uint64_t value = 0;
    if (equal(c.s, c.n, "define_metric")) {
        enum proxy_status status = proxy_define_metric(number(2), word(3).s, word(3).n, &id);
        result_id(status, id);
    } else if (equal(c.s, c.n, "increment_metric")) put_status(proxy_increment_metric(id_word(2), signed_number(3)));
    else if (equal(c.s, c.n, "record_metric")) put_status(proxy_record_metric(id_word(2), (uint64_t)signed_number(3)));
    else if (equal(c.s, c.n, "get_metric")) {
        enum proxy_status status = proxy_get_metric(id_word(2), &value);
        put_status(status);
        if (status != PROXY_OK) return 1;
        put((int64_t)value < 0 ? " -" : " ");
        put_number((int64_t)value < 0 ? -value : value);
    } else return 0;
    return 1;
}

/* `foreign` asks for the result; `foreign_blind` gives null pointers in its place. */
static int foreign_command(struct word c) {
    char *value = NULL;
    size_t size = 0;
    if (equal(c.s, c.n, "foreign")) {
        enum proxy_status status = proxy_call_foreign_function(word(2).s, word(2).n, word(3).s, word(3).n, &value, &size);
        result(status, value, size);
    } else if (equal(c.s, c.n, "foreign_blind"))
        put_status(proxy_call_foreign_function(word(2).s, word(2).n, word(3).s, word(3).n, NULL, NULL));
    else if (equal(c.s, c.n, "foreign_back")) { /* what one function answers is the second's argument */
        enum proxy_status status = proxy_call_foreign_function(word(2).s, word(2).n, word(4).s, word(4).n, &value, &size);
        put_status(status);
        put_char(' ');
        put_number(size);
        put_char(' ');
        char *back = NULL;
        size_t back_size = 0;
        status = proxy_call_foreign_function(word(3).s, word(3).n, value, size, &back, &back_size);
        result(status, back, back_size);
        deallocate(back);
    } else return 0;
    deallocate(value);
    return 1;
}

static int state_command(struct word c) {
    return data_command(c) || queue_command(c) || metric_command(c) || foreign_command(c);
}

#endif
