# Works for a while, within the limit.
# expect: passed
def primes(n):
    sieve = bytearray([1]) * (n + 1)
    for i in range(2, int(n**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, n + 1, i)))
    return sum(sieve[2:])

# --- tests ---
assert primes(1_000_000) == 78_498
