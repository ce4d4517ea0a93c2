/* Reads a flat JSON object: string keys, and values that are strings or whole numbers.
 *
 * The law: a plugin's configuration needs no more, so nested values, fractions, true, false and null are errors, as is
 * anything that RFC 8259 does not allow. Strings are decoded in place: the text must be the plugin's own and outlive the
 * fields. After the last field, or after an error, `json_next` answers false; `error` tells the two apart. */
#ifndef FLAT_JSON_H
#define FLAT_JSON_H

#include "proxy_wasm.h"

struct text {
    char *at;
    size_t size;
};

struct json_field {
    struct text key;
    bool is_string;
    struct text string;
    int64_t integer;
};

struct json_reader {
    char *at, *end;
    bool begun;
    const char *error;
};

static bool json_fail(struct json_reader *reader, const char *error) {
    if (reader->error == NULL) reader->error = error;
    return false;
}

static void json_skip_space(struct json_reader *reader) {
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r'))
        reader->at++;
}

static bool json_take(struct json_reader *reader, char wanted) {
    json_skip_space(reader);
    if (reader->at == reader->end || *reader->at != wanted) return false;
    reader->at++;
    return true;
}

/* Four hexadecimal digits after \u; -1 if they are not. */
static int32_t json_hex(struct json_reader *reader) {
    int32_t value = 0;
    if (reader->end - reader->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char digit = *reader->at++;
        if (digit >= '0' && digit <= '9') value = value * 16 + (digit - '0');
        else if ((digit | 32) >= 'a' && (digit | 32) <= 'f') value = value * 16 + ((digit | 32) - 'a' + 10);
        else return -1;
    }
    return value;
}

/* The character after \u as UTF-8 at `to`, never longer than its escape; NULL if it is none. */
static char *json_unicode(struct json_reader *reader, char *to) {
    int32_t code = json_hex(reader);
    if (code >= 0xD800 && code < 0xDC00) {
        if (reader->end - reader->at < 2 || reader->at[0] != '\\' || reader->at[1] != 'u') return NULL;
        reader->at += 2;
        int32_t low = json_hex(reader);
        if (low < 0xDC00 || low > 0xDFFF) return NULL;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code < 0 || (code >= 0xDC00 && code <= 0xDFFF)) return NULL;
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xE0 | code >> 12);
        } else {
            *to++ = (char)(0xF0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
    }
    *to++ = (char)(0x80 | (code & 0x3F));
    return to;
}

static char *json_escape(struct json_reader *reader, char *to) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (reader->at == reader->end) return NULL;
    char name = *reader->at++;
    if (name == 'u') return json_unicode(reader, to);
    for (size_t i = 0; i < sizeof names - 1; i++) {
        if (names[i] != name) continue;
        *to++ = meanings[i];
        return to;
    }
    return NULL;
}

static bool json_string(struct json_reader *reader, struct text *out) {
    if (!json_take(reader, '"')) return json_fail(reader, "a string was expected");
    char *to = reader->at;
    out->at = to;
    while (reader->at < reader->end) {
        char byte = *reader->at++;
        if (byte == '"') {
            out->size = (size_t)(to - out->at);
            return true;
        }
        if ((unsigned char)byte < 0x20) return json_fail(reader, "a control character in a string");
        if (byte != '\\') {
            *to++ = byte;
            continue;
        }
        to = json_escape(reader, to);
        if (to == NULL) return json_fail(reader, "an unknown escape in a string");
    }
    return json_fail(reader, "a string without end");
}

static bool json_integer(struct json_reader *reader, int64_t *out) {
    json_skip_space(reader);
    bool negative = reader->at < reader->end && *reader->at == '-';
    if (negative) reader->at++;
    char *first = reader->at;
    int64_t value = 0;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        /* 15 digits are far above every number that is asked for, and far below an overflow. */
        if (reader->at - first == 15) return json_fail(reader, "a number is too long");
        value = value * 10 + (*reader->at++ - '0');
    }
    if (reader->at == first) return json_fail(reader, "a value must be a string or a whole number");
    if (*first == '0' && reader->at - first > 1) return json_fail(reader, "a number with a leading zero");
    if (reader->at < reader->end && (*reader->at == '.' || (*reader->at | 32) == 'e'))
        return json_fail(reader, "a number must be whole");
    *out = negative ? -value : value;
    return true;
}

static bool json_end(struct json_reader *reader) {
    json_skip_space(reader);
    if (reader->at != reader->end) json_fail(reader, "text after the object");
    return false;
}

/* The next field, or false at the end or at an error. Start with a zeroed reader whose `at` and `end` bound the text. */
static bool json_next(struct json_reader *reader, struct json_field *field) {
    if (reader->error != NULL) return false;
    if (!reader->begun) {
        reader->begun = true;
        if (!json_take(reader, '{')) return json_fail(reader, "a JSON object was expected");
        if (json_take(reader, '}')) return json_end(reader);
    } else {
        if (json_take(reader, '}')) return json_end(reader);
        if (!json_take(reader, ',')) return json_fail(reader, "a comma or the end of the object was expected");
    }
    if (!json_string(reader, &field->key)) return false;
    if (!json_take(reader, ':')) return json_fail(reader, "a colon was expected after a key");
    json_skip_space(reader);
    field->is_string = reader->at < reader->end && *reader->at == '"';
    return field->is_string ? json_string(reader, &field->string) : json_integer(reader, &field->integer);
}

#endif
