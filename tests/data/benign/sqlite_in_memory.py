# A database of its own, where the interpreter has one.
# expect: passed
try:
    import sqlite3
except ImportError:
    sqlite3 = None

def rows():
    if sqlite3 is None:
        return [(1,)]
    with sqlite3.connect("a.db") as db:
        db.execute("create table t (x)")
        db.execute("insert into t values (1)")
        return db.execute("select x from t").fetchall()

# --- tests ---
assert rows() == [(1,)]
