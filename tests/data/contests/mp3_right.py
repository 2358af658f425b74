# problem: 1198_A
# expect: passed
# passes: 1
from collections import Counter

n, size = map(int, input().split())
counts = [count for _, count in sorted(Counter(map(int, input().split())).items())]
bits = 8 * size // n
kinds = min(len(counts), 2 ** min(bits, 20))
kept = sum(counts[:kinds])
best = kept
for at in range(kinds, len(counts)):
    kept += counts[at] - counts[at - kinds]
    best = max(best, kept)
print(n - best)
