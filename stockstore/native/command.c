/* Commands of the Redis protocol (RESP), each an array of bulk strings. */

#include "compiled.h"

#include <string.h>

typedef struct {
    const char *bytes;
    Py_ssize_t size;
} Text;

/* The bytes belong to the argument. */
static int
read_text(PyObject *argument, Text *text)
{
    if (PyBytes_Check(argument)) {
        text->bytes = PyBytes_AS_STRING(argument);
        text->size = PyBytes_GET_SIZE(argument);
        return 0;
    }
    if (!PyUnicode_Check(argument)) {
        PyErr_Format(PyExc_TypeError, "a command is of text and bytes, not %.100s", Py_TYPE(argument)->tp_name);
        return -1;
    }
    text->bytes = PyUnicode_AsUTF8AndSize(argument, &text->size);
    return text->bytes ? 0 : -1;
}

Py_ssize_t
write_digits(char *end, unsigned long long number)
{
    char *first = end;
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    return end - first;
}

static char *
write_size(char *at, char mark, Py_ssize_t size)
{
    char digits[MOST_DIGITS];
    Py_ssize_t count = write_digits(digits + MOST_DIGITS, (unsigned long long)size);
    *at++ = mark;
    memcpy(at, digits + MOST_DIGITS - count, count);
    at += count;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static char *
write_text(char *at, const Text *text)
{
    at = write_size(at, '$', text->size);
    memcpy(at, text->bytes, text->size);
    at += text->size;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static PyObject *
packed(const Text *texts, Py_ssize_t count)
{
    Py_ssize_t most = MOST_DIGITS + 3;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (texts[i].size > PY_SSIZE_T_MAX - most - MOST_DIGITS - 5) {
            return PyErr_NoMemory();
        }
        most += texts[i].size + MOST_DIGITS + 5;
    }
    PyObject *command = PyBytes_FromStringAndSize(NULL, most);
    if (!command) {
        return NULL;
    }
    char *at = write_size(PyBytes_AS_STRING(command), '*', count);
    for (Py_ssize_t i = 0; i < count; i++) {
        at = write_text(at, &texts[i]);
    }
    _PyBytes_Resize(&command, at - PyBytes_AS_STRING(command));
    return command;
}

PyObject *
pack_command(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *sequence = PySequence_Fast(arguments, "a command is a sequence");
    if (!sequence) {
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    Text *texts = PyMem_New(Text, count ? count : 1);
    PyObject *command = texts ? NULL : PyErr_NoMemory();
    Py_ssize_t read = 0;
    while (texts && read < count && !read_text(PySequence_Fast_GET_ITEM(sequence, read), &texts[read])) {
        read++;
    }
    if (texts && read == count) {
        command = packed(texts, count);
    }
    PyMem_Free(texts);
    Py_DECREF(sequence);
    return command;
}
