# problem: 1139_C
# expect: passed
# passes: 1
import sys


def main():
    numbers = list(map(int, sys.stdin.read().split()))
    n, k = numbers[:2]
    parent = list(range(n + 1))

    def find(v):
        while parent[v] != v:
            parent[v] = parent[parent[v]]
            v = parent[v]
        return v

    for u, v, black in zip(numbers[2::3], numbers[3::3], numbers[4::3]):
        if black == 0:
            parent[find(u)] = find(v)
    size = {}
    for v in range(1, n + 1):
        root = find(v)
        size[root] = size.get(root, 0) + 1
    modulus = 10**9 + 7
    print((pow(n, k, modulus) - sum(pow(s, k, modulus) for s in size.values())) % modulus)


if __name__ == "__main__":
    main()
