/* A plugin whose workers count together: every request adds one to a shared number by compare-and-swap and answers it, counts in
 * a metric, and puts the number into a queue; whoever registered the queue logs what comes out of it. */
#include "allocator.h"
#include "proxy_wasm.h"

PROXY_IMPORT("proxy_get_shared_data")
enum proxy_status proxy_get_shared_data(const char *key, size_t key_size, char **value, size_t *size, uint32_t *cas);
PROXY_IMPORT("proxy_set_shared_data")
enum proxy_status proxy_set_shared_data(const char *key, size_t key_size, const char *value, size_t size, uint32_t cas);
PROXY_IMPORT("proxy_register_shared_queue")
enum proxy_status proxy_register_shared_queue(const char *name, size_t size, uint32_t *queue);
PROXY_IMPORT("proxy_enqueue_shared_queue")
enum proxy_status proxy_enqueue_shared_queue(uint32_t queue, const char *data, size_t size);
PROXY_IMPORT("proxy_dequeue_shared_queue")
enum proxy_status proxy_dequeue_shared_queue(uint32_t queue, char **data, size_t *size);
PROXY_IMPORT("proxy_define_metric")
enum proxy_status proxy_define_metric(uint32_t kind, const char *name, size_t size, uint32_t *metric);
PROXY_IMPORT("proxy_increment_metric") enum proxy_status proxy_increment_metric(uint32_t metric, int64_t delta);

static uint32_t queue, metric;

PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}

PROXY_EXPORT("proxy_on_configure") bool configure(uint32_t root, size_t size) {
    (void)root, (void)size;
    return !proxy_register_shared_queue("numbers", 7, &queue) && !proxy_define_metric(0, "requests", 8, &metric);
}

/* The number that was there and one more, as text of 8 digits. */
static bool add_one(char text[8]) {
    char *old;
    size_t size;
    uint32_t cas = 0;
    enum proxy_status found = proxy_get_shared_data("count", 5, &old, &size, &cas);
    for (int k = 0; k < 8; k++) text[k] = found == PROXY_OK ? old[k] : '0';
    if (found == PROXY_OK) deallocate(old);
    for (int k = 7; k >= 0 && ++text[k] > '9'; k--) text[k] = '0';
    return proxy_set_shared_data("count", 5, text, 8, cas) == PROXY_OK;
}

PROXY_EXPORT("proxy_on_request_headers") enum proxy_action request(uint32_t id, size_t count, bool end) {
    (void)id, (void)count, (void)end;
    char text[8];
    while (!add_one(text)) {}
    proxy_increment_metric(metric, 1);
    proxy_enqueue_shared_queue(queue, text, 8);
    proxy_send_local_response(200, 0, 0, text, 8, 0, 0, PROXY_NO_GRPC_STATUS);
    return PROXY_PAUSE;
}

PROXY_EXPORT("proxy_on_queue_ready") void ready(uint32_t root, uint32_t id) {
    (void)root;
    char *data;
    size_t size;
    if (proxy_dequeue_shared_queue(id, &data, &size) != PROXY_OK) return;
    proxy_log(PROXY_INFO, data, size);
    deallocate(data);
}
