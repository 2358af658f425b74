# Tries what no program may do, and says of each attempt whether it was held. The first line is put before by the harness:
# SENTINEL (a folder with `kept` and `secret`), TCP, UDP, ABSTRACT, SOCKET (listeners), DECOY (a process), LANDLOCK.
import ctypes, os, signal, socket, sys

libc = ctypes.CDLL(None, use_errno=True)


def got(result):
    """A system call by number: what it returns, or an exception."""
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def connect(family, kind, address):
    with socket.socket(family, kind) as s:
        s.settimeout(1)
        s.connect(address)
        s.send(b"x")


def write_outside():
    open(SENTINEL + "/made", "w").close()


def read_outside():
    open(SENTINEL + "/secret").read()


def list_outside():
    os.listdir(SENTINEL)


def change_mode():
    before = os.stat(SENTINEL + "/kept").st_mode
    os.chmod(SENTINEL + "/kept", 0o777)
    if os.stat(SENTINEL + "/kept").st_mode == before:
        raise OSError("without effect")


def remove_outside():
    os.remove(SENTINEL + "/kept")


def environment():
    if "PASSK_CANARY" not in os.environ and "PATH" not in os.environ:
        raise OSError("empty")


def process_of_another():
    open("/proc/%d/environ" % DECOY, "rb").read()


def call(number, *args):
    return lambda: got(libc.syscall(number, *args))


def namespace():
    got(libc.unshare(0x10000000))


def mount():
    got(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))


def ptrace():
    got(libc.ptrace(0, 0, 0, 0))


def rights():
    held = [line for line in open("/proc/self/status") if line.startswith("CapEff")]
    if held and int(held[0].split()[1], 16) == 0:
        raise OSError("none")


def attempt(name, act):
    try:
        act()
        print("%s through" % name)
    except (OSError, AttributeError) as error:
        print("%s held" % name)


x86 = os.uname().machine == "x86_64"
attempt("write outside", write_outside)
attempt("read outside", read_outside)
attempt("list outside", list_outside)
attempt("change mode outside", change_mode)
attempt("remove outside", remove_outside)
attempt("read /etc/shadow", lambda: open("/etc/shadow").read())
attempt("environment", environment)
attempt("environment of a process", process_of_another)
attempt("signal a process", lambda: os.kill(DECOY, signal.SIGTERM))
attempt("TCP", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", TCP)))
attempt("UDP", lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", UDP)))
attempt("abstract socket", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + ABSTRACT))
attempt("socket by path", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, SOCKET))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("netlink", lambda: socket.socket(16, socket.SOCK_RAW))
attempt("user namespace", namespace)
attempt("mount", mount)
attempt("ptrace", ptrace)
attempt("keyring", call(250 if x86 else 219, 0, -3, 1))
attempt("io_uring", call(425, 1, ctypes.create_string_buffer(256)))
attempt("memfd", call(319 if x86 else 279, b"x", 0))
attempt("become root", lambda: os.setuid(0) if os.getuid() else mount())
if os.path.exists("/proc/self/status"):
    attempt("capabilities", rights)
if LANDLOCK:
    # Everybody's: whoever may make names there meets others, and leaves memory behind.
    attempt("memory with a name", lambda: os.close(os.open("/dev/shm/" + ABSTRACT, os.O_CREAT | os.O_RDWR)))
    # In a child: who leads a group cannot make another in any case.
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os._exit(1)
        except OSError:
            os._exit(0)
    print("session of its own %s" % ("held" if os.waitpid(child, 0)[1] == 0 else "through"))
