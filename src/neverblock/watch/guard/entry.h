/* Taking a C function's place, for the whole process, without replacing any Python object.
 *
 * - What is changed is the pointer in the function's PyMethodDef, or a type's slot: names taken
 *   before (`from time import sleep`), bound methods, isinstance, signatures and pickles stay.
 * - Each place has functions of its own, one for each calling convention (PyMethodDef.ml_flags):
 *   C has no other way to tell which one was called.
 * - In a thread that runs no strict loop such a function costs a test of one variable.
 * - A place is filled once and never given to another function: a call may still be under way.
 */
#ifndef NB_ENTRY_H
#define NB_ENTRY_H

#include <Python.h>

#define NB_PLACES 256
#define NB_SHIELD 2

typedef struct {
    PyMethodDef *definition;
    PyCFunction original;
    PyCFunction ours;
    int kind;
} nb_place;

typedef struct {
    PyTypeObject *type;
    PyWrapperDescrObject *wrapper;
    iternextfunc original;
} nb_iterator;

static nb_place nb_places[NB_PLACES];
static nb_iterator nb_iterators[8];

/* This thread runs a loop that is strict; and: is just now asking whether a call may be made. */
static _Thread_local int nb_guarded;
static _Thread_local int nb_suspended;

/* 0: go on; 1: *result is what the call returns; -1: an exception is set. */
static int (*nb_ask)(int place, PyObject *self, PyObject *args, PyObject *kwargs,
                     PyObject **result);
static int (*nb_ask_next)(int place, PyObject *self);
static int (*nb_heed)(const char *event, PyObject *args);

static inline int nb_on(void)
{
    return nb_guarded && !nb_suspended;
}

/* Takes over args and kwargs; args may be NULL after an error. */
static int nb_asked(int place, PyObject *self, PyObject *args, PyObject *kwargs,
                    PyObject **result)
{
    int answer = -1;

    *result = NULL;
    if (args != NULL)
        answer = nb_ask(place, self ? self : Py_None, args, kwargs, result);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return answer;
}

static PyObject *nb_tuple(PyObject *const *args, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);

    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        Py_INCREF(args[i]);
        PyTuple_SET_ITEM(tuple, i, args[i]);
    }
    return tuple;
}

/* What is given by name: those stand behind the others. Returns -1 after an error. */
static int nb_named(PyObject *const *values, PyObject *names, PyObject **named)
{
    Py_ssize_t count = names ? PyTuple_GET_SIZE(names) : 0;

    *named = NULL;
    if (!count)
        return 0;
    if ((*named = PyDict_New()) == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyDict_SetItem(*named, PyTuple_GET_ITEM(names, i), values[i]) < 0) {
            Py_CLEAR(*named);
            return -1;
        }
    return 0;
}

static int nb_asked_fast(int place, PyObject *self, PyObject *const *args, Py_ssize_t count,
                         PyObject *names, PyObject **result)
{
    PyObject *named;

    *result = NULL;
    if (nb_named(args + count, names, &named) < 0)
        return -1;
    return nb_asked(place, self, nb_tuple(args, count), named, result);
}

/* What a shield calls is not asked about: see the table. */
#define NB_GO_ON(place, call)                                                                  \
    do {                                                                                       \
        PyObject *returned;                                                                    \
        if (nb_places[place].kind != NB_SHIELD)                                                \
            return call;                                                                       \
        nb_suspended++;                                                                        \
        returned = call;                                                                       \
        nb_suspended--;                                                                        \
        return returned;                                                                       \
    } while (0)

#define NB_ASKS(place) (nb_on() && nb_places[place].kind != NB_SHIELD)

static inline PyObject *nb_plain(int place, PyObject *self, PyObject *arg)
{
    PyCFunction original = nb_places[place].original;

    if (NB_ASKS(place)) {
        int flags = nb_places[place].definition->ml_flags;
        PyObject *result, *args;

        if (flags & METH_VARARGS) {
            Py_INCREF(arg);
            args = arg;
        } else {
            args = flags & METH_O ? PyTuple_Pack(1, arg) : PyTuple_New(0);
        }
        if (nb_asked(place, self, args, NULL, &result))
            return result;
    }
    NB_GO_ON(place, original(self, arg));
}

static inline PyObject *nb_keywords(int place, PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyCFunctionWithKeywords original =
        (PyCFunctionWithKeywords)(void (*)(void))nb_places[place].original;

    if (NB_ASKS(place)) {
        PyObject *result;

        Py_INCREF(args);
        Py_XINCREF(kwargs);
        if (nb_asked(place, self, args, kwargs, &result))
            return result;
    }
    NB_GO_ON(place, original(self, args, kwargs));
}

typedef PyObject *(*nb_fast_function)(PyObject *, PyObject *const *, Py_ssize_t);
typedef PyObject *(*nb_fast_named_function)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
typedef PyObject *(*nb_method_function)(PyObject *, PyTypeObject *, PyObject *const *, size_t,
                                        PyObject *);

static inline PyObject *nb_fast(int place, PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    nb_fast_function original = (nb_fast_function)(void (*)(void))nb_places[place].original;
    PyObject *result;

    if (NB_ASKS(place) && nb_asked_fast(place, self, args, count, NULL, &result))
        return result;
    NB_GO_ON(place, original(self, args, count));
}

static inline PyObject *nb_fast_named(int place, PyObject *self, PyObject *const *args,
                                      Py_ssize_t count, PyObject *names)
{
    nb_fast_named_function original =
        (nb_fast_named_function)(void (*)(void))nb_places[place].original;
    PyObject *result;

    if (NB_ASKS(place) && nb_asked_fast(place, self, args, count, names, &result))
        return result;
    NB_GO_ON(place, original(self, args, count, names));
}

static inline PyObject *nb_method(int place, PyObject *self, PyTypeObject *type,
                                  PyObject *const *args, size_t count, PyObject *names)
{
    nb_method_function original = (nb_method_function)(void (*)(void))nb_places[place].original;
    PyObject *result;

    if (NB_ASKS(place)
        && nb_asked_fast(place, self, args, PyVectorcall_NARGS(count), names, &result))
        return result;
    NB_GO_ON(place, original(self, type, args, count, names));
}

#define NB_FUNCTIONS(n)                                                                        \
    static PyObject *nb_plain_##n(PyObject *self, PyObject *arg)                               \
    {                                                                                          \
        return nb_plain(n, self, arg);                                                         \
    }                                                                                          \
    static PyObject *nb_keywords_##n(PyObject *self, PyObject *args, PyObject *kwargs)         \
    {                                                                                          \
        return nb_keywords(n, self, args, kwargs);                                             \
    }                                                                                          \
    static PyObject *nb_fast_##n(PyObject *self, PyObject *const *args, Py_ssize_t count)      \
    {                                                                                          \
        return nb_fast(n, self, args, count);                                                  \
    }                                                                                          \
    static PyObject *nb_fast_named_##n(PyObject *self, PyObject *const *args,                  \
                                       Py_ssize_t count, PyObject *names)                      \
    {                                                                                          \
        return nb_fast_named(n, self, args, count, names);                                     \
    }                                                                                          \
    static PyObject *nb_method_##n(PyObject *self, PyTypeObject *type, PyObject *const *args,  \
                                   size_t count, PyObject *names)                              \
    {                                                                                          \
        return nb_method(n, self, type, args, count, names);                                   \
    }

#define NB_POINTER(function) (PyCFunction)(void (*)(void))function
#define NB_ROW(n)                                                                              \
    {NB_POINTER(nb_plain_##n), NB_POINTER(nb_keywords_##n), NB_POINTER(nb_fast_##n),           \
     NB_POINTER(nb_fast_named_##n), NB_POINTER(nb_method_##n)},

#define NB_SIXTEEN(each, h)                                                                    \
    each(0x##h##0) each(0x##h##1) each(0x##h##2) each(0x##h##3) each(0x##h##4)                 \
    each(0x##h##5) each(0x##h##6) each(0x##h##7) each(0x##h##8) each(0x##h##9)                 \
    each(0x##h##a) each(0x##h##b) each(0x##h##c) each(0x##h##d) each(0x##h##e)                 \
    each(0x##h##f)
#define NB_ALL(each)                                                                           \
    NB_SIXTEEN(each, 0) NB_SIXTEEN(each, 1) NB_SIXTEEN(each, 2) NB_SIXTEEN(each, 3)            \
    NB_SIXTEEN(each, 4) NB_SIXTEEN(each, 5) NB_SIXTEEN(each, 6) NB_SIXTEEN(each, 7)            \
    NB_SIXTEEN(each, 8) NB_SIXTEEN(each, 9) NB_SIXTEEN(each, a) NB_SIXTEEN(each, b)            \
    NB_SIXTEEN(each, c) NB_SIXTEEN(each, d) NB_SIXTEEN(each, e) NB_SIXTEEN(each, f)

NB_ALL(NB_FUNCTIONS)
static const PyCFunction nb_functions[NB_PLACES][5] = {NB_ALL(NB_ROW)};

/* Which of the five a function is called like; -1: in a way that is not known here. */
static int nb_convention(int flags)
{
    switch (flags & (METH_VARARGS | METH_KEYWORDS | METH_NOARGS | METH_O | METH_FASTCALL
                     | METH_METHOD)) {
    case METH_VARARGS:
    case METH_NOARGS:
    case METH_O:
        return 0;
    case METH_VARARGS | METH_KEYWORDS:
        return 1;
    case METH_FASTCALL:
        return 2;
    case METH_FASTCALL | METH_KEYWORDS:
        return 3;
    case METH_FASTCALL | METH_KEYWORDS | METH_METHOD:
        return 4;
    }
    return -1;
}

/* What a built-in function or a method of a C type is defined by; NULL for anything else. */
static PyMethodDef *nb_definition(PyObject *function)
{
    if (PyCFunction_Check(function))
        return ((PyCFunctionObject *)function)->m_ml;
    if (Py_IS_TYPE(function, &PyMethodDescr_Type))
        return ((PyMethodDescrObject *)function)->d_method;
    return NULL;
}

static PyObject *nb_next(int place, PyObject *self)
{
    if (nb_on() && nb_ask_next(place, self) < 0)
        return NULL;
    return nb_iterators[place].original(self);
}

#define NB_NEXT(n)                                                                             \
    static PyObject *nb_next_##n(PyObject *self)                                               \
    {                                                                                          \
        return nb_next(n, self);                                                               \
    }
NB_NEXT(0)
NB_NEXT(1)
NB_NEXT(2)
NB_NEXT(3)
NB_NEXT(4)
NB_NEXT(5)
NB_NEXT(6)
NB_NEXT(7)
static const iternextfunc nb_nexts[8] = {nb_next_0, nb_next_1, nb_next_2, nb_next_3,
                                         nb_next_4, nb_next_5, nb_next_6, nb_next_7};

/* The wrapper is what `iterator.__next__()` calls; the type's slot is what `for` does. */
static void nb_set_next(int place, iternextfunc function)
{
    nb_iterators[place].type->tp_iternext = function;
    nb_iterators[place].wrapper->d_wrapped = (void *)function;
}

/* The audit hook (PEP 578): it cannot be taken away again, only be idle. */
static int nb_hook(const char *event, PyObject *args, void *unused)
{
    (void)unused;
    return nb_on() ? nb_heed(event, args) : 0;
}

#endif
