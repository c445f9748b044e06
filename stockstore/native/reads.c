/* Reads: get() of a store. */

#include "compiled.h"

typedef struct {
    PyObject_HEAD
    PyObject *finders;  /* a dict: the class, its finder */
    PyObject *get_longer;
} Reads;

/* As find_one() for what was given to get(). */
static PyObject *
find_given(Reads *self, PyObject *const *args, Py_ssize_t given, PyObject *keywords)
{
    Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (given < 1 || (given == 2) == (named > 0)) {
        return NULL;
    }
    PyObject *finder = PyDict_GetItemWithError(self->finders, args[0]);
    if (!finder || !is_finder(finder)) {
        return NULL;
    }
    Py_INCREF(finder);
    PyObject *found = named ? find_by_keywords((Finder *)finder, args + 1, keywords) : find_one((Finder *)finder, args[1]);
    Py_DECREF(finder);
    return found;
}

static PyObject *
get_longer(Reads *self, PyObject *const *args, Py_ssize_t given, PyObject *keywords)
{
    PyObject *few[MOST_NAMES];
    Py_ssize_t count = 1 + given + (keywords ? PyTuple_GET_SIZE(keywords) : 0);
    PyObject **all = count <= MOST_NAMES ? few : PyMem_Calloc(count, sizeof(PyObject *));
    if (!all) {
        return PyErr_NoMemory();
    }
    all[0] = (PyObject *)self;
    for (Py_ssize_t at = 1; at < count; at++) {
        all[at] = args[at - 1];
    }
    PyObject *found = PyObject_VectorcallMethod(self->get_longer, all, 1 + given, keywords);
    if (all != few) {
        PyMem_Free(all);
    }
    return found;
}

static PyObject *
reads_get(Reads *self, PyObject *const *args, Py_ssize_t given, PyObject *keywords)
{
    if (given > 2) {
        PyErr_Format(PyExc_TypeError, "get() takes from 1 to 3 positional arguments but %zd were given", given + 1);
        return NULL;
    }
    PyObject *found = find_given(self, args, given, keywords);
    if (found) {
        return found;
    }
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError) && !PyErr_ExceptionMatches(PyExc_AttributeError) && !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    return get_longer(self, args, given, keywords);
}

static PyObject *
reads_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Reads *self = (Reads *)type->tp_alloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->finders = PyDict_New();
    self->get_longer = PyUnicode_InternFromString("_get_longer");
    if (!self->finders || !self->get_longer) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
reads_traverse(Reads *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->finders);
    return 0;
}

static int
reads_clear(Reads *self)
{
    /* Readers may come even now, by a finalizer: the dictionary stays, and is emptied. */
    if (self->finders) {
        PyDict_Clear(self->finders);
    }
    return 0;
}

static void
reads_dealloc(Reads *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->finders);
    Py_CLEAR(self->get_longer);
    type->tp_free(self);
    Py_DECREF(type);
}

/* What calls look like is told as of stores/cache.py, which help() and inspect show. */
PyDoc_STRVAR(get_doc, "get($self, cls, key=..., *, session=None, strict=False, **names)\n--\n\nGive the object of a key, or ``None``; see ``Store.get``.");

static PyMethodDef reads_methods[] = {
    {"get", (PyCFunction)(void (*)(void))reads_get, METH_FASTCALL | METH_KEYWORDS, get_doc},
    {NULL},
};

static PyMemberDef reads_members[] = {
    {"_finders", T_OBJECT_EX, offsetof(Reads, finders), READONLY, NULL},
    {NULL},
};

static PyType_Slot reads_slots[] = {
    {Py_tp_doc, "Has get() of a store, which leaves to _get_longer() of a subclass what no finder finds."},
    {Py_tp_new, reads_new},
    {Py_tp_methods, reads_methods},
    {Py_tp_members, reads_members},
    {Py_tp_traverse, reads_traverse},
    {Py_tp_clear, reads_clear},
    {Py_tp_dealloc, reads_dealloc},
    {0, NULL},
};

PyType_Spec reads_spec = {
    .name = "stockstore.native._compiled.Reads",
    .basicsize = sizeof(Reads),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = reads_slots,
};
