/* Hits and misses of plain objects in process memory, without a step of Python between the call and the object; and what makes batches
   and commands for servers.

   Does what plain*.py and finder_code.py do, and whatever these leave to the longer way is left to it here too. Relies on the
   interpreter's lock: between two calls of Python objects no other thread runs. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#ifdef Py_GIL_DISABLED
#error "Without the interpreter's lock hits would be lost, and records freed while they are read."
#endif

/* What the files here share is of no concern to other libraries of the process. */
#ifdef __GNUC__
#pragma GCC visibility push(hidden)
#endif

#define MOST_NAMES 8
#define MOST_DIGITS 20 /* of 64 bits, and a minus */

/* What a hit reads of a node of backends/local_nodes.py, and its number of hits. */
typedef struct {
    PyObject_HEAD
    PyObject *value;
    PyObject *expires;
    Py_ssize_t hits;
} Record;

/* A key that the class declares. */
typedef struct {
    PyObject *names;     /* a tuple of str */
    Py_ssize_t count;    /* of the names */
    Py_ssize_t *sorted;  /* which name's value stands where in the tuples of records */
    PyObject *records;   /* a dict */
    int as_keywords;     /* whether none of the names is an option of get() */
} Key;

/* The keys of one class; of its own to one store. */
typedef struct {
    PyObject_HEAD
    PyTypeObject *record;
    Py_ssize_t count;    /* of the keys, of which the first is the canonical one */
    Key *keys;
    PyObject *absent;    /* is called with a key that is not there */
    PyObject *clock;
    PyObject *contact;   /* None, or what has fresh_until */
    PyObject *fresh_until;
    int expiring;
} Finder;

typedef struct {
    PyTypeObject *record;
} State;

extern PyType_Spec record_spec, finder_spec, reads_spec;

/* These give a new reference, or NULL, with or without an exception, where the longer way is to be gone. None is a miss that was counted. */
PyObject *find_one(Finder *self, PyObject *given);
PyObject *find_by_keywords(Finder *self, PyObject *const *given, PyObject *keywords);

int is_finder(PyObject *object);

/* Writes a number up to an end, and gives how many digits it has. */
Py_ssize_t write_digits(char *end, unsigned long long number);

PyObject *pack_command(PyObject *module, PyObject *arguments);
PyObject *rows_of(PyObject *module, PyObject *arguments);
PyObject *numbered_texts(PyObject *module, PyObject *arguments);
