/* Copies rows out of mapped blocks: the inner loops of the loader, without Python and without its lock.

   NumPy's `take` calls memmove for each row, and the call costs as much as copying 128 bytes; here a row is a few moves
   of sizes that the compiler knows. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
    LINE = 64,  /* bytes of a line of the processor's cache */
    AHEAD = 12, /* rows: what is asked for so early has come from the last cache, or nearly from memory */
};

static inline void copy_row(char *to, const char *from, Py_ssize_t bytes)
{
    /* The last move overlaps the one before it, so that no size needs a loop over single bytes. */
    if (bytes >= 64) {
        Py_ssize_t done = 0;
        for (; done + 64 <= bytes; done += 64)
            memcpy(to + done, from + done, 64);
        if (done < bytes)
            memcpy(to + bytes - 64, from + bytes - 64, 64);
    } else if (bytes >= 32) {
        memcpy(to, from, 32);
        memcpy(to + bytes - 32, from + bytes - 32, 32);
    } else if (bytes >= 16) {
        memcpy(to, from, 16);
        memcpy(to + bytes - 16, from + bytes - 16, 16);
    } else if (bytes >= 8) {
        memcpy(to, from, 8);
        memcpy(to + bytes - 8, from + bytes - 8, 8);
    } else if (bytes >= 4) {
        memcpy(to, from, 4);
        memcpy(to + bytes - 4, from + bytes - 4, 4);
    } else {
        for (Py_ssize_t at = 0; at < bytes; at++)
            to[at] = from[at];
    }
}

static PyObject *out_of_bounds(void)
{
    PyErr_SetString(PyExc_IndexError, "a row lies outside of its block, or there is no room for it");
    return NULL;
}

PyDoc_STRVAR(copy_doc,
             "copy(source, firsts, rows, row_bytes, target, /)\n--\n\n"
             "Copy groups of neighbours out of a block, one group after the other.\n\n"
             "Args:\n"
             "    source: The rows of a column of the block, contiguous.\n"
             "    firsts: The first row of each group, int64.\n"
             "    rows: The rows of a group.\n"
             "    row_bytes: The size of a row.\n"
             "    target: Where the rows go, contiguous.\n\n"
             "Raises:\n"
             "    IndexError: A row lies outside of its block, or there is no room for it.\n");

static PyObject *copy(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer source, firsts, target;
    Py_ssize_t rows, row_bytes, groups, at = 0;

    if (!PyArg_ParseTuple(args, "y*y*nnw*:copy", &source, &firsts, &rows, &row_bytes, &target))
        return NULL;
    groups = firsts.len / (Py_ssize_t)sizeof(int64_t);
    if (row_bytes > 0 && rows > 0 && rows <= source.len / row_bytes && groups <= target.len / row_bytes / rows) {
        const int64_t *first = firsts.buf, last = source.len / row_bytes - rows;
        const Py_ssize_t bytes = rows * row_bytes;
        Py_BEGIN_ALLOW_THREADS
        for (; at < groups && first[at] >= 0 && first[at] <= last; at++)
            memcpy((char *)target.buf + at * bytes, (const char *)source.buf + first[at] * row_bytes, (size_t)bytes);
        Py_END_ALLOW_THREADS
    } else
        groups = at + 1;
    PyBuffer_Release(&source);
    PyBuffer_Release(&firsts);
    PyBuffer_Release(&target);
    if (at < groups)
        return out_of_bounds();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(choose_doc,
             "choose(pool, chosen, row_bytes, target, /)\n--\n\n"
             "Gather single rows.\n\n"
             "Args:\n"
             "    pool: Contiguous rows.\n"
             "    chosen: For each row of the target, which row of the pool it is, int32.\n"
             "    row_bytes: The size of a row.\n"
             "    target: Where the rows go, contiguous.\n\n"
             "Raises:\n"
             "    IndexError: A row lies outside of the pool, or there is no room for it.\n");

static PyObject *choose(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer pool, chosen, target;
    Py_ssize_t row_bytes, count, at = 0;

    if (!PyArg_ParseTuple(args, "y*y*nw*:choose", &pool, &chosen, &row_bytes, &target))
        return NULL;
    count = chosen.len / (Py_ssize_t)sizeof(int32_t);
    if (row_bytes > 0 && count <= target.len / row_bytes) {
        const int32_t *rows = chosen.buf;
        const uint64_t most = (uint64_t)(pool.len / row_bytes);
        Py_BEGIN_ALLOW_THREADS
        for (; at < count && (uint64_t)(int64_t)rows[at] < most; at++) {
            if (at + AHEAD < count && row_bytes >= LINE)
                for (Py_ssize_t line = 0; line < row_bytes; line += LINE)
                    __builtin_prefetch((const char *)pool.buf + rows[at + AHEAD] * row_bytes + line);
            copy_row((char *)target.buf + at * row_bytes, (const char *)pool.buf + rows[at] * row_bytes, row_bytes);
        }
        Py_END_ALLOW_THREADS
    } else
        count = at + 1;
    PyBuffer_Release(&pool);
    PyBuffer_Release(&chosen);
    PyBuffer_Release(&target);
    if (at < count)
        return out_of_bounds();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"copy", copy, METH_VARARGS, copy_doc},
                                {"choose", choose, METH_VARARGS, choose_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "rows", "Copies rows out of mapped blocks.", -1, methods,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_rows(void)
{
    return PyModule_Create(&module);
}
