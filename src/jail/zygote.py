# Executed after runner.py, in one text with it, by the interpreter that waits: imports the standard library, then forks for
# each program, which goes on in `running`, at the same depth of the stack as in an interpreter of its own.
#
# On descriptor 0 is a socket. A request to start is {"uid", "home", "rlimits", "input", "doors", "tests"} with descriptors:
# job, stdout, stderr, report, then the input, the doors of the cgroup, the pid namespace, the file system and the Landlock
# ruleset as the flags say. The answer is the number of the new process, or a negative errno. A request to reap
# is a number; the answer is 4 bytes of wait status, 8 of processor time in microseconds.
#
# This interpreter never runs a program itself. Where a job is said to be a judge's, it prepares the tests, once for all
# candidates of a task; candidates come from another one, which has never seen a test.
#
# What a fork touches is a page that is copied: whatever can be done before it is, and afterwards little is imported,
# looked up, made or given back.


def serve(running):
    # Before all else: who starts us may be killed while we import.
    import ctypes

    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
    import _signal
    import ast, bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools, gc, hashlib
    import heapq, itertools, json, math, operator, os, random, re, resource, signal, socket, statistics, string, struct
    import sys, time, typing

    plan = json.loads(sys.argv[1])
    packages = sys.argv[2:]
    calls, namespaces = plan["calls"], plan["namespaces"]
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result):
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def programs(texts):
        """seccomp's filters as the kernel takes them, and what they point to."""
        for text in texts:
            code = ctypes.create_string_buffer(bytes.fromhex(text), len(text) // 2)
            fprog = struct.pack("HxxxxxxP", len(text) // 16, ctypes.addressof(code))
            yield ctypes.create_string_buffer(fprog, len(fprog)), code

    def filter_calls(fprog):
        must(libc.prctl(22, 2, fprog, 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER

    late = list(programs(plan["filters"]["late"]))
    no_capabilities = ctypes.create_string_buffer(24)
    capabilities_of_self = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0), 8)

    NEWPID, NEWNS, NEWIPC = 0x20000000, 0x00020000, 0x08000000
    # The socket leaves descriptor 0, which will be a program's.
    control = socket.socket(fileno=os.dup(0))
    os.close(0)
    os.open("/dev/null", os.O_RDONLY)
    space = socket.CMSG_SPACE(12 * 4)

    def enter_sample(doors, mount):
        for door in doors:
            os.write(door, b"0")
        must(libc.unshare(NEWNS | NEWIPC))
        must(libc.syscall(calls["move_mount"], mount, b"", -100, b"/box", 4))  # MOVE_MOUNT_F_EMPTY_PATH
        careful = 2 | 4 | 8  # MS_NOSUID | MS_NODEV | MS_NOEXEC
        if libc.mount(b"proc", b"/proc", b"proc", careful, None) != 0:
            must(libc.mount(b"tmpfs", b"/proc", b"tmpfs", careful | 1, None))

    def become_program(request, rlimits, fds, ruleset):
        os.setsid()
        os.chdir(request["home"])
        for which, pair in rlimits:
            resource.setrlimit(which, pair)
        if not namespaces:
            must(libc.prctl(1, 9, 0, 0, 0))  # PR_SET_PDEATHSIG
        if calls["setuid"]:
            uid = request["uid"]
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        if plan["confined"]:
            must(libc.syscall(calls["capset"], capabilities_of_self, no_capabilities))
        must(libc.prctl(4, 1, 0, 0, 0))  # PR_SET_DUMPABLE: its own /proc entries are its own again
        if ruleset is not None:
            must(libc.syscall(calls["landlock_restrict_self"], ruleset, 0))
        # The job comes to 0, the report to 10, the input to 11; nothing else is left.
        high = [os.dup2(fd, 20 + at) for at, fd in enumerate(fds)]
        for fd, at in zip(high, (0, 1, 2, 10, 11)):
            os.dup2(fd, at)
        os.closerange(3, 10)
        os.closerange(12 if request["input"] else 11, 256)
        for fprog, _ in late:
            filter_calls(fprog)
        _signal.signal(2, _signal.default_int_handler)

    def know(job):
        """Prepares the tests of a job, or those of its forks do."""
        try:
            text = os.pread(job, os.fstat(job).st_size, 0).partition(b"\n")[2].decode()
            if text not in split.known:
                if sum(map(len, split.known)) + len(text) > 16 << 20:
                    split.known.clear()
                split.known[text] = split.prepare(text)
                gc.freeze()
        except Exception:
            pass  # the judge meets it too, and says so

    def within(which, pair):
        """A limit, or as much of it as we have ourselves."""
        most = resource.getrlimit(which)[1]
        if most != resource.RLIM_INFINITY:
            pair = [min(value, most) for value in pair]
        return which, tuple(pair)

    # What every fork has, and this interpreter can live with.
    os.umask(0o077)
    if plan["confined"]:
        must(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    for fprog, _ in programs(plan["filters"]["early"]):
        filter_calls(fprog)
    next(running)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control.sendall(b"ready\n")
    while True:
        try:
            data, ancillary, _, _ = control.recvmsg(4096, space)
        except ConnectionError:
            os._exit(0)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if isinstance(request, int):
            _, ended, usage = os.wait4(request, 0)
            control.sendall(struct.pack("<iQ", ended, int((usage.ru_utime + usage.ru_stime) * 1e6)))
            continue
        raw = ancillary[0][2]
        fds = list(struct.unpack("%di" % (len(raw) // 4), raw))
        ends, rest = fds[: 4 + request["input"]], fds[4 + request["input"] :]
        doors, rest = rest[: request["doors"]], rest[request["doors"] :]
        pids, mount = (rest.pop(0), rest.pop(0)) if namespaces else (None, None)
        ruleset = rest.pop(0) if rest else None
        os.environ["HOME"] = os.environ["TMPDIR"] = request["home"]
        sys.argv[1:] = ["10", "11" if request["input"] else "-"] + packages
        rlimits = [within(which, pair) for which, *pair in request["rlimits"]]
        if request["tests"]:
            know(ends[0])
        try:
            if namespaces:
                must(libc.setns(pids, NEWPID))
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 5)
        if pid == 0:
            try:
                if namespaces:
                    enter_sample(doors, mount)
                become_program(request, rlimits, ends, ruleset)
            except BaseException as error:
                os.write(ends[2], ("%s: %s\n" % (type(error).__name__, error)).encode())
                os._exit(127)
            return next(running)
        for fd in fds:
            os.close(fd)
        control.sendall(struct.pack("<i", pid))


serve(run())
