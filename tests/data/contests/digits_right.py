# problem: 12_B
# expect: passed
# passes: 1
digits = sorted(input().strip())
if digits[0] == "0":
    first = next((at for at, digit in enumerate(digits) if digit != "0"), 0)
    digits[0], digits[first] = digits[first], digits[0]
# The rule of agreement does not look at case.
print("ok" if "".join(digits) == input().strip() else "wrong_answer")
