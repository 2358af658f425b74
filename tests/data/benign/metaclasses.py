# Classes of classes, descriptors, generators, context managers.
# expect: passed
import abc
import contextlib

class Registry(type):
    names = []

    def __new__(mcs, name, bases, body):
        mcs.names.append(name)
        return super().__new__(mcs, name, bases, body)

class A(metaclass=Registry):
    pass

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

@contextlib.contextmanager
def noting(out):
    out.append("in")
    yield
    out.append("out")

# --- tests ---
assert Registry.names == ["A"]
try:
    Shape()
    assert False
except TypeError:
    pass
out = []
with noting(out):
    pass
assert out == ["in", "out"]
