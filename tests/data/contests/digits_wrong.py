# problem: 12_B
# expect: exception
# passes: 0.522727
# Cannot do with a number that begins with zero.
digits, answer = sorted(input().strip()), input().strip()
if digits[0] == "0":
    raise ValueError("leading zero")
print("OK" if "".join(digits) == answer else "WRONG_ANSWER")
