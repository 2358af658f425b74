# Executed by parquet.rs with an interpreter that has pyarrow: writes two problems in the columns of the publisher's table
# to the path that is given, and another table to the second path.
import sys

import pyarrow as pa
import pyarrow.parquet as pq

texts = pa.list_(pa.string())
tests = pa.struct([("input", texts), ("output", texts)])
solutions = pa.struct([("language", pa.list_(pa.int64())), ("solution", texts)])
duration = pa.struct([("seconds", pa.int64()), ("nanos", pa.int64())])
schema = pa.schema([
    ("name", pa.string()), ("description", pa.string()), ("public_tests", tests), ("private_tests", tests),
    ("generated_tests", tests), ("source", pa.int64()), ("difficulty", pa.int64()), ("solutions", solutions),
    ("incorrect_solutions", solutions), ("cf_contest_id", pa.int64()), ("cf_index", pa.string()), ("cf_points", pa.float32()),
    ("cf_rating", pa.int32()), ("cf_tags", texts), ("is_description_translated", pa.bool_()),
    ("untranslated_description", pa.string()), ("time_limit", duration), ("memory_limit_bytes", pa.int64()),
    ("input_file", pa.string()), ("output_file", pa.string()),
])


def problem(name, source, difficulty, public, private, generated, solved):
    lists = lambda pairs: {"input": [given for given, _ in pairs], "output": [expected for _, expected in pairs]}
    written = {"language": [language for language, _ in solved], "solution": [text for _, text in solved]}
    return {
        "name": name, "description": f"The task of {name}, with \u00e4 and \U0001f40d.\n\nInput\n\nA number.", "public_tests": lists(public),
        "private_tests": lists(private), "generated_tests": lists(generated), "source": source, "difficulty": difficulty,
        "solutions": written, "incorrect_solutions": {"language": [3], "solution": ["print(0)"]}, "cf_contest_id": 1,
        "cf_index": "A", "cf_points": 0.0, "cf_rating": 800, "cf_tags": ["math", ""], "is_description_translated": False,
        "untranslated_description": "", "time_limit": None, "memory_limit_bytes": 256000000, "input_file": "", "output_file": "",
    }


doubled = "print(2 * int(input()))"
rows = [
    problem("1000_A. Doubling", 2, 7, [("1\n", "2\n"), ("5\n", "10\n"), ("7\n", "14\n")], [("0\n", "0\n")],
            [(f"{n}\n", f"{2 * n}\n") for n in range(100)], [(2, "int main() {}"), (1, "print 2 * input()"), (3, doubled)]),
    problem("p00001 Nothing solved in Python 3", 6, 0, [("1\n", "1\n")], [], [], [(2, "int main() {}")]),
]
table = pa.Table.from_pylist(rows, schema=schema)
pq.write_table(table, sys.argv[1], compression="snappy", row_group_size=1)
pq.write_table(table.drop_columns(["private_tests"]), sys.argv[2], compression="snappy")
