/* The module. */

#include "compiled.h"

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **kept)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (!type) {
        return -1;
    }
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    if (kept && !failed) {
        Py_INCREF(type);
        *kept = (PyTypeObject *)type;
    }
    Py_DECREF(type);
    return failed;
}

static int
module_exec(PyObject *module)
{
    if (add_type(module, &record_spec, &((State *)PyModule_GetState(module))->record) < 0 || add_type(module, &finder_spec, NULL) < 0) {
        return -1;
    }
    return add_type(module, &reads_spec, NULL);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    Py_VISIT(((State *)PyModule_GetState(module))->record);
    return 0;
}

static int
module_clear(PyObject *module)
{
    Py_CLEAR(((State *)PyModule_GetState(module))->record);
    return 0;
}

static PyMethodDef module_methods[] = {
    {"pack_command", pack_command, METH_O, "Give the bytes of a command to Redis."},
    {"rows_of", rows_of, METH_VARARGS, "Give the attributes of objects."},
    {"numbered_texts", numbered_texts, METH_VARARGS, "Give a prefix with each number."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "stockstore.native._compiled",
    .m_doc = "Hits of process memory, and batches and commands for servers.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__compiled(void)
{
    return PyModuleDef_Init(&module_def);
}
