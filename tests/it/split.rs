//! Candidate and tests apart: what crosses, what cannot, and what no candidate gets by with.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use passk::jail::{Isolation, Jail, JailError, JailOptions, Limits, Python};
use passk::program::{Program, Tests};
use passk::verdict::Judgement;
use passk::verdict::Verdict::{self, Disputed, Passed, TimeoutCpu};

/// What the whole program and the parted one came to.
#[derive(Debug, PartialEq)]
enum End {
    /// Passed both ways.
    Same,
    /// Passed, and its tests need it beside them.
    Whole(&'static str),
    /// Passed with its tests only; apart from them it did this.
    Differs(Verdict, &'static str),
}
use End::{Differs, Same, Whole};

/// A jail at the best level that holds here.
fn jail() -> &'static Jail {
    static JAIL: OnceLock<Jail> = OnceLock::new();
    JAIL.get_or_init(|| {
        let python = Python::find().expect("the tests need Python 3.8 or newer");
        let at = |level| {
            let host = Some(env!("CARGO_BIN_EXE_passk").into());
            let options = JailOptions { isolation: Some(level), consent: true, host, ..JailOptions::default() };
            Jail::new(python.clone(), Limits::for_cpu(Duration::from_secs(10)), options)
        };
        let mut levels = [Isolation::Namespaces, Isolation::Landlock, Isolation::None].into_iter().map(at);
        let held = levels.find(|jail| !matches!(jail, Err(JailError::Level { .. })));
        held.expect("`none` holds everywhere").unwrap()
    })
}

fn run(prompt: &str, candidate: &str, tests: &str, entry_point: Option<&str>) -> Judgement {
    let tests =
        Tests::Code { text: tests.into(), entry_point: entry_point.map(str::to_owned), prompt: prompt.to_owned() };
    jail().run(&Program { candidate: format!("{prompt}{candidate}"), tests }).unwrap()
}

/// A function `f` and statements that test it, in `check` where `f` is called `c`.
#[track_caller]
fn check(candidate: &str, tests: &str, expected: End) {
    let body: String = tests.lines().map(|line| format!("    {line}\n")).collect();
    let judged = run("", candidate, &format!("def check(c):\n{body}\ncheck(f)"), Some("f"));
    hold(&judged, expected, candidate);
}

#[track_caller]
fn hold(judged: &Judgement, expected: End, candidate: &str) {
    match expected {
        Same => {
            assert_eq!((judged.verdict, &judged.in_process), (Passed, &None), "{candidate}\n{}", judged.detail);
        }
        Whole(why) => {
            assert_eq!(judged.verdict, Passed, "{candidate}\n{}", judged.detail);
            assert_eq!(judged.in_process.as_deref(), Some(why), "{candidate}");
        }
        Differs(verdict, why) => {
            assert_eq!((judged.verdict, judged.apart), (Disputed, Some(verdict)), "{candidate}\n{}", judged.detail);
            assert!(judged.detail.contains(why), "{candidate}\n`{}` lacks `{why}`", judged.detail);
        }
    }
}

#[test]
fn plain_values_cross_as_they_are() {
    let same = "def f(*a, **k):\n    return (a, k)\n";
    for value in [
        "None",
        "True",
        "-1",
        "2**63",
        "-2**200",
        "10**5000",
        "1.5",
        "-0.0",
        "float('-inf')",
        "'é\\ud800\\udc00\\0'",
        "''",
        "b'\\xff\\0'",
        "1j",
        "()",
        "(1, (2,))",
        "[]",
        "[[1], [2, []]]",
        "{1, 'a', None}",
        "frozenset({(1, 2)})",
        "set()",
        "{'a': {1: (None,)}, 2.5: b''}",
        "{(1, 2): [3]}",
        "[0] * 100000",
        "'x' * 1000000",
    ] {
        let tests = format!(
            "x = {value}\n(y,), k = c(x)\nassert y == x and type(y) is type(x) and repr(y) == repr(x)[:9] + repr(x)[9:]\n\
             assert c(1, k=x) == ((1,), {{'k': x}})"
        );
        let tests = match value {
            // Python refuses to print it.
            "10**5000" => "x = 10**5000\n(y,), k = c(x)\nassert y == x".to_owned(),
            _ => tests,
        };
        check(same, &tests, Same);
    }
    check(same, "x = c(float('nan'))[0][0]\nassert x != x", Same);
    check(
        same,
        "from fractions import Fraction\nassert c(Fraction(1, 3))[0] == (Fraction(1, 3),)\nassert c(int, [str])[0] == (int, [str])",
        Same,
    );
    check("from decimal import Decimal\ndef f():\n    return Decimal('1.50')", "assert c() == 1.5", Same);
}

/// Whoever returns one of these is right wherever its equal is.
#[test]
fn what_can_equal_a_plain_value_crosses_as_its_equal() {
    for (returned, tests) in [
        ("range(3)", "assert c() == range(3) and list(c()) == [0, 1, 2]"),
        ("bytearray(b'a')", "assert c() == b'a'"),
        ("collections.deque([1, [2]])", "import collections\nassert c() == collections.deque([1, [2]])"),
        ("{'b': 1, 'a': 2}.keys()", "assert c() == {'a', 'b'} and list(c()) == ['b', 'a']"),
        ("{'a': 1}.items()", "assert c() == {('a', 1)}"),
        ("{'a': 1}.values()", "assert list(c()) == [1]"),
        ("datetime.date(2020, 2, 29)", "import datetime\nassert c() == datetime.date(2020, 2, 29)"),
        ("datetime.datetime(2020, 2, 29, 1)", "import datetime\nassert c().hour == 1 and c().year == 2020"),
        ("datetime.timedelta(1, 2)", "import datetime\nassert c() == datetime.timedelta(1, 2)"),
        ("collections.namedtuple('P', 'x y')(1, 'b')", "assert c().y == 'b' and c() == (1, 'b')"),
    ] {
        check(&format!("import collections, datetime\ndef f():\n    return {returned}"), tests, Same);
    }
    let numbers = "try:\n    import numpy\n    make = numpy.int64\nexcept ImportError:\n    make = int\n";
    check(&format!("{numbers}def f(x):\n    return [make(x)]"), "assert c(3) == [3]", Same);
}

#[test]
fn two_things_of_the_candidate_s_are_compared_by_it() {
    let class = "class V:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, other):\n        return self.x == other.x\n    \
                 def __lt__(self, other):\n        return self.x < other.x\n    def __add__(self, other):\n        \
                 return V(self.x + other.x)\n    def __repr__(self):\n        return f'V({self.x})'\ndef f(x):\n    return V(x)";
    check(class, "assert c(1) == c(1) and c(1) < c(2) and sorted([c(2), c(1)])[0] == c(1)", Same);
    check(class, "assert c(1) + c(2) == c(3) and str(c(1)) == 'V(1)' and f'{c(2)!r}' == 'V(2)'", Same);
}

#[test]
fn what_is_shared_stays_shared() {
    check("def f(x):\n    return x", "x = [1]\nassert c(x) is x\nassert c([x, x])[0] is x", Same);
    check("def f():\n    row = [0]\n    return [row, row]", "x = c()\nx[0][0] = 1\nassert x == [[1], [1]]", Same);
    check("def f():\n    x = []\n    x.append(x)\n    return x", "x = c()\nassert x[0] is x and len(x) == 1", Same);
    check("def f(x):\n    x[0].append(x)", "x = [[]]\nassert c(x) is None\nassert x[0][0] is x", Same);
}

#[test]
fn what_is_changed_in_place_is_changed() {
    check("def f(x):\n    x.sort()", "x = [3, 1, 2]\nassert c(x) is None and x == [1, 2, 3]", Same);
    check(
        "def f(x):\n    x['b'] = x.pop('a')",
        "x = {'a': 1, 'c': 2}\nc(x)\nassert list(x.items()) == [('c', 2), ('b', 1)]",
        Same,
    );
    check("def f(x):\n    x.add(3)", "x = {1}\nc(x)\nassert x == {1, 3}", Same);
    check(
        "def f(*a, k):\n    a[0][1][0] = 5\n    k.clear()",
        "x, k = ([1], [2]), [3]\nc(x, k=k)\nassert x == ([1], [5]) and k == []",
        Same,
    );
    check(
        "def f(x):\n    x.append(1)\n    raise ValueError('no')",
        "x = []\ntry:\n    c(x)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'no' and x == [1]",
        Same,
    );
}

#[test]
fn exceptions_cross_by_name() {
    let raised = |what: &str, caught: &str| {
        let tests = format!("try:\n    c()\nexcept {caught}:\n    pass\nelse:\n    assert False");
        check(&format!("class Mine(KeyError):\n    pass\ndef f():\n    {what}"), &tests, Same);
    };
    for (what, caught) in [
        ("raise ValueError(1, 'a')", "ValueError as e:\n    assert e.args == (1, 'a')\nexcept ()"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise Mine('a')", "KeyError"),
        ("b'\\xff'.decode()", "UnicodeDecodeError as e:\n    assert e.reason == 'invalid start byte'\nexcept ()"),
        ("open('/nowhere/x')", "FileNotFoundError as e:\n    assert e.errno == 2\nexcept ()"),
        ("raise SystemExit(3)", "SystemExit as e:\n    assert e.code == 3\nexcept ()"),
        ("raise StopIteration", "StopIteration"),
        ("f()", "RecursionError"),
        ("raise ValueError(object())", "ValueError"),
    ] {
        raised(what, caught);
    }
}

#[test]
fn what_stays_is_asked_over_there() {
    check("def f(n):\n    yield from range(n)", "assert list(c(3)) == [0, 1, 2]\nassert sum(c(4)) == 6", Same);
    check(
        "def f(n):\n    return range(n)",
        "assert len(c(3)) == 3 and c(3)[1] == 1 and 2 in c(3) and sorted(c(2)) == [0, 1]",
        Same,
    );
    check(
        "class P:\n    def __init__(self, x):\n        self.x = x\n    def twice(self):\n        return 2 * self.x\ndef f(x):\n    return P(x)",
        "p = c(3)\nassert p.x == 3\np.x = 4\nassert p.twice() == 8 and p is not None",
        Same,
    );
    check("def f(n):\n    return lambda x: x + n", "assert c(2)(3) == 5", Same);
    check(
        "from collections import Counter, OrderedDict, defaultdict, namedtuple\nfrom enum import IntEnum\nE = IntEnum('E', 'A B')\nP = namedtuple('P', 'x y')\ndef f():\n    return [Counter('aab'), OrderedDict(a=1), defaultdict(list, b=[2]), P(1, 2), E.B]",
        "assert c() == [{'a': 2, 'b': 1}, {'a': 1}, {'b': [2]}, (1, 2), 2]",
        Same,
    );
    // Several of the candidate's names, and one that is asked for what it holds.
    let judged = run(
        "",
        "N = 7\nclass Node:\n    def __init__(self, v):\n        self.v, self.next = v, None\ndef total(n):\n    return n.v + (total(n.next) if n.next else 0)\n",
        "a = Node(1)\na.next = Node(2)\nassert total(a) == 3\nassert N == 7",
        None,
    );
    hold(&judged, Same, "names");
    let judged = run("", "def sum(a, b):\n    return a + b\n", "assert sum(1, 2) == 3", None);
    hold(&judged, Same, "a function named as a builtin");
}

#[test]
fn the_task_s_helpers_are_the_judge_s() {
    let prompt = "import math\n\ndef poly(xs, x):\n    return sum(c * math.pow(x, i) for i, c in enumerate(xs))\n\n\ndef zero(xs):\n    \"\"\"Where it is zero.\"\"\"\n";
    let tests = "def check(c):\n    assert math.fabs(poly([1, 2], c([1, 2]))) < 1e-4\ncheck(zero)";
    hold(&run(prompt, "    return -0.5\n", tests, Some("zero")), Same, "helper");
    let forged = "    return 1\n\ndef poly(xs, x):\n    return 0\n\nmath.fabs = lambda x: 0\n";
    hold(&run(prompt, forged, tests, Some("zero")), Differs(Verdict::WrongAnswer, "assert math.fabs"), "forged helper");
}

#[test]
fn what_cannot_cross_is_judged_whole() {
    check("def f(g, x):\n    return g(x)", "assert c(lambda x: x + 1, 1) == 2", Whole("an argument of type function"));
    check("def f(x):\n    return sum(x)", "assert c(i for i in range(3)) == 3", Whole("an argument of type generator"));
    check("def f(x):\n    return x.a", "class T:\n    a = 1\nassert c(T()) == 1", Whole("an argument of type T"));
    check(
        "def f(x):\n    return x['a']",
        "import collections\nassert c(collections.defaultdict(int)) == 0",
        Whole("an argument of type defaultdict"),
    );
    check(
        "def f(x):\n    return 1",
        "x = 0\nfor _ in range(500): x = [x]\nassert c(x) == 1",
        Whole("an argument with more than 200 values inside each other"),
    );
    check("def f(x):\n    return 1", "assert c('x' * (40 << 20)) == 1", Whole("an argument of more than 32 MiB"));
    check(
        "def f(x):\n    return x",
        "import inspect\nassert 'return' in inspect.getsource.__name__ or c(1) == 1",
        Whole("the tests use inspect"),
    );
    check(
        "def f():\n    print('x')",
        "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    c()\nassert out.getvalue() == 'x\\n'",
        Whole("the tests use redirect_stdout"),
    );
    check("def f():\n    return 1", "assert c.__name__ == 'f'", Whole("the tests use __name__"));
    check("def f():\n    return 1", "assert getattr(c, '__code__')", Whole("the tests read __code__"));
    check("'''Words.'''\ndef f():\n    return 1", "assert c() and __doc__ == 'Words.'", Whole("the tests use __doc__"));
    check(
        "from contextlib import contextmanager\n@contextmanager\ndef f():\n    yield 1",
        "with c() as x:\n    assert x == 1",
        Whole("the tests enter a context of the candidate's"),
    );
    check(
        "class E(Exception):\n    pass\ndef f():\n    raise E",
        "try:\n    c()\nexcept E:\n    pass",
        Whole("the tests catch E"),
    );
    check(
        "class P:\n    pass\ndef f():\n    return P()",
        "assert isinstance(c(), P)",
        Whole("the tests ask for a class of the candidate's"),
    );
}

#[test]
fn no_answer_is_believed_beyond_its_value() {
    let wrong = || Differs(Verdict::WrongAnswer, "assert c(1) == 2");
    let liar = "def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = None\n";
    for base in ["object", "int", "str", "list", "dict", "tuple", "set", "float", "bytes", "frozenset", "complex"] {
        check(&format!("class Lie({base}):\n    {liar}\ndef f(x):\n    return Lie()"), "assert c(1) == 2", wrong());
        check(
            &format!("class Lie({base}):\n    {liar}\ndef f(x):\n    return [Lie()]"),
            "assert c(1) == [2]",
            Differs(Verdict::WrongAnswer, ""),
        );
    }
    check(
        "import builtins\nbuiltins.abs = lambda x: 0\ndef abs(x): return 0\ndef f(x):\n    return x",
        "assert abs(c(1) - 2) < 1e-6",
        Differs(Verdict::WrongAnswer, ""),
    );
    check(
        "import sys\ndef f(x):\n    return 2 if 'check' in sys._getframe(1).f_code.co_name else 0",
        "assert c(1) == 2",
        wrong(),
    );
    // What a test expects is not handed to whoever would only have to say that it is close.
    check(
        "class Near(float):\n    def __sub__(self, other):\n        return 0\ndef f(x):\n    return Near(x)",
        "assert abs(c(1) - 2) < 1e-6",
        Differs(Verdict::WrongAnswer, ""),
    );
    for operator in ["__sub__", "__rsub__", "__lt__", "__mod__", "__contains__", "__xor__"] {
        check(
            &format!("class Yes:\n    def {operator}(self, other):\n        return True\ndef f(x):\n    return Yes()"),
            match operator {
                "__sub__" => "assert c(1) - 2",
                "__rsub__" => "assert 2 - c(1)",
                "__lt__" => "assert c(1) < 2",
                "__mod__" => "assert c(1) % 2",
                "__xor__" => "assert c(1) ^ 2",
                _ => "assert 2 in c(1)",
            },
            Differs(Verdict::Exception, "TypeError"),
        );
    }
    // Reads the right answer from the frame that asks, and where there is none, says so.
    check(
        "import sys\ndef f(x):\n    return max(k for k in sys._getframe(1).f_code.co_consts if type(k) is int)",
        "assert c(1) == 17",
        Differs(Verdict::WrongAnswer, "assert c(1) == 17"),
    );
    check("def f(x):\n    return 2 if 'check' in globals() else 0", "assert c(1) == 2", wrong());
}

#[test]
fn who_does_not_answer_is_heard_no_more() {
    // Each finds out by its globals that it is apart from its tests.
    let apart = |what: &str| {
        format!("import os, time\ndef f(x):\n    if 'check' not in globals():\n        {what}\n    return 2")
    };
    let end = |what: &str, verdict, why| check(&apart(what), "assert c(1) == 2", Differs(verdict, why));
    end("os._exit(0)", Verdict::EarlyExit, "ended before it had answered");
    end("os.kill(os.getpid(), 9)", Verdict::EarlyExit, "ended before it had answered");
    end("os.closerange(3, 64)", Verdict::EarlyExit, "");
    end("raise MemoryError", Verdict::MemoryLimit, "MemoryError");
    end("return 'x' * (33 << 20)", Verdict::Exception, "more than 32 MiB");
    end("x = 0\n        for _ in range(500): x = [x]\n        return x", Verdict::Exception, "more than 200 values");
    // Whatever stands on the socket is an answer or the end of the matter.
    for bytes in [
        "b'\\xff' * 64",
        "b'\\2\\0\\0\\0[]'",
        "b'\\0\\0\\0\\0'",
        "b'\\1\\0\\0\\0['",
        "(lambda t: len(t).to_bytes(4, 'little') + t)(b'[' * 200000)",
        "(lambda t: len(t).to_bytes(4, 'little') + t)(b'[\"is\",{\"a\":1},[]]')",
        "(lambda t: len(t).to_bytes(4, 'little') + t)(b'[\"is\",[\"a\",99],[]]')",
        "(lambda t: len(t).to_bytes(4, 'little') + t)(b'[\"is\",2,[[0,[1]],[7,[]]]]')",
        "(lambda t: len(t).to_bytes(4, 'little') + t)(b'[\"raises\",\"__import__\",[\"l\"],[]]')",
    ] {
        let write = format!(
            "for fd in range(4, 64):\n            try: os.write(fd, {bytes})\n            except OSError: pass"
        );
        let judged = run("", &apart(&write), "def check(c):\n    assert c(1) == 2\ncheck(f)", Some("f"));
        hold(&judged, Differs(Verdict::Exception, "its answer cannot be read"), bytes);
    }
}

#[test]
fn a_candidate_has_its_time_and_no_more() {
    let limits = Limits { wall: Duration::from_secs(20), ..Limits::for_cpu(Duration::from_secs(1)) };
    let tests = Tests::Code { text: "assert f(1) == 2".into(), entry_point: None, prompt: String::new() };
    let candidate =
        "import sys\ndef f(x):\n    while sys._getframe(1).f_code.co_name != '<module>': pass\n    return 2";
    let judged = jail().run_within(&Program { candidate: candidate.into(), tests }, &limits).unwrap();
    assert_eq!((judged.verdict, judged.apart), (Disputed, Some(TimeoutCpu)), "{}", judged.detail);
    assert!(judged.timed_out(), "it is tried once more alone");
}

#[test]
fn what_may_be_larger_than_usual_is_not_copied() {
    let tests = Tests::Code { text: "assert len(f(20)) == 20 << 20".into(), entry_point: None, prompt: String::new() };
    let program = Program { candidate: "def f(x):\n    return [x] * (x << 20)".into(), tests };
    let judged = jail().run(&program).unwrap();
    assert_eq!((judged.verdict, judged.in_process), (Disputed, None), "more than a frame has");
    let large = Limits { memory_bytes: 2 << 30, ..Limits::for_cpu(Duration::from_secs(5)) };
    let judged = jail().run_within(&program, &large).unwrap();
    assert_eq!(judged.verdict, Passed, "{}", judged.detail);
    assert!(judged.in_process.unwrap().contains("2048 MiB"));
}

#[test]
fn without_it_a_pass_is_believed() {
    let options =
        JailOptions { isolation: Some(Isolation::None), consent: true, split: false, ..JailOptions::default() };
    let jail = Jail::new(Python::find().unwrap(), Limits::for_cpu(Duration::from_secs(5)), options).unwrap();
    let tests = Tests::Code { text: "assert f(1) == 2".into(), entry_point: None, prompt: String::new() };
    let candidate = "class Lie:\n    __eq__ = lambda *_: True\ndef f(x):\n    return Lie()".into();
    assert_eq!(jail.run(&Program { candidate, tests }).unwrap().verdict, Passed);
}

/// Ten thousand damaged frames, and what is built of them is of plain types or is not built.
#[test]
fn damaged_frames_build_nothing_else() {
    let split = include_str!("../../src/jail/split.py");
    let script = [split, include_str!("split.py")].concat();
    let mut python = Command::new(Python::find().unwrap().path);
    let done = python.args(["-c", &script, "7", "10000"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let built: u32 = said.trim().parse().unwrap();
    assert!((500..9500).contains(&built), "damage that is never noticed, or always, tries nothing: {built}");
}
