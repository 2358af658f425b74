# A small text that unpacks to a large one.
# limits: cpu=5s
# expect: memory_limit
import zlib

packed = zlib.compress(b"\0" * (20 << 20))
blocks = [zlib.decompress(packed) for _ in range(100)]
