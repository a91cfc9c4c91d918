"""A thread's Python frames, read at any moment, without the GIL, and without trust.

- Every read is guarded (memory.pyx): a frame may be half made, an object may be gone.
- An object is believed after checks alone: its type, its size, that the instruction lies within
  the code. What does not pass ends the walk, or the part of it that is in doubt.
- Async-signal-safe: no allocation, no lock, no reference is taken. One walk at a time: what it
  works on is this module's, to spare the stack of the thread that was interrupted.
- The layout of frames is CPython's own affair: known() is False where it is another, and who
  walks compares what it finds with Python's own frames first.
"""

from libc.string cimport memcpy

from neverblock.watch.memory cimport fetch, gather, iovec

cdef extern from "Python.h" nogil:
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject PyCode_Type
    PyTypeObject PyUnicode_Type
    PyTypeObject PyBytes_Type
    ctypedef struct Head "PyVarObject":
        PyTypeObject *kind "ob_base.ob_type"
        Py_ssize_t size "ob_size"
    ctypedef struct Text "PyASCIIObject":
        PyTypeObject *type "ob_base.ob_type"
        Py_ssize_t length
        unsigned int kind "state.kind"
        unsigned int compact "state.compact"
        unsigned int ascii "state.ascii"
    ctypedef struct PyCompactUnicodeObject:
        pass
    ctypedef struct Code "PyCodeObject":
        PyTypeObject *type "ob_base.ob_base.ob_type"
        Py_ssize_t units "ob_base.ob_size"
        int co_flags
        int co_firstlineno
        int first "_co_firsttraceable"
        void *co_filename
        void *co_qualname
        void *co_linetable
    size_t BYTES_HEAD "offsetof(PyBytesObject, ob_sval)"
    enum:
        CO_COROUTINE
        CO_ASYNC_GENERATOR
        CO_ITERABLE_COROUTINE

cdef extern from "watch/layout.h" nogil:
    int NB_LAYOUT, NB_RECORDS
    size_t NB_STATE_FIELD, NB_RECORD_SIZE, NB_RECORD_CURRENT, NB_RECORD_PREVIOUS, NB_CODE_HEAD
    int NB_OWNED_BY_GENERATOR, NB_OWNED_BY_INTERPRETER, NB_LAST_OWNER
    ctypedef struct Frame "nb_frame":
        Frame *previous
        void *instruction
        char owner
    void *NB_CODE(Frame *frame) noexcept
    bint NB_IS_ENTRY(Frame *frame) noexcept

cdef enum:
    STEPS = 300             # frames that are looked at, those of C code included
    MOST_UNITS = 1 << 24    # of two bytes, in a code object
    MOST_TABLE = 1 << 18    # bytes of a location table
    MOST_NAME = 1000        # bytes of a name
    SOME = 512              # bytes that are read of a table at a time

#: What the walk under way works on.
cdef Frame frame
cdef Code code
cdef Head table
cdef Text[2] names
cdef const void *known_file     # the name that was read last, and where it is in the text
cdef short known_at
cdef unsigned char[SOME] some
cdef char[4 * MOST_NAME] letters


cdef bint known() noexcept nogil:
    return NB_LAYOUT != 0


cdef struct Record:
    const char *place       # of the interpreter's record on the C stack; NULL: the last one
    const char *previous
    const Frame *current
    const Frame *below      # the frame that called the interpreter


cdef bint aligned(const void *place) noexcept nogil:
    return place is not NULL and (<size_t> place) % sizeof(void *) == 0


cdef bint read_record(const char *place, Record *record) noexcept nogil:
    """The record at that place, and of the one before it what it runs."""
    cdef char[64] content
    record.place = place
    record.previous = NULL
    record.below = NULL
    if not aligned(place) or not fetch(content, place, NB_RECORD_SIZE):
        return False
    record.current = (<const Frame **> (content + NB_RECORD_CURRENT))[0]
    record.previous = (<const char **> (content + NB_RECORD_PREVIOUS))[0]
    if record.previous is not NULL:
        if not aligned(record.previous) or not fetch(content, record.previous, NB_RECORD_SIZE):
            record.previous = NULL
            return False
        record.below = (<const Frame **> (content + NB_RECORD_CURRENT))[0]
    return True


cdef void walk(const PyThreadState *state, Stack *into) noexcept nogil:
    global known_file
    cdef const char *start = NULL
    cdef const Frame *place
    cdef Record record
    cdef int _step, since = 0
    into.count = into.used = 0
    into.whole = False
    known_file = NULL
    if not NB_LAYOUT or not aligned(state):
        return
    if not fetch(&start, (<const char *> state) + NB_STATE_FIELD, sizeof(start)):
        return
    place = <const Frame *> start
    if NB_RECORDS:
        if not read_record(start, &record):
            return
        place = record.current
    for _step in range(STEPS):
        if place is NULL:
            into.whole = True
            return
        if into.count == DEPTH:
            return
        if not add_line(place, into):
            # Until 3.12 a record may be known before it says what it runs. What it was called
            # from is known all the same.
            into.count = since
            if not NB_RECORDS or record.previous is NULL:
                return
        elif not (NB_RECORDS and NB_IS_ENTRY(&frame)):
            place = frame.previous
            continue
        elif frame.previous is not record.below:
            into.count = since
            if record.previous is NULL:
                return
        since = into.count
        place = record.below
        if record.previous is NULL:
            into.whole = place is NULL
            return
        if not read_record(record.previous, &record):
            return


cdef bint add_line(const Frame *place, Stack *into) noexcept nogil:
    """False where it cannot be believed. Leaves the frame in `frame`."""
    cdef Line *line
    cdef const char *where
    cdef Py_ssize_t at
    cdef iovec[3] targets
    cdef iovec[3] pieces
    if not aligned(place) or not fetch(&frame, place, sizeof(Frame)):
        return False
    if frame.owner < 0 or frame.owner > NB_LAST_OWNER:
        return False
    if frame.owner >= NB_OWNED_BY_INTERPRETER:
        return True
    where = <const char *> NB_CODE(&frame)
    if not aligned(where) or not fetch(&code, where, NB_CODE_HEAD):
        return False
    if code.type is not &PyCode_Type or code.units <= 0 or code.units > MOST_UNITS:
        return False
    at = <const char *> frame.instruction - (where + NB_CODE_HEAD)
    if at % 2 or at < -2 or at >= 2 * code.units:
        return False
    if at < 0 or (frame.owner != NB_OWNED_BY_GENERATOR and at < 2 * code.first):
        return True         # not begun: its function is still being called
    if not (aligned(code.co_filename) and aligned(code.co_qualname)
            and aligned(code.co_linetable)):
        return False
    aim(&targets[0], &pieces[0], &names[0], code.co_filename, sizeof(Text))
    aim(&targets[1], &pieces[1], &names[1], code.co_qualname, sizeof(Text))
    aim(&targets[2], &pieces[2], &table, code.co_linetable, sizeof(Head))
    if not gather(targets, pieces, 3):
        return False
    line = &into.lines[into.count]
    line.code = where
    line.at = <int> at
    line.coroutine = code.co_flags & (
        CO_COROUTINE | CO_ASYNC_GENERATOR | CO_ITERABLE_COROUTINE) != 0
    if not (add_file(line, into) and add_name(
            &names[1], code.co_qualname, into, &line.function)):
        return False
    find_line(line)
    into.count += 1
    return True


cdef inline void aim(
        iovec *target, iovec *piece, void *into, void *place, size_t size) noexcept nogil:
    target.iov_base = into
    piece.iov_base = place
    target.iov_len = piece.iov_len = size


cdef bint add_file(Line *line, Stack *into) noexcept nogil:
    """Most lines of a stack are of the file before them."""
    global known_file, known_at
    if code.co_filename is not known_file:
        if not add_name(&names[0], code.co_filename, into, &known_at):
            return False
        known_file = code.co_filename
    line.file = known_at
    return True


cdef bint add_name(
        const Text *name, const void *place, Stack *into, short *where) noexcept nogil:
    """A string, as UTF-8; of what would not fit the beginning."""
    cdef const char *start = <const char *> place + (
        sizeof(Text) if name.ascii else sizeof(PyCompactUnicodeObject))
    cdef Py_ssize_t length = min(name.length, <Py_ssize_t> MOST_NAME), i
    cdef unsigned int kind = name.kind
    cdef unsigned long letter
    cdef char *out = into.text + into.used
    cdef int room = min(TEXT - into.used, MOST_NAME), used = 0
    if (name.type is not &PyUnicode_Type or name.compact == 0 or name.length < 0
            or (kind != 1 and kind != 2 and kind != 4) or (name.ascii and kind != 1)):
        return False
    if length and not fetch(letters, start, length * kind):
        return False
    if room < 5:            # full: what is left says so
        where[0] = <short> (TEXT - 1)
        into.text[TEXT - 1] = 0
        return True
    for i in range(length):
        if used > room - 6:     # four bytes, a zero, and the last byte of all is kept
            break
        if kind == 1:
            letter = (<unsigned char *> letters)[i]
        elif kind == 2:
            letter = (<unsigned short *> letters)[i]
        else:
            letter = (<unsigned int *> letters)[i]
        used += encode(letter, out + used)
    out[used] = 0
    where[0] = <short> into.used
    into.used += used + 1
    return True


cdef inline int encode(unsigned long letter, char *out) noexcept nogil:
    """Bytes that could not be decoded become what they were: PEP 383."""
    if letter < 0x80 or 0xDC80 <= letter <= 0xDCFF:
        out[0] = <char> (letter & 0xFF)
        return 1
    if letter < 0x800:
        out[0] = <char> (0xC0 | letter >> 6)
        out[1] = <char> (0x80 | letter & 0x3F)
        return 2
    if letter < 0x10000:
        out[0] = <char> (0xE0 | letter >> 12)
        out[1] = <char> (0x80 | letter >> 6 & 0x3F)
        out[2] = <char> (0x80 | letter & 0x3F)
        return 3
    out[0] = <char> (0xF0 | letter >> 18 & 7)
    out[1] = <char> (0x80 | letter >> 12 & 0x3F)
    out[2] = <char> (0x80 | letter >> 6 & 0x3F)
    out[3] = <char> (0x80 | letter & 0x3F)
    return 4


cdef struct Reader:
    const char *next        # in the table, of what was not read yet
    Py_ssize_t left
    int at, had             # in `some`


cdef inline int next_byte(Reader *reader) noexcept nogil:
    """-1: the table ends here, or cannot be read."""
    if reader.at == reader.had:
        reader.had = <int> min(reader.left, <Py_ssize_t> SOME)
        reader.at = 0
        if reader.had <= 0 or not fetch(some, reader.next, reader.had):
            reader.left = reader.had = 0
            return -1
        reader.next += reader.had
        reader.left -= reader.had
    reader.at += 1
    return some[reader.at - 1]


cdef int next_number(Reader *reader) noexcept nogil:
    """Six bits a byte, the lowest first."""
    cdef int byte = next_byte(reader), shift = 6
    cdef unsigned int number
    if byte < 0:
        return 0
    number = byte & 63
    while byte & 64 and shift < 30:
        byte = next_byte(reader)
        if byte < 0:
            return 0
        number |= (<unsigned int> byte & 63) << shift
        shift += 6
    return <int> number


cdef int next_signed(Reader *reader) noexcept nogil:
    cdef int number = next_number(reader)
    return -(number >> 1) if number & 1 else number >> 1


cdef void find_line(Line *line) noexcept nogil:
    """Line and columns of the instruction, from the location table: PEP 626, PEP 657."""
    cdef Reader reader
    cdef int byte, form = 15, until = 0, number = code.co_firstlineno, column, end_column, end
    line.number = max(number, 0)
    line.column = line.end_column = -1
    if table.kind is not &PyBytes_Type or not 0 <= table.size <= MOST_TABLE:
        return
    reader.next = <const char *> code.co_linetable + BYTES_HEAD
    reader.left = table.size
    reader.at = reader.had = 0
    while until <= line.at:
        byte = next_byte(&reader)
        if byte < 0x80:         # the end, or no table
            return
        form = byte >> 3 & 15
        until += 2 * ((byte & 7) + 1)
        column = end_column = -1
        end = 0
        if form < 10:
            byte = next_byte(&reader)
            column = form << 3 | byte >> 4 & 7
            end_column = column + (byte & 15)
        elif form < 13:
            number += form - 10
            column = next_byte(&reader)
            end_column = next_byte(&reader)
        elif form == 13:
            number += next_signed(&reader)
        elif form == 14:
            number += next_signed(&reader)
            end = next_number(&reader)
            column = next_number(&reader) - 1
            end_column = next_number(&reader) - 1
        if form != 15:          # where an instruction has none, the line before it holds
            line.number = max(number, 0)
            line.column = column
            line.end_column = end_column if end == 0 and end_column > column else -1
    if form == 15:
        line.column = line.end_column = -1


cdef bint same(const Stack *one, const Stack *other) noexcept nogil:
    """Whether both stand at the same instructions."""
    cdef int i
    if one.count != other.count:
        return False
    for i in range(one.count):
        if (one.lines[i].code is not other.lines[i].code
                or one.lines[i].at != other.lines[i].at):
            return False
    return True


cdef void copy(Stack *into, const Stack *stack) noexcept nogil:
    """What is in use of it."""
    into.count = stack.count
    into.used = stack.used
    into.whole = stack.whole
    memcpy(into.lines, stack.lines, stack.count * sizeof(Line))
    memcpy(into.text, stack.text, stack.used)
    into.text[TEXT - 1] = 0


cdef list lines_of(const Stack *stack):
    return [
        (
            decoded(&stack.text[stack.lines[i].file]),
            stack.lines[i].number,
            stack.lines[i].column,
            stack.lines[i].end_column,
            decoded(&stack.text[stack.lines[i].function]),
            bool(stack.lines[i].coroutine),
        )
        for i in range(stack.count)
    ]


cdef str decoded(const char *name):
    return (<bytes> name).decode("utf-8", "surrogateescape")
