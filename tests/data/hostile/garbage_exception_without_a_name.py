# Its exception has no name, no module and no arguments.
# expect: exception
class Meta(type):
    @property
    def __name__(cls):
        raise RuntimeError
    __module__ = __qualname__ = property(lambda cls: 1 / 0)

E = Meta("E", (Exception,), {})

raise E
