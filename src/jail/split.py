# Executed before runner.py, in one text with it, where a pass is judged again with candidate and tests apart: the judge
# has the tests and asks, the candidate's interpreter answers. Between them go frames of JSON over a socket: 4 bytes of
# length, then
#
#     questions   ["names", [...]]   ["call", n, [args, pairs]]   ["get", n, name]   ["set", n, name, [value]]
#                 [one of ONE, n]   ["item", n, [key]]
#                 ["two", n, operator, [other]], where the other stays there too
#     answers     ["is", value, changes]   ["raises", name, args, changes]   ["no", why]
#
# Values are None, bool, int, float and str as they are, and a list with a tag for the rest: "l" list, "t" tuple, "d" dict
# (keys and values in turn), "e" set, "f" frozenset, "b" bytes, "c" complex, "i" large int, "q" Fraction, "m" Decimal,
# "y" a builtin class, "o" something of the standard library that can be equal to what tests hold (MADE),
# "h" something that stays where it is, known by a number, "r" a list, dict or set of this frame met before, "a" one of the
# question's, which is how an argument comes back as itself. `changes` has the new contents of the question's lists,
# dicts and sets that are not as they were.
#
# The judge builds values of exactly these types and nothing else, whatever the frame says; what it cannot read ends it.
# Nothing is ever compared over there but two things that stay there: to all else they are unequal. So no value that a
# test expects reaches the candidate, and none of its answers is more than a value.

import builtins, operator

# What the candidate makes of the builtins is its own affair: whatever is defined from here on has others.
__builtins__ = dict(vars(builtins))


class split:
    import builtins, json, posix, sys

    MOST_BYTES = 32 << 20
    MOST_DEPTH = 200
    LARGE = 1 << 63
    PLAIN = frozenset((type(None), bool, int, float, str))
    SIMPLE = PLAIN - {int}
    CLASSES = {
        name: value for name, value in vars(builtins).items() if isinstance(value, type) and value.__name__ == name
    }
    ERRORS = {name: value for name, value in CLASSES.items() if issubclass(value, BaseException)}
    ONE = {name: vars(builtins)[name] for name in "iter next len bool str repr".split()}
    TWO = {
        name: getattr(operator, "__%s__" % name)
        for name in "eq ne lt le gt ge add sub mul truediv floordiv mod matmul and or xor".split()
    }
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    class Uncrossable(Exception):
        """A value that no frame can hold."""

    class Broken(Exception):
        """A frame that is none."""

    def pack(value, seen, fit, depth=0):
        """A value as JSON holds it. `seen`: id → what stands for a list, dict or set met before. `fit` packs what is of no
        plain type."""
        self, kind = split, type(value)
        if kind in self.PLAIN:
            if kind is int and not -self.LARGE < value < self.LARGE:
                return ["i", hex(value)]
            return value
        if depth >= self.MOST_DEPTH:
            raise self.Uncrossable("more than %d values inside each other" % self.MOST_DEPTH)
        if kind is list or kind is dict or kind is set:
            before = seen.get(id(value))
            if before is not None:
                return before
            seen[id(value)] = ["r", seen["count"]]
            seen["count"] += 1
        if kind is list:
            return ["l", *self.pack_all(value, seen, fit, depth)]
        if kind is tuple:
            return ["t", *self.pack_all(value, seen, fit, depth)]
        if kind is dict:
            flat = [part for pair in value.items() for part in pair]
            return ["d", *self.pack_all(flat, seen, fit, depth)]
        if kind is set or kind is frozenset:
            return ["e" if kind is set else "f", *self.pack_all(list(value), seen, fit, depth)]
        if kind is bytes:
            return ["b", value.decode("latin-1")]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is type and self.CLASSES.get(value.__name__) is value:
            return ["y", value.__name__]
        modules = self.sys.modules
        if "fractions" in modules and kind is modules["fractions"].Fraction:
            return ["q", hex(value.numerator), hex(value.denominator)]
        if "decimal" in modules and kind is modules["decimal"].Decimal:
            return ["m", str(value)]
        return fit(value, seen, depth)

    def pack_all(values, seen, fit, depth):
        self, kinds = split, set(map(type, values))
        if kinds <= self.SIMPLE or kinds == {int} and -self.LARGE < min(values) and max(values) < self.LARGE:
            return values
        return [self.pack(value, seen, fit, depth + 1) for value in values]

    def unpack(value, made, given, far, depth=0):
        """The value that JSON stands for. `made`: this frame's lists, dicts and sets so far; `given`: the question's;
        `far`: number → what stands for something that stays."""
        self, kind = split, type(value)
        if kind in self.PLAIN:
            return value
        if kind is not list or not value or depth > self.MOST_DEPTH:
            raise self.Broken("no value")
        tag, items = value[0], value[1:]
        if tag == "l":
            out = []
            made.append(out)
            out.extend(self.unpack_all(items, made, given, far, depth))
            return out
        if tag == "t":
            return tuple(self.unpack_all(items, made, given, far, depth))
        if tag == "d":
            out = {}
            made.append(out)
            flat = self.unpack_all(items, made, given, far, depth)
            if len(flat) % 2:
                raise self.Broken("a key without a value")
            out.update(zip(flat[::2], flat[1::2]))
            return out
        if tag == "e":
            out = set()
            made.append(out)
            out.update(self.unpack_all(items, made, given, far, depth))
            return out
        if tag == "f":
            return frozenset(self.unpack_all(items, made, given, far, depth))
        kinds = [type(item) for item in items]
        if tag == "b" and kinds == [str]:
            return items[0].encode("latin-1")
        if tag == "c" and kinds == [float, float]:
            return complex(*items)
        if tag == "i" and kinds == [str]:
            return int(items[0], 16)
        if tag == "q" and kinds == [str, str]:
            from fractions import Fraction

            return Fraction(int(items[0], 16), int(items[1], 16))
        if tag == "m" and kinds == [str]:
            from decimal import Decimal

            return Decimal(items[0])
        if tag == "y" and kinds == [str]:
            return self.CLASSES[items[0]]
        if tag == "o" and kinds and kinds[0] is str:
            return self.made_of(items[0], *self.unpack_all(items[1:], made, given, far, depth))
        if kinds == [int] and items[0] >= 0:
            if tag == "h":
                return far(items[0])
            if tag == "r":
                return made[items[0]]
            if tag == "a":
                return given[items[0]]
        raise self.Broken("a value of no kind")

    def unpack_all(items, made, given, far, depth):
        self = split
        if self.PLAIN.issuperset(map(type, items)):
            return items
        return [self.unpack(item, made, given, far, depth + 1) for item in items]

    def made_of(kind, *parts):
        """The value of the standard library's that was parted so by `parted`."""
        from collections import deque, namedtuple
        from datetime import date, datetime, timedelta

        if kind == "namedtuple":
            name, fields, *values = parts
            return namedtuple(name, fields)(*values)
        if kind == "deque":
            return deque(parts)
        if kind == "keys":
            return dict.fromkeys(parts).keys()
        if kind == "values":
            return dict(enumerate(parts)).values()
        if kind == "items":
            return dict(parts).items()
        return {"range": range, "bytearray": bytearray, "date": date, "datetime": datetime, "timedelta": timedelta}[kind](
            *parts
        )

    def parted(value):
        """What `made_of` makes an equal of; None of anything else."""
        kind, modules = type(value), split.sys.modules
        fields = getattr(kind, "_fields", None)
        if issubclass(kind, tuple) and type(fields) is tuple and len(fields) == tuple.__len__(value):
            return ["namedtuple", kind.__name__, list(fields), *tuple.__iter__(value)]
        if kind is range:
            return ["range", value.start, value.stop, value.step]
        if kind is bytearray and len(value) <= split.MOST_BYTES >> 2:
            return ["bytearray", bytes(value)]
        for name, view in (("keys", {}.keys()), ("values", {}.values()), ("items", {}.items())):
            if kind is type(view):
                return [name, *value]
        if "collections" in modules and kind is getattr(modules["collections"], "deque", None):
            return ["deque", *value]
        dates = modules.get("datetime")
        if dates is not None:
            if kind is dates.date:
                return ["date", value.year, value.month, value.day]
            if kind is dates.timedelta:
                return ["timedelta", value.days, value.seconds, value.microseconds]
            if kind is dates.datetime and value.tzinfo is None:
                day = [value.year, value.month, value.day]
                return ["datetime", *day, value.hour, value.minute, value.second, value.microsecond]
        return None

    def dump(message):
        self = split
        frame = self.encode(message).encode("utf-8", "surrogatepass")
        if len(frame) > self.MOST_BYTES:
            raise self.Uncrossable("more than %d MiB" % (self.MOST_BYTES >> 20))
        return len(frame).to_bytes(4, "little") + frame

    def send(channel, frame):
        view = memoryview(frame)
        while view:
            view = view[split.posix.write(channel, view) :]

    def receive(channel):
        """A frame's JSON; None at the end."""
        self = split
        length = self.receive_bytes(channel, 4)
        if length is None:
            return None
        length = int.from_bytes(length, "little")
        if length > self.MOST_BYTES:
            raise self.Broken("a frame that is too long")
        frame = self.receive_bytes(channel, length)
        return None if frame is None else self.json.loads(frame.decode("utf-8", "surrogatepass"))

    def receive_bytes(channel, count):
        parts = []
        while count:
            part = split.posix.read(channel, min(count, 1 << 20))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    # --- the candidate's side

    def answer(channel, namespace):
        """Answers questions about what the candidate defined, until nobody asks."""
        self = split
        kept, numbers = [], {}

        def keep(value, seen, depth):
            """Subclasses of plain types cross as what they hold, and numpy's numbers too; everything else stays."""
            parts = self.parted(value)
            if parts is not None:
                return ["o", *self.pack_all(parts, seen, keep, depth)]
            numpy = self.sys.modules.get("numpy")
            if numpy is not None and isinstance(value, numpy.generic):
                plain = value.item()
                if type(plain) in self.PLAIN or type(plain) is complex:
                    return self.pack(plain, seen, keep, depth)
            kinds = type(value).__mro__
            for base, plain in (
                (int, int.__pos__),
                (float, float.__pos__),
                (complex, complex.__pos__),
                (str, lambda text: str.__add__(text, "")),
                (bytes, lambda data: bytes.__getitem__(data, slice(None))),
                (tuple, lambda items: tuple(tuple.__iter__(items))),
                (frozenset, lambda items: frozenset(frozenset.__iter__(items))),
            ):
                if base in kinds:
                    return self.pack(plain(value), seen, keep, depth)
            for base, tag, plain in (
                (list, "l", list.__iter__),
                (set, "e", set.__iter__),
                (dict, "d", lambda value: (part for pair in dict.items(value) for part in pair)),
            ):
                if base in kinds:
                    if id(value) not in seen:
                        seen[id(value)] = ["r", seen["count"]]
                        seen["count"] += 1
                        return [tag, *self.pack_all(list(plain(value)), seen, keep, depth)]
                    return seen[id(value)]
            if id(value) not in numbers:
                numbers[id(value)] = len(kept)
                kept.append(value)
            return ["h", numbers[id(value)]]

        def only_plain(value, seen, depth):
            raise self.Uncrossable("not plain")

        def contents(container):
            return [part for pair in container.items() for part in pair] if type(container) is dict else list(container)

        def perform(question, given):
            op, target = question[0], question[1]
            if op == "names":
                return {name: namespace[name] for name in target if name in namespace}
            at = kept[target]
            if op in ("call", "set", "item", "two"):
                sent = self.unpack(question[-1], given, None, kept.__getitem__)
            if op == "call":
                before.extend(contents(container) for container in given)
                arguments, pairs = sent
                return at(*arguments, **dict(pairs))
            if op == "get":
                return getattr(at, question[2])
            if op == "set":
                return setattr(at, question[2], sent[0])
            if op == "item":
                return at[sent[0]]
            if op == "two":
                return self.TWO[question[2]](at, sent[0])
            return self.ONE[op](at)

        def changes(given, seen):
            changed = []
            for number, (container, old) in enumerate(zip(given, before)):
                new = contents(container)
                if len(new) != len(old) or not all(map(same, new, old)):
                    changed.append([number, self.pack_all(new, seen, keep, 0)])
            return changed

        same = operator.is_
        while True:
            question = self.receive(channel)
            if question is None:
                return
            given, before = [], []
            try:
                try:
                    value = perform(question, given)
                    seen = {id(container): ["a", at] for at, container in enumerate(given)}
                    seen["count"] = 0
                    reply = ["is", self.pack(value, seen, keep), changes(given, seen)]
                except self.Uncrossable:
                    raise
                except BaseException as error:
                    names = [kind.__name__ for kind in type(error).__mro__ if self.ERRORS.get(kind.__name__) is kind]
                    seen = {id(container): ["a", at] for at, container in enumerate(given)}
                    seen["count"] = 0
                    try:
                        told = self.pack(list(error.args), dict(seen), only_plain)
                    except Exception:
                        told = ["l", str(error)]
                    reply = ["raises", names[0], told, changes(given, seen)]
                    error = None
                frame = self.dump(reply)
            except BaseException as error:
                frame = self.dump(["no", "%s: %s" % (type(error).__name__, error)])
            self.send(channel, frame)

    # --- the judge's side

    # Tests that look at more than what is returned: at the candidate's code, its printing, its files, its threads, what it
    # has set for all. What they would see is in the other interpreter.
    WHOLE = frozenset(
        "inspect asyncio await globals locals vars dir stdin stdout stderr redirect_stdout redirect_stderr patch"
        " mock monkeypatch capsys open os pathlib tempfile subprocess threading multiprocessing gc settrace seed"
        " setrecursionlimit signal weakref pickle Decimal getcontext __doc__ __name__ __file__ __annotations__".split()
    )
    # What the tests may ask of a function or class of the candidate, and no plain value can answer.
    PRIVATE = frozenset("__name__ __qualname__ __code__ __annotations__ __defaults__ __kwdefaults__ __wrapped__".split())

    # source → what `prepare` made of it. The interpreter that waits for judges fills it, and its forks find it there.
    known = {}

    def prepare(source):
        """What of a judge's work is the same whoever the candidate is: the tests as code, what they name, and why they
        cannot be apart from a candidate, where that shows in their text."""
        import ast

        self = split
        job = self.json.loads(source)
        tree = ast.parse(job["text"], "<candidate>")
        named, read_from, caught, asserted, whole = set(), set(), set(), set(), []
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                named.add(node.id)
            elif isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id in ("exec", "eval") and len(node.args) < 2:
                    whole.append("the tests use %s" % node.func.id)
            elif isinstance(node, ast.Attribute):
                if node.attr in self.WHOLE:
                    whole.append("the tests use %s" % node.attr)
                if isinstance(node.value, ast.Name):
                    read_from.add(node.value.id)
            elif isinstance(node, ast.alias):
                if node.name.partition(".")[0] in self.WHOLE:
                    whole.append("the tests use %s" % node.name)
            elif isinstance(node, (ast.AsyncFunctionDef, ast.Await)):
                whole.append("the tests are asynchronous")
            elif isinstance(node, ast.Assert):
                left = node.test.left if isinstance(node.test, ast.Compare) else node.test
                if isinstance(left, ast.Call) and isinstance(left.func, ast.Name):
                    asserted.add(left.func.id)
            elif isinstance(node, ast.ExceptHandler) and node.type is not None:
                caught.update(part.id for part in ast.walk(node.type) if isinstance(part, ast.Name))
        whole += ["the tests use %s" % name for name in sorted(named & self.WHOLE)]
        # A builtin is the builtin, whatever the candidate calls so, unless it is what the task asks for.
        wanted = named.difference(dir(self.builtins))
        if job["entry"] is not None:
            wanted.add(job["entry"])
        return {
            "text": job["text"],
            "entry": job["entry"],
            "code": compile(tree, "<candidate>", "exec", 0, True),
            "helpers": self.helpers(job["given"]),
            "wanted": wanted,
            "asserted": asserted,
            "read_from": read_from & frozenset(getattr(self.sys, "stdlib_module_names", ())),
            "caught": caught,
            "whole": whole,
        }

    def helpers(prompt):
        """What the task gives beside the function to be written, as code: imports, and functions that its tests may use.
        The function that the prompt ends in is the candidate's."""
        import ast

        for text in (prompt, prompt + "\n    pass\n"):
            try:
                tree = ast.parse(text)
                break
            except (SyntaxError, ValueError):
                tree = None
        if tree is None or not tree.body:
            return None
        if isinstance(tree.body[-1], (ast.FunctionDef, ast.ClassDef)):
            del tree.body[-1]
        try:
            return compile(tree, "<prompt>", "exec", 0, True)
        except (SyntaxError, ValueError):
            return None

    def tests(channel, prepared, namespace, report):
        """Puts into `namespace` what the tests need: the task's helpers, and a stand-in for everything of the candidate's
        that they name. `prepared` is of `prepare`; `report` ends this process."""
        self = split

        def whole(why):
            report(b"in_process", why)

        def broken(why):
            report(b"exception", "its answer cannot be read: %s" % why)

        def ask(op, target, *rest, sent=()):
            """Sends a question whose last part has `sent` as its lists, dicts and sets; returns or raises its answer."""
            try:
                frame = self.dump([op, target, *rest])
            except self.Uncrossable as error:
                return whole("an argument of %s" % error)
            try:
                self.send(channel, frame)
                reply = self.receive(channel)
            except ConnectionError:
                reply = None
            except (ValueError, RecursionError, MemoryError, self.Broken) as error:
                broken(type(error).__name__)
            if reply is None:
                report(b"gone")
            try:
                value, error = read(reply, sent)
            except Exception as error:
                broken(type(error).__name__)
            if error is not None:
                raise error
            return value

        def read(reply, sent):
            """(value, None) or (None, error) of an answer; what changed is changed."""
            if type(reply) is not list or not reply:
                raise self.Broken("no answer")
            if reply[0] == "no" and len(reply) == 2 and type(reply[1]) is str:
                report(b"exception", "its answer cannot cross: %s" % reply[1])
            made, error = [], None
            if reply[0] == "is" and len(reply) == 3:
                value = self.unpack(reply[1], made, sent, far)
            elif reply[0] == "raises" and len(reply) == 4 and type(reply[1]) is str and reply[1] in self.ERRORS:
                value, told = None, self.unpack(reply[2], made, sent, far)
                if type(told) is not list:
                    raise self.Broken("no arguments")
                try:
                    error = self.ERRORS[reply[1]](*told)
                except Exception:
                    error = self.ERRORS[reply[1]]()
            else:
                raise self.Broken("no answer")
            changed = []
            for change in reply[-1]:
                at, items = change
                if type(at) is not int or at < 0 or type(items) is not list:
                    raise self.Broken("no change")
                changed.append((sent[at], self.unpack_all(items, made, sent, far, 0)))
            for container, items in changed:
                if type(container) is dict and len(items) % 2:
                    raise self.Broken("a key without a value")
                container.clear()
                if type(container) is list:
                    container.extend(items)
                else:
                    container.update(zip(items[::2], items[1::2]) if type(container) is dict else items)
            return value, error

        def pack(value):
            """A value for a question, and its lists, dicts and sets in the order in which the other side finds them."""
            seen = {"count": 0}
            try:
                packed = self.pack(value, seen, fit)
            except self.Uncrossable as error:
                whole("an argument with %s" % error)
            return packed, containers(value, [], set())

        def containers(value, found, met):
            kind = type(value)
            if kind is list or kind is dict or kind is set:
                if id(value) in met:
                    return found
                met.add(id(value))
                found.append(value)
            if kind is dict:
                value = [part for pair in value.items() for part in pair]
            elif kind is not list and kind is not tuple and kind is not set and kind is not frozenset:
                return found
            if not self.PLAIN.issuperset(map(type, value)):
                for part in value:
                    containers(part, found, met)
            return found

        def fit(value, seen, depth):
            if type(value) is Far:
                return ["h", numbers[id(value)]]
            whole("an argument of type %s" % type(value).__name__)

        class Far:
            """Something of the candidate's. Whatever is asked of it is asked over there, but for comparisons."""

            __slots__ = ()

            def __call__(self, *arguments, **pairs):
                question, sent = pack([list(arguments), [[name, value] for name, value in pairs.items()]])
                return ask("call", numbers[id(self)], question, sent=sent)

            def __getattr__(self, name):
                if name in split.PRIVATE:
                    whole("the tests read %s" % name)
                if name.startswith("__"):
                    raise AttributeError(name)
                return ask("get", numbers[id(self)], name)

            def __setattr__(self, name, value):
                question, sent = pack([value])
                ask("set", numbers[id(self)], name, question, sent=sent)

            def __getitem__(self, key):
                question, sent = pack([key])
                return ask("item", numbers[id(self)], question, sent=sent)

            def __enter__(self):
                whole("the tests enter a context of the candidate's")

            __exit__ = __enter__

            def __instancecheck__(self, value):
                whole("the tests ask for a class of the candidate's")

            __subclasscheck__ = __mro_entries__ = __instancecheck__

            def __deepcopy__(self, _):
                whole("the tests copy what they were given")

            __copy__ = __reduce_ex__ = __deepcopy__

        def one(name):
            return lambda self: ask(name, numbers[id(self)])

        def two(name):
            def asked(self, other):
                if type(other) is not Far:
                    return NotImplemented
                question, sent = pack([other])
                return ask("two", numbers[id(self)], name, question, sent=sent)

            return asked

        for name in self.ONE:
            setattr(Far, "__%s__" % name, one(name))
        for name in self.TWO:
            setattr(Far, "__%s__" % name, two(name))
        Far.__hash__ = object.__hash__
        stands, numbers = {}, {}

        def far(number):
            if number not in stands:
                stands[number] = Far()
                numbers[id(stands[number])] = number
            return stands[number]

        for why in prepared["whole"]:
            whole(why)
        if prepared["helpers"] is not None:
            try:
                exec(prepared["helpers"], namespace)
            except Exception:
                pass  # then the tests miss it, and say so
        if prepared["entry"] is not None:
            namespace.pop(prepared["entry"], None)
        wanted = prepared["wanted"].difference(namespace) or prepared["asserted"]
        for name in wanted & prepared["read_from"]:
            namespace[name] = __import__(name)
        there = ask("names", sorted(wanted.difference(namespace)))
        if type(there) is not dict or not wanted.issuperset(there):
            broken("names")
        for name in sorted(prepared["caught"].intersection(there)):
            whole("the tests catch %s" % name)
        namespace.update(there)
