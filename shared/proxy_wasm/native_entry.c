/* A stream's phase as one native call: the input into the core's memory, the core's export, the answer as an object.
 *
 * The law: this is `Core.stream_phase` and `Core.head_phase` of calls.py, line for line, and knows nothing that they do not; where
 * it was not compiled, those run. It decides nothing: whatever is not the plain course (memory to grow, a deadline to set anew, a
 * trap) is a call of the Python function that handles it there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

/* wasmtime_func_call_unchecked: an error or NULL, and a trap by its last argument. */
typedef void *(*Invoke)(void *context, const void *function, void *values, size_t count, void **trap);

/* A raw value is 16 bytes wide; an i32 is its first four. */
typedef union { int32_t i32; unsigned char wide[16]; } Value;

/* What the watchdog's thread reads (watchdog.py), and where a core takes its input (calls.py). */
enum { ENTRIES, FIRED, LIMIT, WIRE };
enum { IO_ADDRESS, IO_SIZE, CLOSED };

typedef struct {
  PyObject_HEAD
  vectorcallfunc call;
  Invoke invoke;
  void *context;
  const void *function;
  Value *values;
  size_t count;
  void **trap;
  unsigned char *memory;
  size_t memory_size;
  int64_t *watch;
  int64_t *io;
  uint32_t *out; /* NULL: the answer is a number, not so many bytes there */
  int64_t limit, wire;
  PyObject *rearm, *grow, *fail, *keep;
} Entry;

static int take_input(Entry *self, const char *data, Py_ssize_t size) {
  if (self->io[CLOSED]) { PyErr_SetString(PyExc_ValueError, "the VM's memory is gone"); return 0; }
  if (self->watch[FIRED]) {
    PyObject *done = PyObject_CallNoArgs(self->rearm);
    if (!done) return 0;
    Py_DECREF(done);
  }
  if (size > self->io[IO_SIZE]) {
    PyObject *done = PyObject_CallFunction(self->grow, "n", size);
    if (!done) return 0;
    Py_DECREF(done);
  }
  size_t at = (size_t)self->io[IO_ADDRESS];
  if (at > self->memory_size || (size_t)size > self->memory_size - at) {
    PyErr_SetString(PyExc_ValueError, "the input region lies outside the core's memory");
    return 0;
  }
  memcpy(self->memory + at, data, (size_t)size);
  return 1;
}

static PyObject *failed(Entry *self, void *error) {
  PyObject *done = PyObject_CallFunction(self->fail, "K", (unsigned long long)(uintptr_t)error);
  if (done) {
    Py_DECREF(done);
    PyErr_SetString(PyExc_SystemError, "a failed call was not raised");
  }
  return NULL;
}

static PyObject *answer(Entry *self) {
  int32_t size = self->values[0].i32;
  if (!self->out || size < 0) return PyLong_FromLong(size);
  if (!size) return PyBytes_FromStringAndSize(NULL, 0);
  size_t start = *self->out;
  if (start > self->memory_size || (size_t)size > self->memory_size - start) {
    PyErr_SetString(PyExc_ValueError, "the answer lies outside the core's memory");
    return NULL;
  }
  return PyBytes_FromStringAndSize((char *)self->memory + start, size);
}

/* (input: bytes, a, b, flags) -> int, or bytes of a head. */
static PyObject *entry_call(PyObject *object, PyObject *const *arguments, size_t flags, PyObject *names) {
  Entry *self = (Entry *)object;
  if (PyVectorcall_NARGS(flags) != 4 || (names && PyTuple_GET_SIZE(names))) {
    PyErr_SetString(PyExc_TypeError, "expected (input, a, b, flags)");
    return NULL;
  }
  char *data;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(arguments[0], &data, &size)) return NULL;
  long numbers[3];
  for (int i = 0; i < 3; i++) {
    numbers[i] = PyLong_AsLong(arguments[i + 1]);
    if (numbers[i] == -1 && PyErr_Occurred()) return NULL;
  }
  if (!take_input(self, data, size)) return NULL;
  Value *values = self->values;
  values[0].i32 = (int32_t)numbers[0];
  values[1].i32 = (int32_t)numbers[1];
  values[2].i32 = (int32_t)size;
  values[3].i32 = (int32_t)numbers[2];
  self->watch[LIMIT] = self->limit;
  self->watch[WIRE] = self->wire;
  self->watch[ENTRIES]++;
  void *error;
  Py_BEGIN_ALLOW_THREADS /* for the watchdog */
  error = self->invoke(self->context, self->function, values, self->count, self->trap);
  Py_END_ALLOW_THREADS
  self->watch[ENTRIES]++;
  return error || *self->trap ? failed(self, error) : answer(self);
}

static PyObject *entry_new(PyTypeObject *type, PyObject *arguments, PyObject *named) {
  static char *names[] = {"invoke", "context", "function", "values", "count", "trap", "memory", "memory_size", "watch",
                          "io", "out", "limit", "wire", "rearm", "grow", "fail", "keep", NULL};
  unsigned long long invoke, context, function, values, trap, memory, watch, io, out;
  Py_ssize_t count, memory_size;
  long long limit, wire;
  PyObject *rearm, *grow, *fail, *keep;
  if (!PyArg_ParseTupleAndKeywords(arguments, named, "KKKKnKKnKKKLLOOOO", names, &invoke, &context, &function, &values, &count,
                                   &trap, &memory, &memory_size, &watch, &io, &out, &limit, &wire, &rearm, &grow, &fail, &keep))
    return NULL;
  Entry *self = (Entry *)type->tp_alloc(type, 0);
  if (!self) return NULL;
  self->call = entry_call;
  self->invoke = (Invoke)(uintptr_t)invoke;
  self->context = (void *)(uintptr_t)context;
  self->function = (const void *)(uintptr_t)function;
  self->values = (Value *)(uintptr_t)values;
  self->count = (size_t)count;
  self->trap = (void **)(uintptr_t)trap;
  self->memory = (unsigned char *)(uintptr_t)memory;
  self->memory_size = (size_t)memory_size;
  self->watch = (int64_t *)(uintptr_t)watch;
  self->io = (int64_t *)(uintptr_t)io;
  self->out = (uint32_t *)(uintptr_t)out;
  self->limit = limit;
  self->wire = wire;
  self->rearm = Py_NewRef(rearm);
  self->grow = Py_NewRef(grow);
  self->fail = Py_NewRef(fail);
  self->keep = Py_NewRef(keep);
  return (PyObject *)self;
}

static int entry_traverse(Entry *self, visitproc visit, void *arg) {
  Py_VISIT(self->rearm);
  Py_VISIT(self->grow);
  Py_VISIT(self->fail);
  Py_VISIT(self->keep);
  return 0;
}

static int entry_clear(Entry *self) {
  Py_CLEAR(self->rearm);
  Py_CLEAR(self->grow);
  Py_CLEAR(self->fail);
  Py_CLEAR(self->keep);
  return 0;
}

static void entry_dealloc(Entry *self) {
  PyObject_GC_UnTrack(self);
  entry_clear(self);
  Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject EntryType = {
  PyVarObject_HEAD_INIT(NULL, 0).tp_name = "shared.proxy_wasm.native_entry.Entry",
  .tp_doc = "A core's export, as a function of (input, a, b, flags).",
  .tp_basicsize = sizeof(Entry),
  .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
  .tp_vectorcall_offset = offsetof(Entry, call),
  .tp_call = PyVectorcall_Call,
  .tp_new = entry_new,
  .tp_traverse = (traverseproc)entry_traverse,
  .tp_clear = (inquiry)entry_clear,
  .tp_dealloc = (destructor)entry_dealloc,
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "native_entry", .m_size = -1};

PyMODINIT_FUNC PyInit_native_entry(void) {
  PyObject *module = PyModule_Create(&definition);
  if (module && PyModule_AddType(module, &EntryType)) Py_CLEAR(module);
  return module;
}
