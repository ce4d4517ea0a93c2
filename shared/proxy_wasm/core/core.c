/* The one translation unit of the core. */
#include "core.h"
#include "memory.c"
#include "map.c"
#include "head.c"
#include "context.c"
#include "property.c"
#include "hostcalls.c"
#include "wasi.c"
