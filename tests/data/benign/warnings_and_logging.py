# Warns and logs.
# expect: passed
import logging
import warnings

logging.basicConfig()
logging.error("something")
warnings.warn("something else")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.warn("a")

# --- tests ---
assert len(caught) == 1
