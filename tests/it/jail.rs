//! The jail against programs: benign ones, which must pass, and hostile ones, which must not, and must leave nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use passk::jail::{Isolation, Jail, JailError, JailOptions, Limits, Python};
use passk::program::{Program, StdioTest, Tests};
use passk::verdict::Judgement;
use passk::verdict::Verdict::{self, *};

/// A name, a program, and the verdicts that are right; more than one where versions of Python differ.
type Case = (&'static str, &'static str, &'static [Verdict]);

#[rustfmt::skip]
const BENIGN: &[Case] = &[
    ("empty", "", &[Passed]),
    ("solution and tests", "def f(x):\n    return x + 1\n\ndef check(c):\n    assert c(1) == 2\n\ncheck(f)", &[Passed]),
    ("prints", "print('x' * 10_000)\nimport sys\nprint('y' * 10_000, file=sys.stderr)", &[Passed]),
    ("crlf", "def f():\r\n    return 1\r\nassert f() == 1\r\n", &[Passed]),
    ("unicode", "größe = 'naïve – 日本 🐍'\nprint(größe)\nassert len(größe) == 12", &[Passed]),
    ("form feed and odd line ends", "x = 1\x0c\ny = 'a\u{2028}b'\nassert len(y) == 3", &[Passed]),
    ("random is seeded", "import random\nassert [random.randrange(100) for _ in range(3)] == [49, 97, 53]", &[Passed]),
    ("hashes are seeded", "import os, subprocess, sys\nchild = subprocess.run([sys.executable, '-c', 'print(hash(\"a\"))'], capture_output=True, text=True)\nassert int(child.stdout) == hash('a')", &[Passed]),
    ("threads", "import threading\nout = []\nthreads = [threading.Thread(target=out.append, args=(i,)) for i in range(60)]\nfor t in threads: t.start()\nfor t in threads: t.join()\nassert sorted(out) == list(range(60))", &[Passed]),
    ("a thread that never ends", "import threading\nthreading.Thread(target=threading.Event().wait).start()", &[Passed]),
    ("thread pool", "from concurrent.futures import ThreadPoolExecutor\nassert list(ThreadPoolExecutor(4).map(abs, [-1, -2])) == [1, 2]", &[Passed]),
    ("subprocess", "import subprocess, sys\nassert subprocess.check_output([sys.executable, '-c', 'print(1 + 1)']) == b'2\\n'", &[Passed]),
    ("shell", "import os, subprocess\nassert subprocess.check_output('echo $TZ', shell=True) == b'UTC\\n'\nassert os.system('true') == 0", &[Passed]),
    ("fork", "import os\npid = os.fork()\nif pid == 0:\n    os._exit(7)\nassert os.waitpid(pid, 0)[1] == 7 << 8", &[Passed]),
    ("fork and go on in both", "import os\nos.fork()", &[Passed]),
    ("multiprocessing", "import multiprocessing as mp\nctx = mp.get_context('fork')\nqueue = ctx.Queue()\nchild = ctx.Process(target=queue.put, args=(5,))\nchild.start()\nassert queue.get() == 5\nchild.join()", &[Passed]),
    ("pool", "import multiprocessing as mp\ndef f(x): return x * x\nwith mp.get_context('fork').Pool(2) as pool:\n    assert pool.map(f, range(5)) == [0, 1, 4, 9, 16]", &[Passed]),
    ("pool that is not closed", "import multiprocessing as mp\npool = mp.get_context('fork').Pool(2)\nassert pool.map(abs, [-1]) == [1]", &[Passed]),
    ("shared memory", "from multiprocessing import shared_memory\nblock = shared_memory.SharedMemory(create=True, size=64)\nblock.buf[0] = 1\nblock.close()\nblock.unlink()", &[Passed]),
    ("asyncio", "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 3\nassert asyncio.run(f()) == 3", &[Passed]),
    ("dataclasses", "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar, List, get_type_hints\n@dataclass\nclass P:\n    x: int\n    seen: ClassVar[List[int]] = []\nassert P(1) == P(1) and get_type_hints(P)['x'] is int", &[Passed]),
    ("pickle", "import pickle, collections, enum\nP = collections.namedtuple('P', 'x')\nclass E(enum.Enum):\n    A = 1\nassert pickle.loads(pickle.dumps([P(1), E.A])) == [P(1), E.A]", &[Passed]),
    ("main guard is silent", "if __name__ == '__main__':\n    raise ValueError\nassert __name__ == 'candidate'", &[Passed]),
    ("deep recursion", "import sys\nsys.setrecursionlimit(6000)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nassert f(5000) == 5000", &[Passed]),
    ("memory within the limit", "assert len(bytearray(200 << 20)) == 200 << 20", &[Passed]),
    ("files of its own", "import os, tempfile\nopen('a', 'w').write('x')\nassert open('a').read() == 'x'\nassert tempfile.gettempdir() == os.getcwd() == os.path.expanduser('~')", &[Passed]),
    ("shadowing file", "open('json.py', 'w').write('raise ValueError')\nimport json", &[Passed]),
    ("environment", "import os\nassert set(os.environ) == {'LANG', 'TZ', 'PYTHONHASHSEED', 'OMP_NUM_THREADS', 'MALLOC_ARENA_MAX', 'HOME', 'TMPDIR'}, os.environ\nassert os.umask(0) == 0o077", &[Passed]),
    ("descriptors", "import os\nopened = [fd for fd in range(200) if os.path.exists(f'/dev/fd/{fd}')]\nassert opened in ([0, 1, 2, 3], [0, 1, 2, 3, 4]), opened", &[Passed]),
    ("own session", "import os\nassert os.getsid(0) == os.getpgid(0) == os.getpid()", &[Passed]),
    ("ends with open streams closed", "import sys\nsys.stdout.close()\nsys.stderr.close()", &[Passed]),
    ("stdin is empty", "import sys\nassert sys.stdin.read() == ''", &[Passed]),
    ("exit is there", "assert callable(exit) and callable(quit)", &[Passed]),
    ("own alarm", "import signal, time\ndef ring(*_): raise TimeoutError\nsignal.signal(signal.SIGALRM, ring)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\ntry:\n    time.sleep(20)\n    assert False\nexcept TimeoutError:\n    pass", &[Passed]),
    ("folder without permissions", "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a/b', 0)\nos.chmod('a', 0)\nos.chmod('.', 0)", &[Passed]),
    ("folder removed by itself", "import os\nos.rmdir(os.getcwd())", &[Passed]),
    ("child without pipes", "import subprocess\nsubprocess.Popen(['sleep', '20'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)", &[Passed]),
];

#[rustfmt::skip]
const HOSTILE: &[Case] = &[
    // wrong, and says so
    ("wrong answer", "assert 1 + 1 == 3", &[WrongAnswer]),
    ("patched AssertionError", "import builtins\nclass E(Exception): pass\nbuiltins.AssertionError = E\nassert False", &[WrongAnswer, Exception]),
    ("patched builtins", "import builtins\nfor name in ('str', 'type', 'isinstance', 'issubclass', 'BaseException'):\n    setattr(builtins, name, None)\nassert False", &[WrongAnswer]),
    ("exception", "1 / 0", &[Exception]),
    ("unicode message", "raise ValueError('\\ud800 ä \\x00 \\n\\n 日本')", &[Exception]),
    ("message that raises", "class E(BaseException):\n    def __str__(self): raise self\n    __repr__ = __str__\nraise E", &[Exception]),
    ("message that leaves", "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\nraise E", &[EarlyExit]),
    ("keyboard interrupt", "raise KeyboardInterrupt", &[Exception]),
    ("recursion without end", "def f(): f()\nf()", &[Exception]),
    ("recursion limit lifted", "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f([x])]\nf(0)", &[MemoryLimit, Signal, TimeoutCpu]),
    ("input", "input()", &[Exception]),
    // does not compile
    ("syntax error", "def f(:", &[SyntaxError]),
    ("indentation error", "def f():\nreturn 1", &[SyntaxError]),
    ("nul byte", "x = 1\0", &[SyntaxError]),
    ("parentheses", "PARENTHESES", &[SyntaxError]),
    ("half a fence", "```python\nx = 1", &[SyntaxError]),
    ("return at the top", "return 1", &[SyntaxError]),
    // leaves before its tests
    ("exit", "exit(0)", &[EarlyExit]),
    ("sys.exit", "import sys\nsys.exit()", &[EarlyExit]),
    ("os._exit", "import os\nos._exit(0)", &[EarlyExit]),
    ("SystemExit in the call", "def f(): raise SystemExit(0)\nf()", &[EarlyExit]),
    ("exit handler", "import atexit, os\natexit.register(os._exit, 0)\nassert False", &[WrongAnswer]),
    ("exec of something else", "import os\nos.execv('/bin/sh', ['sh', '-c', 'exit 0'])", &[EarlyExit]),
    ("all descriptors closed", "import os\nos.closerange(0, 256)", &[EarlyExit]),
    // processor time
    ("busy loop", "while True: pass", &[TimeoutCpu]),
    ("busy loop that ignores the limit", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", &[TimeoutCpu]),
    ("busy loop that catches the limit", "import signal\ndef late(*_): raise ValueError\nsignal.signal(signal.SIGXCPU, late)\ntry:\n    while True: pass\nexcept ValueError: pass", &[TimeoutCpu]),
    ("too late, but passing", "import time\nwhile time.process_time() < 1.02: pass", &[TimeoutCpu]),
    ("huge power", "x = 9 ** 9 ** 9", &[TimeoutCpu, MemoryLimit]),
    // printing and files
    ("stdout flood", "while True: print('x' * 1000)", &[OutputLimit]),
    ("stderr flood", "import os\nwhile True: os.write(2, b'x' * 1000)", &[OutputLimit]),
    ("one endless line", "import sys\nwhile True: sys.stdout.write('x')", &[OutputLimit]),
    ("flood by a child", "import subprocess\nsubprocess.run(['sh', '-c', 'while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done'])", &[OutputLimit]),
    ("file flood", "with open('a', 'wb') as f:\n    while True: f.write(b'x' * 65536)", &[OutputLimit]),
    ("file flood with the signal on", "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nwith open('a', 'wb') as f:\n    while True: f.write(b'x' * 65536)", &[OutputLimit]),
    // memory and processes; children end by themselves, so that a broken jail is a failed test and not a fork bomb
    ("list growth", "x = []\nwhile True: x.append(bytearray(1 << 20))", &[MemoryLimit]),
    ("many small objects", "x = None\nwhile True: x = [x, bytes(9000)]", &[MemoryLimit]),
    ("huge block", "bytearray(1 << 40)", &[MemoryLimit]),
    ("many children", "import os, time\nfor _ in range(40):\n    if os.fork() == 0:\n        time.sleep(20)\n        os._exit(0)\ntime.sleep(20)", &[ProcessLimit]),
    ("many threads", "import threading, time\nthreading.stack_size(65536)\nfor _ in range(40): threading.Thread(target=time.sleep, args=(20,)).start()\ntime.sleep(20)", &[ProcessLimit]),
    // signals
    ("kills itself", "import os\nos.kill(os.getpid(), 9)", &[Signal]),
    ("kills its group", "import os\nos.kill(0, 9)", &[Signal]),
    ("aborts", "import os\nos.abort()", &[Signal]),
    ("crashes", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", &[Signal]),
    // leaves something behind, or forges
    ("children that sleep", "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(20)\n        os._exit(0)", &[Violation]),
    ("child that holds stdout", "import subprocess\nsubprocess.Popen(['sleep', '20'])", &[Violation]),
    ("daemon that holds stdout", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        note(os.getpid())\n        time.sleep(20)\n    os._exit(0)\nos.wait()\ntime.sleep(0.2)", &[Violation]),
    ("passed on every descriptor", "import os\nfor fd in range(21):\n    try: os.write(fd, b'passed\\n')\n    except OSError: pass", &[Violation]),
    ("passed on every descriptor, and gone", "import os\nfor fd in range(21):\n    try: os.write(fd, b'begun\\n00 passed \\n')\n    except OSError: pass\nos._exit(0)", &[Violation]),
    ("flood of the report pipe", "import os\nwhile True: os.write(3, b'x' * 1000)", &[Violation]),
    ("two reports", "import os, sys\nframe = sys._getframe()\nwhile 'nonce' not in frame.f_locals: frame = frame.f_back\nos.write(3, frame.f_locals['nonce'] + b' passed \\n')", &[Violation]),
];

/// Programs that wait for the end of their wall time.
#[rustfmt::skip]
const WAITING: &[Case] = &[
    ("sleep", "import time\ntime.sleep(60)", &[TimeoutWall]),
    ("sleep that ignores signals", "import signal, time\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n    signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)", &[TimeoutWall]),
    ("deadlock", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", &[TimeoutWall]),
    ("stops itself", "import os, signal\nos.kill(0, signal.SIGSTOP)", &[TimeoutWall]),
    ("sleep with descriptors closed", "import os, time\nos.closerange(0, 256)\ntime.sleep(60)", &[TimeoutWall]),
];

fn python() -> Python {
    Python::find().expect("the tests need Python 3.8 or newer")
}

/// For benign programs on a box that has other things to do.
fn generous() -> Limits {
    Limits::for_cpu(Duration::from_secs(20))
}

/// For programs that are going to reach them, but for the wall: a second of processor time may take long.
fn tight() -> Limits {
    Limits {
        cpu: Duration::from_secs(1),
        wall: Duration::from_secs(30),
        memory_bytes: 256 << 20,
        output_bytes: 64 << 10,
        file_bytes: 1 << 20,
        processes: 32,
    }
}

/// Without a host: this is the way of other systems than Linux. The corpus has the supervisor's.
fn options() -> JailOptions {
    JailOptions { isolation: Some(Isolation::None), consent: true, ..JailOptions::default() }
}

/// A program with its tests inside.
fn program(text: impl Into<String>) -> Program {
    Program {
        candidate: text.into(),
        tests: Tests::Code { text: String::new(), entry_point: None, prompt: String::new() },
    }
}

fn jail(limits: Limits) -> Jail {
    Jail::new(python(), limits, options()).expect("an empty program passes")
}

/// Calls `work` for each item, on so many threads; panics in it are failures of the test.
fn for_each<T: Sync>(threads: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// The processes of a group that are alive.
fn alive(group: i32) -> BTreeSet<i32> {
    let members = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (head, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let gone = matches!(fields[0], "Z" | "X");
        (!gone && fields[2] == group.to_string()).then(|| head.split(' ').next()?.parse().ok())?
    });
    members.collect()
}

/// Runs a case and says what is wrong with what came of it, and with what it left.
fn faults(jail: &Jail, notes: &Path, (name, source, expected): &Case) -> Vec<String> {
    let source = match *source {
        "PARENTHESES" => format!("x = {}{}", "(".repeat(100_000), ")".repeat(100_000)),
        source => source.to_owned(),
    };
    // Each program notes its number and its folder, on its first line: a `__future__` import may still follow.
    let note = notes.join(name);
    let source = if source.starts_with("from __future__") {
        source
    } else {
        let path = note.display();
        format!(
            "import os; note = lambda *a: print(*a, file=open({:?}, 'a')); note(os.getpid(), os.getcwd()); del os\n{source}",
            path.to_string()
        )
    };
    let begun = Instant::now();
    let judged = jail.run(&program(source));
    let elapsed = begun.elapsed();

    let mut faults = Vec::new();
    match judged {
        Err(error) => faults.push(format!("{name}: {error}")),
        Ok(judged) if !expected.contains(&judged.verdict) => {
            faults.push(format!("{name}: {}: {}", judged.verdict, judged.detail));
        }
        Ok(_) => {}
    }
    if elapsed > jail.limits().wall + Duration::from_secs(2) {
        faults.push(format!("{name}: took {elapsed:?}"));
    }
    let noted = fs::read_to_string(note).unwrap_or_default();
    let mut lines = noted.lines();
    if let Some((group, folder)) = lines.next().and_then(|line| line.split_once(' ')) {
        let group = group.parse().expect("a process id");
        let mut left = alive(group);
        for _ in 0..50 {
            if left.is_empty() {
                break; // the killed need a moment on a busy box
            }
            thread::sleep(Duration::from_millis(20));
            left = alive(group);
        }
        if !left.is_empty() {
            faults.push(format!("{name}: left processes {left:?}"));
        }
        if Path::new(folder).exists() {
            faults.push(format!("{name}: left its folder {folder}"));
        }
    }
    lines.for_each(end);
    faults
}

/// Ends a daemon that noted its number.
fn end(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().expect("a process id"));
    let _ = rustix::process::kill_process(pid.expect("not 0"), rustix::process::Signal::KILL);
}

#[track_caller]
fn check_all(limits: Limits, cases: &[Case]) {
    let names: BTreeSet<&str> = cases.iter().map(|case| case.0).collect();
    assert_eq!(names.len(), cases.len(), "names are used once");
    let jail = jail(limits);
    let notes = tempfile::tempdir().expect("a temporary folder");
    let all = Mutex::new(Vec::new());
    for_each(2, cases, |case| {
        let faults = faults(&jail, notes.path(), case);
        all.lock().expect("no panic holds it").extend(faults);
    });
    let all = all.into_inner().expect("no panic held it");
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn benign_programs_pass() {
    check_all(generous(), BENIGN);
}

#[test]
fn hostile_programs_do_not_pass_and_leave_nothing() {
    check_all(tight(), HOSTILE);
}

#[test]
fn waiting_programs_are_ended() {
    check_all(Limits { wall: Duration::from_secs(3), ..tight() }, WAITING);
}

/// What [`Isolation::None`] cannot see: the verdict is not asserted, for it is wrong.
#[test]
fn a_daemon_that_lets_go_of_everything_holds_nobody_up() {
    let jail = jail(tight());
    assert_eq!(jail.isolation(), Isolation::None);
    assert_eq!(jail.isolation().to_string(), "none");
    let notes = tempfile::tempdir().unwrap();
    let source = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.closerange(0, 256)\n    note(os.getpid())\n    time.sleep(20)\n    os._exit(0)\ntime.sleep(0.3)";
    let faults = faults(&jail, notes.path(), &("daemon", source, &Verdict::ALL));
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn details_say_what_went_wrong() {
    let jail = jail(generous());
    #[rustfmt::skip]
    let cases = [
        ("", Passed, ""),
        ("def check(f):\n    assert f(1) == 1\n    assert f(2) == 5\n\ncheck(lambda x: 1)", WrongAnswer, "assert f(2) == 5"),
        ("assert 1 == 2, 'good for debugging!'", WrongAnswer, "assert 1 == 2, 'good for debugging!'"),
        ("x = 3\nassert x == 2, f'got {x}'", WrongAnswer, "assert x == 2, f'got {x}': got 3"),
        ("import unittest\nunittest.TestCase().assertEqual(1, 2)", WrongAnswer, "AssertionError: 1 != 2"),
        ("raise AssertionError", WrongAnswer, "AssertionError"),
        ("1 / 0", Exception, "ZeroDivisionError: division by zero"),
        ("raise ValueError('\\n\\nfirst\\nsecond')", Exception, "ValueError: first"),
        ("raise ValueError(object())", Exception, "ValueError: <object object at 0x…>"),
        ("open('nothing')", Exception, "FileNotFoundError: [Errno 2] No such file or directory: 'nothing'"),
        ("import os\nraise ValueError(os.getcwd() + '/a')", Exception, "ValueError: <folder>/a"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", Exception, "E: (its message cannot be read)"),
        ("x = [1]\nx[1]", Exception, "IndexError: list index out of range"),
        ("exit(3)", EarlyExit, "SystemExit: 3"),
        ("import os\nos._exit(3)", EarlyExit, "ended without a report, exit status 3"),
        ("import os\nos.abort()", Signal, "ended by SIGABRT (6)"),
        ("raise MemoryError", MemoryLimit, "MemoryError"),
        ("raise OSError(27, 'File too large')", OutputLimit, "OSError: [Errno 27] File too large"),
    ];
    for (source, verdict, detail) in cases {
        let judged = jail.run(&program(source)).unwrap();
        assert_eq!((judged.verdict, judged.detail.as_str()), (verdict, detail), "{source}");
    }
}

#[test]
fn the_same_program_is_judged_the_same() {
    let jail = jail(generous());
    let source = "import os, random\nclass C: pass\nraise ValueError(C(), os.getcwd(), random.random(), set('abcdefgh'), hash('x'), open('f', 'w').fileno())";
    let program = program(source);
    let first = jail.run(&program).unwrap();
    assert_eq!(first.verdict, Exception);
    for _ in 0..3 {
        let again = jail.run(&program).unwrap();
        assert_eq!((again.verdict, &again.detail), (first.verdict, &first.detail));
    }
}

#[test]
fn programs_that_run_at_once_do_not_disturb_each_other() {
    let jail = jail(generous());
    let numbers: Vec<usize> = (0..16).collect();
    for_each(4, &numbers, |number| {
        // Every other one ends its whole group while its neighbours run.
        let end = if number % 2 == 0 { "" } else { "import os; os.kill(0, 9)" };
        let source = format!(
            "import os, time\nassert os.listdir() == []\nopen('mine', 'w').write('{number}')\ntime.sleep(0.1)\n\
             assert open('mine').read() == '{number}'\n{end}"
        );
        let judged = jail.run(&program(source)).unwrap();
        let expected = if number % 2 == 0 { Passed } else { Signal };
        assert_eq!(judged.verdict, expected, "{number}: {}", judged.detail);
    });
}

#[test]
fn the_best_level_that_holds_is_taken_and_none_never() {
    let host = Some(env!("CARGO_BIN_EXE_passk").into());
    match Jail::new(python(), generous(), JailOptions { host, ..JailOptions::default() }) {
        Ok(jail) => {
            assert!(jail.isolation() > Isolation::None);
            assert_eq!(jail.start().to_string(), "warm");
            assert!(jail.report().holds && jail.report().missing.is_empty(), "{:?}", jail.report());
            let judged = jail.run(&program("import os\nassert os.getppid() == 0 or os.listdir('/proc')")).unwrap();
            assert_eq!(judged.verdict, Passed, "{}", judged.detail);
        }
        Err(error) => {
            assert!(matches!(error, JailError::Nothing(_)), "{error:?}");
            assert!(error.to_string().contains("--i-understand-that-generated-code-runs-as-me"), "{error}");
        }
    }
    // This program hosts no supervisor: nothing can hold, and nobody has agreed to that.
    let error = Jail::new(python(), generous(), JailOptions::default()).unwrap_err();
    assert!(matches!(error, JailError::Nothing(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("passk::jail::host") && text.contains("PASSK_ISOLATION=none"), "{text}");
    let none = JailOptions { isolation: Some(Isolation::None), ..JailOptions::default() };
    assert!(matches!(Jail::new(python(), generous(), none), Err(JailError::NoConsent)));
}

#[test]
fn no_interpreter_is_an_error_with_a_remedy() {
    for command in ["/nowhere/python3", "no-such-python", "true", "false"] {
        let error = Python::at(command.as_ref()).unwrap_err();
        assert!(matches!(error, JailError::NoPython { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(command) && text.contains("PASSK_PYTHON"), "{text}");
    }
}

#[test]
fn an_old_interpreter_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let command = folder.path().join("python3");
    fs::write(&command, "#!/bin/sh\nprintf '/usr/bin/python3\\n3.7.9\\n'\n").unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    // A process that another test is just forking may hold the file open for a moment.
    let text = loop {
        let text = Python::at(command.as_os_str()).unwrap_err().to_string();
        if !text.contains("busy") {
            break text;
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(
        text,
        "python `/usr/bin/python3` is version 3.7.9, but 3.8 or newer is needed; set PASSK_PYTHON to a newer one"
    );
}

#[test]
fn an_interpreter_that_dies_before_the_program_is_no_verdict() {
    let path = "/bin/false".into();
    let python = Python { path, version: "3.8.0".into(), folders: Vec::new(), packages: Vec::new() };
    let error = Jail::new(python, generous(), options()).unwrap_err();
    assert!(matches!(error, JailError::NotBegun { .. }), "{error:?}");
    assert!(error.to_string().contains("exit status: 1"), "{error}");
}

#[test]
fn limits_under_which_nothing_starts_are_no_verdict() {
    let error = Jail::new(python(), Limits { memory_bytes: 1 << 20, ..generous() }, options()).unwrap_err();
    assert!(matches!(error, JailError::Start { .. } | JailError::NotBegun { .. }), "{error:?}");
}

/// Judges `candidate` by (input, output) pairs.
fn judge_output(jail: &Jail, candidate: &str, tests: &[(&str, &str)]) -> Judgement {
    let test = |&(input, output): &(&str, &str)| StdioTest { input: input.into(), output: output.into() };
    let tests = Tests::Stdio(tests.iter().map(test).collect());
    jail.run(&Program { candidate: candidate.into(), tests }).unwrap()
}

#[test]
fn programs_are_judged_by_what_they_print() {
    let jail = jail(tight());
    const SUMS: &[(&str, &str)] = &[("1 2\n", "3\n"), ("2 3\n", "5\n"), ("5 5\n", "10\n"), ("0 0\n", "0\n")];
    #[rustfmt::skip]
    let cases = [
        ("print(sum(map(int, input().split())))", Passed, 1.0, ""),
        ("import sys\nsys.stdout.write(str(sum(map(int, sys.stdin.read().split()))))", Passed, 1.0, ""),
        ("import os\nos.write(1, b'%d' % sum(map(int, os.read(0, 99).split())))", Passed, 1.0, ""),
        ("if __name__ == '__main__':\n    print(sum(map(int, open(0).read().split())))", Passed, 1.0, ""),
        ("print(sum(map(int, input().split())))\nexit()", Passed, 1.0, ""),
        ("import os\nprint(sum(map(int, input().split())), flush=True)\nos._exit(0)", Passed, 1.0, ""),
        ("from dataclasses import dataclass\nimport pickle\n@dataclass\nclass P:\n    x: int\nassert pickle.loads(pickle.dumps(P(1))) == P(1)\nprint(sum(map(int, input().split())))", Passed, 1.0, ""),
        ("a, b = map(int, input().split())\nprint(a * b)", WrongAnswer, 0.25, "test 1 of 4: token 1 is `2`, expected `3`"),
        ("a, b = map(int, input().split())\nprint(a + b if a < 5 else 0)", WrongAnswer, 0.75, "test 3 of 4: token 1 is `0`, expected `10`"),
        ("print(sum(map(int, input().split())), end=chr(0))", WrongAnswer, 0.0, "test 1 of 4: token 1 is `3\\0`, expected `3`"),
        ("", WrongAnswer, 0.0, "test 1 of 4: the output ends before token 1, expected `3`"),
        ("print(3)\nraise SystemExit(1)", Exception, 0.0, "test 1 of 4: SystemExit: 1"),
        ("print(6 // int(input().split()[0]) - 3)\ninput()", Exception, 0.0, "test 1 of 4: EOFError: EOF when reading a line"),
        ("print(3\n", SyntaxError, 0.0, "SyntaxError: '(' was never closed (<candidate>, line 1)"),
        ("print(3)\nwhile True: pass", TimeoutCpu, 0.0, "test 1 of 4: used its 1 s of processor time"),
        ("while True: print(3)", OutputLimit, 0.0, "test 1 of 4: printed more than 65556 bytes"),
    ];
    for (candidate, verdict, partial, detail) in cases {
        let judged = judge_output(&jail, candidate, SUMS);
        assert_eq!((judged.verdict, judged.partial), (verdict, Some(partial)), "{candidate}: {}", judged.detail);
        let wording_of_python = verdict == SyntaxError || judged.detail.starts_with("test 1 of 4: printed");
        assert!(wording_of_python || judged.detail == detail, "{candidate}: {}", judged.detail);
    }
}

#[test]
fn outputs_may_be_long_and_inputs_too() {
    let jail = jail(tight());
    let numbers: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let judged = judge_output(&jail, "import sys\nprint(sys.stdin.read())", &[(&numbers, &numbers)]);
    assert_eq!(judged.verdict, Passed, "{}", judged.detail);
}

#[test]
fn expected_output_is_nowhere_in_the_program() {
    let jail = jail(tight());
    let secret = "7349a3e1";
    let look = "import gc, os, sys\nseen = repr(gc.get_objects()) + repr(sys._getframe().f_globals)\nframe = sys._getframe()\nwhile frame:\n    seen += repr(frame.f_locals)\n    frame = frame.f_back\nfor fd in os.listdir('/proc/self/fd'):\n    try:\n        os.lseek(int(fd), 0, 0)\n        seen += repr(os.read(int(fd), 1 << 20))\n    except OSError: pass\nprint('7349' + 'a3e1' in seen.replace(\"'7349' + 'a3e1'\", ''))";
    let judged = judge_output(&jail, look, &[("", secret)]);
    assert_eq!(judged.detail, format!("test 1 of 1: token 1 is `False`, expected `{secret}`"));
}

#[test]
fn no_more_runs_than_needed() {
    let jail = jail(tight());
    let notes = tempfile::tempdir().unwrap();
    let note = notes.path().join("runs");
    let noting = |rest: &str| format!("print('x', file=open({:?}, 'a'))\n{rest}", note.display().to_string());
    let runs = || fs::read_to_string(&note).unwrap_or_default().lines().count();
    // Equal inputs are run once, though their outputs may be told apart.
    let judged = judge_output(&jail, &noting("print(input())"), &[("1", "1"), ("1", "1"), ("1", "2"), ("2", "2")]);
    assert_eq!((runs(), judged.partial), (2, Some(0.75)));
    // A program that never ends is ended three times, not a hundred.
    let tests: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let tests: Vec<(&str, &str)> = tests.iter().map(|number| (number.as_str(), number.as_str())).collect();
    let judged = judge_output(&jail, &noting("number = int(input())\nprint(number)\nwhile number > 4: pass"), &tests);
    assert_eq!((judged.verdict, runs(), judged.partial), (TimeoutCpu, 2 + 5 + 3, Some(0.05)));
}
