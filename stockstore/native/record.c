/* Records. */

#include "compiled.h"

static int
record_traverse(Record *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->value);
    Py_VISIT(self->expires);
    return 0;
}

static int
record_clear(Record *self)
{
    Py_CLEAR(self->value);
    Py_CLEAR(self->expires);
    return 0;
}

static void
record_dealloc(Record *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    record_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef record_members[] = {
    {"value", T_OBJECT_EX, offsetof(Record, value), 0, NULL},
    {"expires", T_OBJECT_EX, offsetof(Record, expires), 0, NULL},
    {"hits", T_PYSSIZET, offsetof(Record, hits), 0, NULL},
    {NULL},
};

static PyType_Slot record_slots[] = {
    {Py_tp_doc, "What a hit reads of a record, and the number of its hits."},
    {Py_tp_members, record_members},
    {Py_tp_traverse, record_traverse},
    {Py_tp_clear, record_clear},
    {Py_tp_dealloc, record_dealloc},
    {0, NULL},
};

PyType_Spec record_spec = {
    .name = "stockstore.native._compiled.Record",
    .basicsize = sizeof(Record),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = record_slots,
};
