# Numbers of many digits.
# expect: passed
import math
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 50

# --- tests ---
assert len(str(math.factorial(1000))) == 2568
assert str(Decimal(2).sqrt()) == "1.4142135623730950488016887242096980785696718753769"
assert sum(Fraction(1, n) for n in range(1, 5)) == Fraction(25, 12)
