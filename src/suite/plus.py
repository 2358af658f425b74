def check(candidate):
    import copy, json, math

    def deep(value):
        return tuple(deep(item) for item in value) if isinstance(value, list) else value

    def convert(a):
        return CONVERSION

    def number(value):
        return isinstance(value, (int, float, complex))

    def close(out, exp, atol):
        if number(out) and number(exp):
            return out == exp or abs(out - exp) <= atol + 1e-7 * abs(exp)
        lists = isinstance(out, (list, tuple)) and isinstance(exp, (list, tuple)) and len(out) == len(exp)
        return lists and all(close(o, e, atol) for o, e in zip(out, exp))

    def floats(value):
        lists = isinstance(value, (list, tuple)) and len(value) > 0
        return isinstance(value, float) or lists and all(isinstance(item, float) for item in value)

    reference = {"__name__": "reference"}
    exec(compile(SOLUTION, "<reference>", "exec", 0, True), reference)
    reference = reference[ENTRY_POINT]
    atol = ATOL
    for number_of_input, given in enumerate(json.loads(INPUTS)):
        a = convert(given)
        exp = reference(*copy.deepcopy(a))
        out = candidate(*copy.deepcopy(a))
        right = ORACLE
        if atol == 0 and floats(exp):
            atol = 1e-6
        if FUZZY and not right and atol != 0:
            right = type(out) == type(exp) and close(out, exp, atol)
        assert right, "input %d" % number_of_input
