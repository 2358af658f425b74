# problem: 1000_A
# expect: wrong_answer
# passes: 0.421569
# Compares the two lists place by place.
n = int(input())
before = [input() for _ in range(n)]
after = [input() for _ in range(n)]
print(sum(a != b for a, b in zip(before, after)))
