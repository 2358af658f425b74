# problem: 1000_A
# expect: passed
# passes: 1
from collections import Counter

n = int(input())
before = Counter(input().strip() for _ in range(n))
after = Counter(input().strip() for _ in range(n))
print(sum((before - after).values()))
