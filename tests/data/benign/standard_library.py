# A walk through the library.
# expect: passed
import bisect
import calendar
import collections
import csv
import datetime
import functools
import hashlib
import heapq
import io
import itertools
import json
import operator
import re
import statistics
import string
import textwrap
import unicodedata
import zlib

# --- tests ---
assert bisect.bisect([1, 3], 2) == 1
assert calendar.isleap(2000)
assert collections.Counter("aab").most_common(1) == [("a", 2)]
assert list(csv.reader(io.StringIO('a,"b,c"\n'))) == [["a", "b,c"]]
assert datetime.date(2024, 2, 29).isoweekday() == 4
assert functools.reduce(operator.mul, range(1, 6)) == 120
assert hashlib.md5(b"Hello world").hexdigest() == "3e25960a79dbc69b674cd4ec67a72c62"
assert heapq.nsmallest(1, [2, 1]) == [1]
assert list(itertools.permutations("ab")) == [("a", "b"), ("b", "a")]
assert json.loads(json.dumps({"a": [1.5, None]})) == {"a": [1.5, None]}
assert re.findall(r"\d+", "a1b22") == ["1", "22"]
assert statistics.median([1, 3, 2]) == 2
assert textwrap.dedent("  a\n") == "a\n" and string.capwords("a b") == "A B"
assert unicodedata.normalize("NFC", "e\u0301") == "é"
assert zlib.decompress(zlib.compress(b"x" * 1000)) == b"x" * 1000
