/* As much of WASI preview 1 as toolchains make plugins use. */
#ifndef WASI_H
#define WASI_H

#include <stddef.h>
#include <stdint.h>

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) uint32_t name
struct vector { const char *bytes; size_t size; };
WASI(fd_write)(uint32_t fd, const struct vector *vectors, size_t count, size_t *written);
WASI(environ_sizes_get)(size_t *count, size_t *size);
WASI(environ_get)(char **pointers, char *text);
WASI(args_sizes_get)(size_t *count, size_t *size);
WASI(clock_time_get)(uint32_t id, uint64_t precision, uint64_t *out);
WASI(clock_res_get)(uint32_t id, uint64_t *out);
WASI(random_get)(char *to, size_t size);
WASI(fd_prestat_get)(uint32_t fd, void *out);
WASI(fd_fdstat_get)(uint32_t fd, uint64_t *out);
WASI(poll_oneoff)(const void *in, void *out, size_t count, size_t *events);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit"))) void proc_exit(uint32_t code);

#endif
