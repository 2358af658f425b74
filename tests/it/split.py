# After split.py: damages frames by a seed and has the judge's reader read them. `SEED COUNT`; prints how many could be read.
# fuzz/codec.py has it read what atheris comes upon.
import random, sys
from collections import deque
from datetime import date, datetime, timedelta

KINDS = {type(None), bool, int, float, str, list, tuple, dict, set, frozenset, bytes, complex, type, range, bytearray, deque}
KINDS |= {date, datetime, timedelta, type({}.keys()), type({}.values()), type({}.items())}
ATOMS = [None, True, 0, -1, 2**63, 2**70, 1.5, float("inf"), "", "é\ud800", b"\xff", 1j, 10**400]

dice = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Far:
    pass


def value(depth):
    if depth == 0 or dice.random() < 0.3:
        return dice.choice(ATOMS)
    parts = [value(depth - 1) for _ in range(dice.randrange(4))]
    hashable = [dice.choice(ATOMS) for _ in parts]
    kind = dice.choice([list, tuple, dict, set, frozenset])
    return dict(zip(hashable, parts)) if kind is dict else kind(hashable if kind in (set, frozenset) else parts)


def same(one, other):
    if type(one) is not type(other):
        return False
    if type(one) in (list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other) or one == other


def look(found, seen):
    """Everything that was built, all the way down."""
    if id(found) in seen:
        return
    seen.add(id(found))
    known = type(found) in KINDS or type(found) is Far or type(found).__name__ in ("Fraction", "Decimal")
    assert known or issubclass(type(found), tuple) and hasattr(found, "_fields"), type(found)
    if type(found) in (type, range, bytearray):
        return
    for part in [*found, *found.values()] if type(found) is dict else found if hasattr(found, "__iter__") else ():
        if type(part) is not str:
            look(part, seen)


def refuse(found, seen, depth):
    raise AssertionError("of no plain type: %r" % found)


def damaged(frame):
    frame = bytearray(frame)
    pieces = [b"[", b"]", b",", b'"l"', b'["h",0]', b'["r",0]', b'["a",0]', b'["d",', b'["e",["l"]]', b'["q","1","0"]', b"NaN",
              b'["i","zz"]', b'["f",', b"{}", b'["m","x"]', b"-1", b'["y","int"]', b'["o","keys",1,"x"]', b'["o","range",3]',
              b'["o","namedtuple","P",["l","x"],1]', b'["o","date",1,1,1]', b'["o","eval","1"]', b'["c",1,2]', b'["b","\xc4\x80"]', b"\xff", b"null"]
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(frame) + 1)
        what = dice.random()
        if what < 0.5:
            frame[at : at + dice.choice([0, 0, 1, 3])] = dice.choice(pieces)
        elif what < 0.8:
            del frame[at : at + dice.randrange(1, 6)]
        else:
            frame[at:at] = frame[at : at + dice.randrange(1, 12)]
    return bytes(frame)


def read(frame, given):
    """What the judge builds of a frame, looked at; None of what is no frame."""
    try:
        found = split.unpack(split.json.loads(frame.decode("utf-8", "surrogatepass")), [], given, lambda _: Far())
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError, split.Broken):
        return None
    look(found, set())
    return [found]


def main():
    built = 0
    for _ in range(int(sys.argv[2])):
        original = value(4)
        frame = split.dump(split.pack(original, {"count": 0}, refuse))[4:]
        [whole] = read(frame, ())
        assert same(original, whole), (original, whole)
        built += read(damaged(frame), [[1], {2: 3}, {4}]) is not None
    print(built)


if __name__ == "__main__":
    main()
