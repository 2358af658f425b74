# problem: 1198_A
# expect: wrong_answer
# passes: 0.986014
# Always keeps the lowest values.
from collections import Counter

n, size = map(int, input().split())
counts = [count for _, count in sorted(Counter(map(int, input().split())).items())]
print(n - sum(counts[: 2 ** min(8 * size // n, 20)]))
