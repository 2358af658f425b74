# Executed before runner.py, in one text with it, by the interpreter that waits: imports the standard library, then forks
# for each program. What comes after `serve()` in that text is executed by the forks alone, at the same depth of the stack
# as in an interpreter of its own.
#
# On descriptor 0 is a socket. A request to start is {"uid", "home", "rlimits", "input", "doors"} with descriptors: job, stdout, stderr,
# report, then the input, the doors of the cgroup, the file system and the Landlock ruleset as the flags say. The answer is the number of the new
# process, or a negative errno. A request to reap is a number; the answer is 4 bytes of wait status, 8 of processor time in
# microseconds, 1 of whether others were left. This interpreter never runs a program itself and never reads one.


def serve():
    # Before all else: who starts us may be killed while we import.
    import ctypes

    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG
    import ast, bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools, gc, hashlib
    import heapq, itertools, json, math, operator, os, random, re, resource, signal, socket, statistics, string, struct
    import sys, time, typing

    plan = json.loads(sys.argv[1])
    packages = sys.argv[2:]
    calls = plan["calls"]
    libc = ctypes.CDLL(None, use_errno=True)
    filters = []
    for text in plan["filters"]:
        code = ctypes.create_string_buffer(bytes.fromhex(text), len(text) // 2)
        fprog = struct.pack("HxxxxxxP", len(text) // 16, ctypes.addressof(code))
        filters.append((code, ctypes.create_string_buffer(fprog, len(fprog))))
    no_capabilities = ctypes.create_string_buffer(24)
    capabilities_of_self = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0), 8)

    def must(result):
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    NEWPID, NEWNS, NEWIPC = 0x20000000, 0x00020000, 0x08000000
    pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if plan["namespaces"] else None
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

    def wait_for_all(first):
        status, micros, left, since = 0, 0, False, None
        while True:
            try:
                pid, ended, usage = os.wait4(-1, 0 if since is None else os.WNOHANG)
            except ChildProcessError:
                break
            if pid == first:
                status, micros, since = ended, int((usage.ru_utime + usage.ru_stime) * 1e6), time.monotonic()
            elif pid == 0:
                if time.monotonic() - since >= 1:
                    left = True
                    break
                time.sleep(0.001)
        return struct.pack("<iQB", status, micros, left)

    def become_program(request, fds, ruleset):
        os.setsid()
        os.umask(0o077)
        os.chdir(request["home"])
        home = request["home"]
        os.environ["HOME"] = os.environ["TMPDIR"] = home
        for which, soft, hard in request["rlimits"]:
            most = resource.getrlimit(which)[1]
            if most != resource.RLIM_INFINITY:
                soft, hard = min(soft, most), min(hard, most)
            resource.setrlimit(which, (soft, hard))
        if not plan["namespaces"]:
            must(libc.prctl(1, 9, 0, 0, 0))  # PR_SET_PDEATHSIG
        if calls["setuid"]:
            uid = request["uid"]
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        if plan["confined"]:
            must(libc.syscall(calls["capset"], capabilities_of_self, no_capabilities))
            must(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
        must(libc.prctl(4, 1, 0, 0, 0))  # PR_SET_DUMPABLE: its own /proc entries are its own again
        if ruleset is not None:
            must(libc.syscall(calls["landlock_restrict_self"], ruleset, 0))
        job, stdout, stderr, report = fds[:4]
        given = fds[4] if request["input"] else None
        # The job comes to 0, the report to 10, the input to 11; nothing else is left.
        high = [os.dup2(fd, 20 + at) for at, fd in enumerate([job, stdout, stderr, report] + ([given] if given else []))]
        for at, fd in enumerate(high):
            os.dup2(fd, [0, 1, 2, 10, 11][at])
        os.closerange(3, 10)
        os.closerange(12 if given else 11, 256)
        for _, fprog in filters:
            must(libc.prctl(22, 2, fprog, 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv[1:] = ["10", "11" if given else "-"] + packages

    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control.sendall(b"ready\n")
    statuses = {}
    while True:
        try:
            data, ancillary, _, _ = control.recvmsg(4096, space)
        except ConnectionError:
            os._exit(0)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if isinstance(request, int):
            status = statuses.pop(request, None)
            if status is None:
                _, ended, usage = os.wait4(request, 0)
                answer = struct.pack("<iQB", ended, int((usage.ru_utime + usage.ru_stime) * 1e6), 0)
            else:
                os.waitpid(request, 0)
                answer = os.read(status, 13) or struct.pack("<iQB", 9, 0, 0)
                os.close(status)
            control.sendall(answer)
            continue
        raw = ancillary[0][2]
        fds = list(struct.unpack("%di" % (len(raw) // 4), raw))
        rest = fds[4 + request["input"]:]
        doors, rest = rest[: request["doors"]], rest[request["doors"]:]
        mount = rest.pop(0) if plan["namespaces"] else None
        ruleset = rest.pop(0) if rest else None
        status = told = None
        try:
            if plan["namespaces"]:
                status, told = os.pipe()
                must(libc.setns(pids, NEWPID))
                must(libc.unshare(NEWPID))
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 5)
        if pid == 0:
            try:
                if plan["namespaces"]:
                    must(libc.prctl(1, 9, 0, 0, 0))
                    enter_sample(doors, mount)
                    first = os.fork()
                    if first != 0:
                        for fd in fds + [0, 1, 2, status, control.fileno(), pids]:
                            os.close(fd)
                        os.write(told, wait_for_all(first))
                        os._exit(0)
                become_program(request, fds, ruleset)
                return
            except BaseException as error:
                os.write(fds[2], ("%s: %s\n" % (type(error).__name__, error)).encode())
                os._exit(127)
        for fd in fds:
            os.close(fd)
        if told is not None:
            os.close(told)
            if pid > 0:
                statuses[pid] = status
            else:
                os.close(status)
        control.sendall(struct.pack("<i", pid))


serve()
