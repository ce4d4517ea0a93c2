/* Commands of the console plugin that call WASI. */
#ifndef CONSOLE_WASI_H
#define CONSOLE_WASI_H

#include "wasi.h"

static void put_environment(void) {
    size_t count = 0, size = 0;
    put_number(environ_sizes_get(&count, &size));
    char **pointers = allocate(count * sizeof *pointers + 1), *text = allocate(size + 1);
    put_char(' ');
    put_number(environ_get(pointers, text));
    for (size_t k = 0; k < count; k++) { put_char(' '); put(pointers[k]); }
}

static int wasi_command(struct word c) {
    static char block[70000];
    size_t size = 0;
    uint64_t wide[3] = {9, 9, 9};
    struct vector vectors[8];
    if (equal(c.s, c.n, "write")) {
        for (size_t k = 3; k < word_count && k < 11; k++) vectors[k - 3] = (struct vector){word(k).s, word(k).n};
        put_number(fd_write(number(2), vectors, word_count > 3 ? word_count - 3 : 0, &size));
        put_char(' ');
        put_number(size);
    } else if (equal(c.s, c.n, "environ")) put_environment();
    else if (equal(c.s, c.n, "args")) {
        size_t count = 9;
        put_number(args_sizes_get(&count, &size));
        put_char(' ');
        put_number(count + size);
    } else if (equal(c.s, c.n, "clock")) {
        put_number(clock_time_get(number(2), 0, wide));
        put(wide[0] > 9 ? " set" : " unset");
    } else if (equal(c.s, c.n, "resolution")) {
        put_number(clock_res_get(number(2), wide));
        put_char(' ');
        put_number(wide[0]);
    } else if (equal(c.s, c.n, "random")) {
        put_number(random_get(block, number(2)));
        size_t zeros = 0;
        for (size_t k = 0; k < number(2); k++) zeros += !block[k];
        put(zeros > number(2) / 2 ? " zeros" : " noise");
    } else if (equal(c.s, c.n, "prestat")) put_number(fd_prestat_get(number(2), wide));
    else if (equal(c.s, c.n, "fdstat")) {
        put_number(fd_fdstat_get(number(2), wide));
        put_char(' ');
        put_number(wide[1]);
    } else if (equal(c.s, c.n, "poll")) {
        size = 9;
        put_number(poll_oneoff(block, block, 1, &size));
        put_char(' ');
        put_number(size);
    } else if (equal(c.s, c.n, "exit")) proc_exit(number(2));
    else return 0;
    return 1;
}

#endif
