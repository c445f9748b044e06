/* Finders: how they are made. */

#include "compiled.h"

static PyObject *
finder_one(Finder *self, PyObject *given)
{
    PyObject *found = find_one(self, given);
    if (!found && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, given);
    }
    return found;
}

static int
finder_traverse(Finder *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->record);
    Py_VISIT(self->absent);
    Py_VISIT(self->clock);
    Py_VISIT(self->contact);
    for (Key *key = self->keys; key < self->keys + self->count; key++) {
        Py_VISIT(key->names);
        Py_VISIT(key->records);
    }
    return 0;
}

static int
finder_clear(Finder *self)
{
    Py_CLEAR(self->contact); /* The first: nothing is found without it. */
    Py_CLEAR(self->record);
    Py_CLEAR(self->absent);
    Py_CLEAR(self->clock);
    Py_CLEAR(self->fresh_until);
    while (self->count > 0) {
        Key *key = self->keys + --self->count;
        Py_CLEAR(key->names);
        Py_CLEAR(key->records);
        PyMem_Free(key->sorted);
    }
    return 0;
}

static void
finder_dealloc(Finder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    finder_clear(self);
    PyMem_Free(self->keys);
    type->tp_free(self);
    Py_DECREF(type);
}

int
is_finder(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)finder_dealloc;
}

static int
take_order(Key *key, PyObject *sorted)
{
    key->sorted = PyMem_Calloc(key->count, sizeof(Py_ssize_t));
    if (!key->sorted) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t at = 0; at < key->count; at++) {
        Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GET_ITEM(sorted, at));
        if (place < 0 || place >= key->count) {
            PyErr_Format(PyExc_ValueError, "no place of a name: %R", sorted);
            return -1;
        }
        key->sorted[at] = place;
    }
    return 0;
}

static int
take_key(Key *key, PyObject *given)
{
    PyObject *names, *sorted, *records;
    if (!PyArg_ParseTuple(given, "O!O!O!p", &PyTuple_Type, &names, &PyTuple_Type, &sorted, &PyDict_Type, &records, &key->as_keywords)) {
        return -1;
    }
    key->count = PyTuple_GET_SIZE(names);
    if (key->count < 1 || PyTuple_GET_SIZE(sorted) != key->count) {
        PyErr_Format(PyExc_ValueError, "not the places of the names %R: %R", names, sorted);
        return -1;
    }
    Py_INCREF(names);
    key->names = names;
    Py_INCREF(records);
    key->records = records;
    return take_order(key, sorted);
}

static int
take_keys(Finder *self, PyObject *keys)
{
    Py_ssize_t count = PyTuple_GET_SIZE(keys);
    if (count < 1) {
        PyErr_SetString(PyExc_ValueError, "a finder without keys");
        return -1;
    }
    self->keys = PyMem_Calloc(count, sizeof(Key));
    if (!self->keys) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        self->count = at + 1;
        if (take_key(self->keys + at, PyTuple_GET_ITEM(keys, at)) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
finder_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *keys, *absent, *clock, *contact;
    int expiring;
    if (!PyArg_ParseTuple(args, "O!OOOp:Finder", &PyTuple_Type, &keys, &absent, &clock, &contact, &expiring)) {
        return NULL;
    }
    State *state = PyType_GetModuleState(type);
    if (!state || !state->record) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter ends");
        return NULL;
    }
    Finder *self = (Finder *)type->tp_alloc(type, 0);
    if (!self) {
        return NULL;
    }
    Py_INCREF(state->record);
    self->record = state->record;
    Py_INCREF(absent);
    self->absent = absent;
    Py_INCREF(clock);
    self->clock = clock;
    Py_INCREF(contact);
    self->contact = contact;
    self->expiring = expiring;
    self->fresh_until = PyUnicode_InternFromString("fresh_until");
    if (!self->fresh_until || take_keys(self, keys) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef finder_methods[] = {
    {"one", (PyCFunction)finder_one, METH_O, "Give the object of a key, None for a miss that was counted; KeyError, AttributeError or TypeError otherwise."},
    {NULL},
};

static PyType_Slot finder_slots[] = {
    {Py_tp_doc, "Finds the objects of a class by its keys."},
    {Py_tp_new, finder_new},
    {Py_tp_methods, finder_methods},
    {Py_tp_traverse, finder_traverse},
    {Py_tp_clear, finder_clear},
    {Py_tp_dealloc, finder_dealloc},
    {0, NULL},
};

PyType_Spec finder_spec = {
    .name = "stockstore.native._compiled.Finder",
    .basicsize = sizeof(Finder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = finder_slots,
};
