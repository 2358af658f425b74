# Gives the tests modules of its own.
# expect: disputed
# expect whole: passed
# entry: f
import sys
import types

fake = types.ModuleType("unittest")

class TestCase:
    def __getattr__(self, name):
        return lambda *_: None

fake.TestCase = TestCase
sys.modules["unittest"] = fake

def f(x):
    return 0

# --- tests ---
import unittest

def check(candidate):
    unittest.TestCase().assertEqual(candidate(1), 2)

check(f)
