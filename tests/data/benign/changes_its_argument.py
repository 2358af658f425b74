# The tests look at what became of the argument.
# expect: passed
# entry: sort_in_place
def sort_in_place(items):
    items.sort()

# --- tests ---
def check(candidate):
    items = [3, 1, 2]
    assert candidate(items) is None
    assert items == [1, 2, 3]

check(sort_in_place)
