# Modules that look a class's module up.
# expect: passed
# --- candidate ---
from __future__ import annotations
from dataclasses import asdict, dataclass, field
from typing import ClassVar, List, NamedTuple, get_type_hints

@dataclass(order=True)
class Point:
    x: int
    y: int = 0
    seen: ClassVar[List[int]] = []
    tags: list = field(default_factory=list)

class Pair(NamedTuple):
    a: int
    b: str

# --- tests ---
assert Point(1) == Point(1) < Point(2)
assert asdict(Point(1)) == {"x": 1, "y": 0, "tags": []}
assert get_type_hints(Point)["x"] is int
assert Pair(1, "b").b == "b"
