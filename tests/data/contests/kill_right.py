# problem: 1238_B
# expect: passed
# passes: 1
for _ in range(int(input())):
    n, r = map(int, input().split())
    places = sorted(set(map(int, input().split())), reverse=True)
    shots = 0
    for place in places:
        if place - shots * r <= 0:
            break
        shots += 1
    print(shots)
