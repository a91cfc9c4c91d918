/* Where CPython keeps a thread's frames: the part of its inner structures that a walk needs.
 *
 * - Frames alone are described here, by version, since no public header does; thread states, code
 *   objects and strings are read as CPython's own headers lay them out.
 * - A Python whose frames are not known has NB_LAYOUT 0, and is not walked.
 */

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION) || PY_VERSION_HEX >= 0x03100000
#define NB_LAYOUT 0
#else
#define NB_LAYOUT 1
#endif

typedef struct nb_frame {
#if PY_VERSION_HEX < 0x030C0000
    void *called, *globals, *builtins, *locals;
    void *code;
    void *object;
    struct nb_frame *previous;
    void *instruction;  /* the one before the next */
    int top;
    char entry;         /* the outermost of a call of the interpreter */
    char owner;
#else
    void *code;         /* from 3.14 on with marks in its lowest bits */
    struct nb_frame *previous;
    void *called, *globals, *builtins, *locals;
    void *object;
    void *instruction;  /* until 3.12 the one before the next; from then on the one at work */
#if PY_VERSION_HEX < 0x030E0000
    int top;
#else
    void *top;
#endif
    uint16_t return_offset;
    char owner;
#endif
} nb_frame;

#define NB_CODE(frame) ((void *) ((uintptr_t) (frame)->code & ~(uintptr_t) 3))
#define NB_OWNED_BY_GENERATOR 1
/* From here on: not a function's, but the interpreter's own mark of where C code called it. */
#define NB_OWNED_BY_INTERPRETER 3
#define NB_LAST_OWNER 4

#if PY_VERSION_HEX < 0x030C0000
#define NB_IS_ENTRY(frame) ((frame)->entry != 0)
#else
#define NB_IS_ENTRY(frame) ((frame)->owner >= NB_OWNED_BY_INTERPRETER)
#endif

/* Until 3.12 each call of the interpreter has a record on the C stack, of which the thread knows the
 * newest; it is known before it is filled in. */
typedef struct {
    nb_frame *current;
    void *previous;
} nb_record;

#if PY_VERSION_HEX < 0x030D0000
#define NB_RECORDS 1
#define NB_STATE_FIELD offsetof(PyThreadState, cframe)
#define NB_RECORD_CURRENT offsetof(_PyCFrame, current_frame)
#define NB_RECORD_PREVIOUS offsetof(_PyCFrame, previous)
#define NB_RECORD_SIZE sizeof(_PyCFrame)
#else
#define NB_RECORDS 0
#define NB_STATE_FIELD offsetof(PyThreadState, current_frame)
#define NB_RECORD_CURRENT 0
#define NB_RECORD_PREVIOUS 0
#define NB_RECORD_SIZE sizeof(void *)
#endif

/* A code object up to its instructions. */
#define NB_CODE_HEAD offsetof(PyCodeObject, co_code_adaptive)
