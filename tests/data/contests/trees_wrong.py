# problem: 1139_C
# expect: wrong_answer
# passes: 0.210526
# Takes every tree for a red one.
n, k = map(int, input().split())
black = sum(int(input().split()[2]) for _ in range(n - 1))
print((n**k - n) % (10**9 + 7) if black else 0)
