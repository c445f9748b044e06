/* How a finder finds. */

#include "compiled.h"

static int
is_exact(PyObject *value)
{
    return PyLong_CheckExact(value) || PyUnicode_CheckExact(value);
}

/* A new reference to the key under which records stand, or NULL. */
static PyObject *
native_of(const Key *key, PyObject *const *values)
{
    for (Py_ssize_t at = 0; at < key->count; at++) {
        if (!is_exact(values[at])) {
            return NULL;
        }
    }
    if (key->count == 1) {
        Py_INCREF(values[0]);
        return values[0];
    }
    PyObject *native = PyTuple_New(key->count);
    for (Py_ssize_t at = 0; native && at < key->count; at++) {
        PyObject *value = values[key->sorted[at]];
        Py_INCREF(value);
        PyTuple_SET_ITEM(native, at, value);
    }
    return native;
}

/* Whether a clock has not come to a moment yet; -1 with an exception. */
static int
is_ahead(PyObject *moment, PyObject *clock)
{
    PyObject *now = PyObject_CallNoArgs(clock);
    if (!now) {
        return -1;
    }
    int ahead = PyObject_RichCompareBool(moment, now, Py_GT);
    Py_DECREF(now);
    return ahead;
}

static int
is_fresh(Finder *self)
{
    if (self->contact == Py_None) {
        return 1;
    }
    if (!self->contact) {
        return 0; /* The garbage collector has cleared it. */
    }
    PyObject *until = PyObject_GetAttr(self->contact, self->fresh_until);
    if (!until) {
        return -1;
    }
    int fresh = is_ahead(until, self->clock);
    Py_DECREF(until);
    return fresh;
}

static int
lives(Finder *self, Record *record)
{
    if (!self->expiring) {
        return 1;
    }
    PyObject *expires = record->expires;
    if (!expires) {
        return 0;
    }
    Py_INCREF(expires);
    int alive = is_ahead(expires, self->clock);
    Py_DECREF(expires);
    return alive;
}

/* Whether a value equals one that is exactly an int or a str; -1 with an exception. */
static int
equals(PyObject *value, PyObject *exact)
{
    if (value == exact) {
        return 1;
    }
    if (Py_TYPE(value) != Py_TYPE(exact)) {
        return PyObject_RichCompareBool(value, exact, Py_EQ);
    }
    PyObject *same = Py_TYPE(exact)->tp_richcompare(value, exact, Py_EQ);
    Py_XDECREF(same);
    return same ? same == Py_True : -1;
}

/* Whether an object has the values that it was found by: it may have been changed since it was put. */
static int
carries(PyObject *object, const Key *key, PyObject *const *values)
{
    for (Py_ssize_t at = 0; at < key->count; at++) {
        PyObject *value = PyObject_GetAttr(object, PyTuple_GET_ITEM(key->names, at));
        if (!value) {
            return -1;
        }
        int same = equals(value, values[at]);
        Py_DECREF(value);
        if (same <= 0) {
            return same;
        }
    }
    return 1;
}

/* A new reference to the object of a record, or NULL. A put writes the value before the expiry: read in the other order they never pair an
   old value with a new expiry. */
static PyObject *
hit(Finder *self, Record *record, const Key *key, PyObject *const *values)
{
    if (lives(self, record) <= 0 || !record->value) {
        return NULL;
    }
    PyObject *object = record->value;
    Py_INCREF(object);
    if (carries(object, key, values) <= 0) {
        Py_DECREF(object);
        return NULL;
    }
    record->hits++;
    return object;
}

/* The same of the record under a key, None for a miss that was counted. The caller keeps the values. */
static PyObject *
find(Finder *self, const Key *key, PyObject *const *values)
{
    PyObject *native = native_of(key, values);
    if (!native) {
        return NULL;
    }
    PyObject *found = NULL;
    PyObject *record = PyDict_GetItemWithError(key->records, native);
    if (record && PyObject_TypeCheck(record, self->record)) {
        Py_INCREF(record);
        found = hit(self, (Record *)record, key, values);
        Py_DECREF(record);
    }
    else if (!record && !PyErr_Occurred()) {
        found = PyObject_CallOneArg(self->absent, native);
    }
    Py_DECREF(native);
    return found;
}

static void
let_go(PyObject **values, Py_ssize_t count)
{
    while (count > 0) {
        Py_DECREF(values[--count]);
    }
}

static PyObject *
find_by_items(Finder *self, PyObject *given)
{
    PyObject *values[MOST_NAMES];
    for (const Key *key = self->keys; key < self->keys + self->count; key++) {
        if (key->count != PyDict_GET_SIZE(given) || key->count > MOST_NAMES) {
            continue;
        }
        Py_ssize_t had = 0;
        for (; had < key->count; had++) {
            values[had] = PyDict_GetItemWithError(given, PyTuple_GET_ITEM(key->names, had));
            if (!values[had]) {
                break;
            }
            Py_INCREF(values[had]);
        }
        PyObject *found = had == key->count ? find(self, key, values) : NULL;
        let_go(values, had);
        if (had == key->count || PyErr_Occurred()) {
            return found;
        }
    }
    return NULL;
}

static const Key *
key_of(Finder *self, PyObject *name)
{
    for (const Key *key = self->keys; key < self->keys + self->count; key++) {
        if (key->count == 1 && PyTuple_GET_ITEM(key->names, 0) == name) {
            return key;
        }
    }
    return NULL;
}

/* The only name of a dict most often is the very text that the class declares, and need not be looked up. */
static PyObject *
find_by_dict(Finder *self, PyObject *given)
{
    PyObject *name, *value;
    Py_ssize_t at = 0;
    const Key *key = PyDict_GET_SIZE(given) == 1 && PyDict_Next(given, &at, &name, &value) ? key_of(self, name) : NULL;
    if (!key) {
        return find_by_items(self, given);
    }
    Py_INCREF(value);
    PyObject *found = find(self, key, &value);
    Py_DECREF(value);
    return found;
}

/* Where a name stands among the keywords of a call; -1 where it does not. */
static Py_ssize_t
place_of(PyObject *name, PyObject *keywords)
{
    Py_ssize_t count = PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t at = 0; at < count; at++) {
        if (PyTuple_GET_ITEM(keywords, at) == name) {
            return at;
        }
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        if (PyUnicode_Compare(PyTuple_GET_ITEM(keywords, at), name) == 0) {
            return at;
        }
    }
    return -1;
}

PyObject *
find_by_keywords(Finder *self, PyObject *const *given, PyObject *keywords)
{
    PyObject *values[MOST_NAMES];
    if (is_fresh(self) <= 0) {
        return NULL;
    }
    for (const Key *key = self->keys; key < self->keys + self->count; key++) {
        if (!key->as_keywords || key->count != PyTuple_GET_SIZE(keywords) || key->count > MOST_NAMES) {
            continue;
        }
        Py_ssize_t had = 0;
        for (; had < key->count; had++) {
            Py_ssize_t place = place_of(PyTuple_GET_ITEM(key->names, had), keywords);
            if (place < 0) {
                break;
            }
            values[had] = given[place];
        }
        if (had == key->count) {
            return find(self, key, values);
        }
    }
    return NULL;
}

static PyObject *
find_by_value(Finder *self, PyObject *given)
{
    const Key *canonical = self->keys;
    if (canonical->count == 1) {
        return find(self, canonical, &given);
    }
    if (!PyTuple_CheckExact(given) || PyTuple_GET_SIZE(given) != canonical->count) {
        return NULL;
    }
    return find(self, canonical, &PyTuple_GET_ITEM(given, 0));
}

PyObject *
find_one(Finder *self, PyObject *given)
{
    if (is_fresh(self) <= 0) {
        return NULL;
    }
    return PyDict_CheckExact(given) ? find_by_dict(self, given) : find_by_value(self, given);
}
