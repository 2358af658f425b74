# problem: 1238_B
# expect: wrong_answer
# passes: 0.927083
# Forgets that two may stand at one place.
for _ in range(int(input())):
    n, r = map(int, input().split())
    shots = 0
    for place in sorted(map(int, input().split()), reverse=True):
        if place - shots * r <= 0:
            break
        shots += 1
    print(shots)
