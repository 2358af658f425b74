# A problem of numbers in and a number out.
# expect: passed
n = int(input())
print(sum(int(input()) for _ in range(n)))

# --- input ---
2
3
4
# --- output ---
7
# --- input ---
0
# --- output ---
0
