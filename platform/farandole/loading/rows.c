/* The inner loops of the loader, which run without the GIL: random words, permutations, and copies of rows out of
   memory-mapped blocks.

   NumPy's `take` calls memmove for each row, and the call takes as long as copying 128 bytes; here a row is copied by a
   few moves whose sizes are compile-time constants. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    LINE = 64,  /* bytes of a cache line */
    STREAMS = 4, /* groups copied concurrently: memory serves several requests in the time of one */
    MOST_DIGIT_BITS = 12, /* digit size of the radix sort: the counts of all digits fit into the L1 cache */
    SHORT = 1024, /* bytes of a group that ends before the hardware prefetcher detects a sequence */
    AHEAD = 24, /* prefetch distance in rows: covers the latency of the last-level cache */
};

static inline void copy_row(char *to, const char *from, Py_ssize_t bytes)
{
    /* The last move overlaps the previous one, so no size needs a loop over single bytes. */
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

static void copy_groups(const char *source, const int64_t *firsts, Py_ssize_t groups, Py_ssize_t bytes,
                        Py_ssize_t row_bytes, char *target)
{
    Py_ssize_t group = 0;

    for (; group + STREAMS <= groups; group += STREAMS, target += STREAMS * bytes) {
        const char *from[STREAMS];
        Py_ssize_t done = 0;
        if (bytes <= SHORT && group + 3 * STREAMS <= groups)
            for (int stream = 0; stream < STREAMS; stream++)
                for (Py_ssize_t line = 0; line < bytes; line += LINE)
                    __builtin_prefetch(source + firsts[group + 2 * STREAMS + stream] * row_bytes + line);
        for (int stream = 0; stream < STREAMS; stream++)
            from[stream] = source + firsts[group + stream] * row_bytes;
        for (; done + LINE <= bytes; done += LINE)
            for (int stream = 0; stream < STREAMS; stream++)
                memcpy(target + stream * bytes + done, from[stream] + done, LINE);
        for (int stream = 0; stream < STREAMS; stream++)
            memcpy(target + stream * bytes + done, from[stream] + done, (size_t)(bytes - done));
    }
    for (; group < groups; group++, target += bytes)
        memcpy(target, source + firsts[group] * row_bytes, (size_t)bytes);
}

PyDoc_STRVAR(copy_doc,
             "copy(parts, row_bytes, targets, /)\n--\n\n"
             "Copy groups of consecutive rows out of blocks, one group after the other, column by column.\n\n"
             "Args:\n"
             "    parts: Tuples in the order of the target's rows, each with the columns of a block (a list of contiguous\n"
             "        arrays), the first row of each group (int64), and the number of rows of a group.\n"
             "    row_bytes: Size of a row of each column.\n"
             "    targets: Contiguous arrays that receive the rows of each column.\n\n"
             "Raises:\n"
             "    IndexError: A row is outside its block, or the target is too small.\n"
             "    ValueError: The number of columns of a part differs from the number of targets.\n"
             "    TypeError: A part is not such a tuple.\n");

/* One column of one part. Its buffers stay acquired while the GIL is released. */
typedef struct {
    Py_buffer source, firsts;
    Py_ssize_t rows;
} Groups;

/* Parse one column of a part into `found` and acquire its buffers. On error, set an exception, acquire nothing and
   return false. */
static bool take_groups(PyObject *part, Py_ssize_t column, Py_ssize_t columns, Groups *found)
{
    PyObject *sources;

    if (!PyTuple_Check(part) || PyTuple_GET_SIZE(part) != 3 || !PyList_Check(sources = PyTuple_GET_ITEM(part, 0)) ||
        !PyLong_Check(PyTuple_GET_ITEM(part, 2))) {
        PyErr_SetString(PyExc_TypeError, "a part is a tuple of a list of columns, first rows and a number of rows");
        return false;
    }
    if (PyList_GET_SIZE(sources) != columns) {
        PyErr_Format(PyExc_ValueError, "a part has %zd columns for %zd targets", PyList_GET_SIZE(sources), columns);
        return false;
    }
    found->rows = PyLong_AsSsize_t(PyTuple_GET_ITEM(part, 2));
    if (PyErr_Occurred() || PyObject_GetBuffer(PyList_GET_ITEM(sources, column), &found->source, PyBUF_SIMPLE))
        return false;
    if (PyObject_GetBuffer(PyTuple_GET_ITEM(part, 1), &found->firsts, PyBUF_SIMPLE)) {
        PyBuffer_Release(&found->source);
        return false;
    }
    return true;
}

/* Copy the groups of a part. Return the number of bytes, or -1 if a row is outside its block or `room` is too small. */
static Py_ssize_t copy_part(const Groups *part, Py_ssize_t row_bytes, char *target, Py_ssize_t room)
{
    const Py_ssize_t groups = part->firsts.len / (Py_ssize_t)sizeof(int64_t);
    const int64_t *first = part->firsts.buf;

    if (row_bytes <= 0 || part->rows <= 0 || part->rows > part->source.len / row_bytes ||
        groups > room / row_bytes / part->rows)
        return -1;
    for (Py_ssize_t at = 0; at < groups; at++)
        if (first[at] < 0 || first[at] > part->source.len / row_bytes - part->rows)
            return -1;
    copy_groups(part->source.buf, first, groups, part->rows * row_bytes, row_bytes, target);
    return groups * part->rows * row_bytes;
}

static bool copy_column(PyObject *parts, Py_ssize_t column, Py_ssize_t columns, Py_ssize_t row_bytes, PyObject *into)
{
    const Py_ssize_t wanted = PyTuple_GET_SIZE(parts);
    Py_ssize_t held = 0, copied = 0, at = 0;
    Py_buffer target;
    Groups *found;

    if (PyObject_GetBuffer(into, &target, PyBUF_WRITABLE))
        return false;
    found = PyMem_New(Groups, wanted + 1);
    if (!found)
        PyErr_NoMemory();
    while (!PyErr_Occurred() && held < wanted)
        held += take_groups(PyTuple_GET_ITEM(parts, held), column, columns, found + held);
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        for (const Groups *next = found; copied >= 0 && next < found + wanted; next++) {
            copied = copy_part(next, row_bytes, (char *)target.buf + at, target.len - at);
            at += copied;
        }
        Py_END_ALLOW_THREADS
        if (copied < 0)
            out_of_bounds();
    }
    while (held--) {
        PyBuffer_Release(&found[held].source);
        PyBuffer_Release(&found[held].firsts);
    }
    PyMem_Free(found);
    PyBuffer_Release(&target);
    return !PyErr_Occurred();
}

static PyObject *copy(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *given[3], *parts, *sizes, *targets;

    if (!PyArg_ParseTuple(args, "OOO:copy", &given[0], &given[1], &given[2]))
        return NULL;
    /* Tuples, since other threads may change a list while the GIL is released. */
    parts = PySequence_Tuple(given[0]);
    sizes = parts ? PySequence_Tuple(given[1]) : NULL;
    targets = sizes ? PySequence_Tuple(given[2]) : NULL;
    if (targets && PyTuple_GET_SIZE(sizes) != PyTuple_GET_SIZE(targets))
        PyErr_Format(PyExc_ValueError, "%zd sizes of rows for %zd targets", PyTuple_GET_SIZE(sizes),
                     PyTuple_GET_SIZE(targets));
    for (Py_ssize_t column = 0; !PyErr_Occurred() && column < PyTuple_GET_SIZE(targets); column++) {
        const Py_ssize_t row_bytes = PyLong_AsSsize_t(PyTuple_GET_ITEM(sizes, column));
        if (!PyErr_Occurred())
            copy_column(parts, column, PyTuple_GET_SIZE(targets), row_bytes, PyTuple_GET_ITEM(targets, column));
    }
    Py_XDECREF(parts);
    Py_XDECREF(sizes);
    Py_XDECREF(targets);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(choose_doc,
             "choose(pool, chosen, row_bytes, target, /)\n--\n\n"
             "Gather single rows.\n\n"
             "Args:\n"
             "    pool: Contiguous rows.\n"
             "    chosen: The row of the pool for each row of the target, int32.\n"
             "    row_bytes: Size of a row.\n"
             "    target: Contiguous array that receives the rows.\n\n"
             "Raises:\n"
             "    IndexError: A row is outside the pool, or the target is too small.\n");

/* With a constant size, a row is copied by a few moves without a branch. */
static inline __attribute__((always_inline)) Py_ssize_t choose_rows(const char *pool, uint64_t most, const int32_t *chosen,
                                                                    Py_ssize_t count, Py_ssize_t bytes, char *target)
{
    Py_ssize_t at = 0;

    for (; at < count && (uint64_t)(int64_t)chosen[at] < most; at++) {
        /* Prefetch the target too: it was used by an earlier window, and a write waits for the cache line it changes. */
        if (bytes >= LINE && at + AHEAD < count)
            for (Py_ssize_t line = 0; line < bytes; line += LINE) {
                __builtin_prefetch(pool + chosen[at + AHEAD] * bytes + line);
                __builtin_prefetch(target + (at + AHEAD) * bytes + line, 1);
            }
        copy_row(target + at * bytes, pool + chosen[at] * bytes, bytes);
    }
    return at;
}

static Py_ssize_t choose_rows_of_size(const char *pool, uint64_t most, const int32_t *chosen, Py_ssize_t count,
                                      Py_ssize_t bytes, char *target)
{
    switch (bytes) {
    case 1:
        return choose_rows(pool, most, chosen, count, 1, target);
    case 4:
        return choose_rows(pool, most, chosen, count, 4, target);
    case 8:
        return choose_rows(pool, most, chosen, count, 8, target);
    case 64:
        return choose_rows(pool, most, chosen, count, 64, target);
    case 128:
        return choose_rows(pool, most, chosen, count, 128, target);
    case 256:
        return choose_rows(pool, most, chosen, count, 256, target);
    default:
        return choose_rows(pool, most, chosen, count, bytes, target);
    }
}

static PyObject *choose(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer pool, chosen, target;
    Py_ssize_t row_bytes, count, at = 0;

    if (!PyArg_ParseTuple(args, "y*y*nw*:choose", &pool, &chosen, &row_bytes, &target))
        return NULL;
    count = chosen.len / (Py_ssize_t)sizeof(int32_t);
    if (row_bytes > 0 && count <= target.len / row_bytes) {
        Py_BEGIN_ALLOW_THREADS
        at = choose_rows_of_size(pool.buf, (uint64_t)(pool.len / row_bytes), chosen.buf, count, row_bytes, target.buf);
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

PyDoc_STRVAR(permute_doc,
             "permute(words, /)\n--\n\n"
             "Replace random words by the indices that would sort them.\n\n"
             "The index of each word replaces its lowest bits, as many as the number of words needs, so no two words are\n"
             "equal. A radix sort by the highest bits is followed by an insertion sort, which is fast for random words.\n\n"
             "Args:\n"
             "    words: uint64, fewer than 2**32.\n\n"
             "Raises:\n"
             "    ValueError: There are too many words.\n"
             "    MemoryError: There is not enough memory for a copy of the words.\n");

/* One stable pass of a radix sort. */
static void deal(const uint64_t *numbers, Py_ssize_t count, int shift, int digit_bits, uint64_t *dealt)
{
    uint32_t ends[1 << MOST_DIGIT_BITS] = {0};
    const uint64_t digit = (UINT64_C(1) << digit_bits) - 1;
    uint32_t sum = 0;

    for (Py_ssize_t at = 0; at < count; at++)
        ends[numbers[at] >> shift & digit]++;
    for (uint64_t value = 0; value <= digit; value++) {
        const uint32_t size = ends[value];
        ends[value] = sum;
        sum += size;
    }
    for (Py_ssize_t at = 0; at < count; at++)
        dealt[ends[numbers[at] >> shift & digit]++] = numbers[at];
}

/* An insertion sort from one array into another, or in place. */
static void insert(const uint64_t *numbers, Py_ssize_t count, uint64_t *sorted)
{
    for (Py_ssize_t next = 0; next < count; next++) {
        const uint64_t number = numbers[next];
        Py_ssize_t at = next;
        for (; at > 0 && sorted[at - 1] > number; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = number;
    }
}

static void permute_words(uint64_t *words, Py_ssize_t count, int bits, uint64_t *dealt)
{
    const uint64_t low = (UINT64_C(1) << bits) - 1;
    const bool once = bits <= MOST_DIGIT_BITS + 1; /* one pass leaves about one number per digit value */
    /* Two passes cover up to three bits more than the indices need, so that few numbers share their highest bits. */
    int digit_bits = once ? bits : (bits + 4) / 2;

    if (digit_bits > MOST_DIGIT_BITS)
        digit_bits = MOST_DIGIT_BITS;
    for (Py_ssize_t at = 0; at < count; at++)
        words[at] = (words[at] & ~low) | (uint64_t)at;
    if (once) {
        deal(words, count, 64 - digit_bits, digit_bits, dealt);
        insert(dealt, count, words);
    } else {
        deal(words, count, 64 - 2 * digit_bits, digit_bits, dealt);
        deal(dealt, count, 64 - digit_bits, digit_bits, words);
        insert(words, count, words);
    }
    for (Py_ssize_t at = 0; at < count; at++)
        words[at] &= low;
}

static PyObject *permute(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer words;
    Py_ssize_t count;
    int bits = 0; /* bits that the count needs */

    if (!PyArg_ParseTuple(args, "w*:permute", &words))
        return NULL;
    count = words.len / (Py_ssize_t)sizeof(uint64_t);
    if (count > UINT32_MAX) {
        PyBuffer_Release(&words);
        return PyErr_Format(PyExc_ValueError, "cannot permute %zd words; the maximum is 4,294,967,295", count);
    }
    while (count >> bits)
        bits++;
    uint64_t *dealt = PyMem_RawMalloc((size_t)(count + 1) * sizeof *dealt);
    if (dealt) {
        Py_BEGIN_ALLOW_THREADS
        permute_words(words.buf, count, bits, dealt);
        Py_END_ALLOW_THREADS
    } else
        PyErr_NoMemory();
    PyMem_RawFree(dealt);
    PyBuffer_Release(&words);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(philox_doc,
             "philox(key, stream, words, /)\n--\n\n"
             "Fill an array with the first random words of a stream.\n\n"
             "The generator is Philox4x64-10. Its counter holds the number of the group of four words in its lowest 64 bits\n"
             "and the stream in the next 64.\n\n"
             "Args:\n"
             "    key: 64 bits, the lower half of the generator's key; the upper half is 0.\n"
             "    stream: 64 bits.\n"
             "    words: uint64 array that receives the words.\n");

static inline uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    const unsigned __int128 product = (unsigned __int128)a * b;
    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
}

static void philox_words(uint64_t key, uint64_t stream, uint64_t *words, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at += 4) {
        uint64_t c0 = (uint64_t)at / 4, c1 = stream, c2 = 0, c3 = 0, k0 = key, k1 = 0;
        for (int round = 0; round < 10; round++) {
            uint64_t low_0, low_2;
            const uint64_t high_0 = multiply(UINT64_C(0xD2E7470EE14C6C93), c0, &low_0);
            const uint64_t high_2 = multiply(UINT64_C(0xCA5A826395121157), c2, &low_2);
            c0 = high_2 ^ c1 ^ k0;
            c1 = low_2;
            c2 = high_0 ^ c3 ^ k1;
            c3 = low_0;
            k0 += UINT64_C(0x9E3779B97F4A7C15);
            k1 += UINT64_C(0xBB67AE8584CAA73B);
        }
        const uint64_t four[4] = {c0, c1, c2, c3};
        memcpy(words + at, four, (size_t)(count - at < 4 ? count - at : 4) * sizeof *words);
    }
}

static PyObject *philox(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *key, *stream;
    Py_buffer words;
    uint64_t key_bits, stream_bits;

    if (!PyArg_ParseTuple(args, "O!O!w*:philox", &PyLong_Type, &key, &PyLong_Type, &stream, &words))
        return NULL;
    key_bits = PyLong_AsUnsignedLongLong(key);
    stream_bits = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(stream);
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        philox_words(key_bits, stream_bits, words.buf, words.len / (Py_ssize_t)sizeof(uint64_t));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&words);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"copy", copy, METH_VARARGS, copy_doc},
                                {"choose", choose, METH_VARARGS, choose_doc},
                                {"permute", permute, METH_VARARGS, permute_doc},
                                {"philox", philox, METH_VARARGS, philox_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "rows",
                                    "Row order and row copies for the loader.", -1, methods,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_rows(void)
{
    return PyModule_Create(&module);
}
