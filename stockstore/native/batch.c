/* Batches of objects on their way to a server: their attributes, and the texts of their keys. */

#include "compiled.h"

#include <string.h>

static int
is_one_of(PyTypeObject *type, PyObject *types)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); i++) {
        if ((PyObject *)type == PyTuple_GET_ITEM(types, i)) {
            return 1;
        }
    }
    return 0;
}

/* Names are interned as a rule. */
static int
is_name(PyObject *key, PyObject *name)
{
    return key == name || (PyUnicode_CheckExact(key) && PyUnicode_CheckExact(name) && PyUnicode_Compare(key, name) == 0);
}

/* These give 1, or 0 where the object goes another way, or -1 with an exception. */
static int
take_fixed(PyObject *row, PyObject *object, PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *value = PyObject_GenericGetAttr(object, PyTuple_GET_ITEM(names, i));
        if (!value) {
            return -1;
        }
        PyTuple_SET_ITEM(row, i, value);
    }
    return 1;
}

static int
take_dynamic(PyObject *row, PyObject *state, PyObject *names, Py_ssize_t at)
{
    if (!PyDict_CheckExact(state) || PyDict_GET_SIZE(state) != PyTuple_GET_SIZE(names)) {
        return 0;
    }
    Py_ssize_t place = 0, next = 0;
    PyObject *key, *value;
    while (PyDict_Next(state, &place, &key, &value)) {
        if (!is_name(key, PyTuple_GET_ITEM(names, next))) {
            return 0;
        }
        PyTuple_SET_ITEM(row, at + next++, Py_NewRef(value));
    }
    return 1;
}

static int
take(PyObject *row, PyObject *object, PyObject *fixed, PyObject *dynamic, PyObject *dict_name)
{
    int taken = take_fixed(row, object, fixed);
    if (taken != 1 || dynamic == Py_None) {
        return taken;
    }
    PyObject *state = PyObject_GenericGetAttr(object, dict_name);
    if (!state) {
        return -1;
    }
    taken = take_dynamic(row, state, dynamic, PyTuple_GET_SIZE(fixed));
    Py_DECREF(state);
    return taken;
}

static int
are_all_of(PyObject *row, PyObject *types)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(row); i++) {
        if (!is_one_of(Py_TYPE(PyTuple_GET_ITEM(row, i)), types)) {
            return 0;
        }
    }
    return 1;
}

/* The collector is not to show it to anybody before it has all its items, nor has it any use for rows of values that hold nothing. */
static PyObject *
new_row(Py_ssize_t size)
{
    PyObject *row = PyTuple_New(size);
    if (row) {
        PyObject_GC_UnTrack(row);
    }
    return row;
}

static int
add_row(PyObject *rows, PyObject *object, PyObject *fixed, PyObject *dynamic, PyObject *types, PyObject *dict_name)
{
    PyObject *row = new_row(PyTuple_GET_SIZE(fixed) + (dynamic == Py_None ? 0 : PyTuple_GET_SIZE(dynamic)));
    int taken = row ? take(row, object, fixed, dynamic, dict_name) : -1;
    if (taken == 1) {
        taken = !are_all_of(row, types) ? 0 : PyList_Append(rows, row) < 0 ? -1 : 1;
    }
    Py_XDECREF(row);
    return taken;
}

static PyObject *
rows_in(PyObject *objects, PyObject *fixed, PyObject *dynamic, PyObject *types, PyObject *dict_name)
{
    PyObject *rows = PyList_New(0);
    int taken = rows ? 1 : -1;
    /* To look attributes up may run Python, which may change the list. */
    for (Py_ssize_t i = 0; taken == 1 && i < PySequence_Fast_GET_SIZE(objects); i++) {
        PyObject *object = Py_NewRef(PySequence_Fast_GET_ITEM(objects, i));
        taken = add_row(rows, object, fixed, dynamic, types, dict_name);
        Py_DECREF(object);
    }
    if (taken != 1) {
        Py_CLEAR(rows);
    }
    return taken ? rows : Py_NewRef(Py_None);
}

PyObject *
rows_of(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *fixed, *dynamic, *types, *objects, *rows = NULL;
    if (!PyArg_ParseTuple(arguments, "O!OO!O:rows_of", &PyTuple_Type, &fixed, &dynamic, &PyTuple_Type, &types, &objects)) {
        return NULL;
    }
    if (dynamic != Py_None && !PyTuple_Check(dynamic)) {
        return PyErr_Format(PyExc_TypeError, "names are a tuple or None, not %.100s", Py_TYPE(dynamic)->tp_name);
    }
    PyObject *dict_name = PyUnicode_InternFromString("__dict__"), *sequence = PySequence_Fast(objects, "objects are a sequence");
    if (dict_name && sequence) {
        rows = rows_in(sequence, fixed, dynamic, types, dict_name);
    }
    Py_XDECREF(dict_name);
    Py_XDECREF(sequence);
    return rows;
}

/* Gives how many digits it has, a minus among them. */
static Py_ssize_t
write_number(char *end, long long number)
{
    Py_ssize_t count = write_digits(end, number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number);
    if (number < 0) {
        end[-++count] = '-';
    }
    return count;
}

static PyObject *
numbered(PyObject *prefix, long long number)
{
    char digits[MOST_DIGITS];
    Py_ssize_t count = write_number(digits + MOST_DIGITS, number), length = PyUnicode_GET_LENGTH(prefix);
    PyObject *text = PyUnicode_New(length + count, 127);
    if (text) {
        memcpy(PyUnicode_1BYTE_DATA(text), PyUnicode_1BYTE_DATA(prefix), length);
        memcpy(PyUnicode_1BYTE_DATA(text) + length, digits + MOST_DIGITS - count, count);
    }
    return text;
}

/* Gives 1, or 0 where the number is to be written otherwise. */
static int
read_number(PyObject *value, long long below, long long *number)
{
    int overflow = 0;
    if (!PyLong_CheckExact(value)) {
        return 0;
    }
    *number = PyLong_AsLongLongAndOverflow(value, &overflow);
    return !overflow && below > 0 && -below < *number && *number < below;
}

static PyObject *
texts_in(PyObject *prefix, PyObject *numbers, long long below)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(numbers);
    PyObject *texts = PyList_New(count);
    for (Py_ssize_t i = 0; texts && i < count; i++) {
        long long number;
        /* To make the list may run the collector, and so Python, which may change the numbers. */
        if (PySequence_Fast_GET_SIZE(numbers) != count || !read_number(PySequence_Fast_GET_ITEM(numbers, i), below, &number)) {
            Py_DECREF(texts);
            return Py_NewRef(Py_None);
        }
        PyObject *text = numbered(prefix, number);
        if (!text) {
            Py_CLEAR(texts);
            break;
        }
        PyList_SET_ITEM(texts, i, text);
    }
    return texts;
}

PyObject *
numbered_texts(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *prefix, *numbers, *texts;
    long long below;
    if (!PyArg_ParseTuple(arguments, "UOL:numbered_texts", &prefix, &numbers, &below)) {
        return NULL;
    }
    PyObject *sequence = PySequence_Fast(numbers, "numbers are a sequence");
    if (!sequence) {
        return NULL;
    }
    if (PyUnicode_IS_ASCII(prefix) && PySequence_Fast_GET_SIZE(sequence)) {
        texts = texts_in(prefix, sequence, below);
    }
    else {
        texts = Py_NewRef(Py_None);
    }
    Py_DECREF(sequence);
    return texts;
}
