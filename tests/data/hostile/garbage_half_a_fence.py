# What a chat leaves when it is cut off.
# expect: syntax_error
# --- candidate ---
```python
def f(x):
    return x + 1

# --- tests ---
assert f(1) == 2
