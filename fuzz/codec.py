"""Any bytes as a frame of split judging's codec, which is Python: read or refused, and what is built of them is of plain
types. For atheris, libFuzzer's Python; `.ci/fuzz` runs it.

    python codec.py [libFuzzer's flags] [CORPUS]      # with --seeds FOLDER: only writes frames to begin with
"""
import pathlib, sys, types

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = [ROOT / "src/jail/split.py", ROOT / "tests/it/split.py"]

codec = {"__name__": "codec"}
seeds = sys.argv[sys.argv.index("--seeds") + 1] if "--seeds" in sys.argv else None
arguments, sys.argv = sys.argv, sys.argv[:1]
exec("".join(path.read_text() for path in FILES), codec)


def one(data):
    try:
        codec["read"](data, [[1], {2: 3}, {4}])
    except MemoryError:
        pass  # the jail's limit of memory ends such a judge


if seeds:
    split = codec["split"]
    for number in range(300):
        frame = split.dump(split.pack(codec["value"](4), {"count": 0}, codec["refuse"]))[4:]
        pathlib.Path(seeds, f"seed-{number}").write_bytes(frame)
else:
    import atheris

    for part in [*vars(codec["split"]).values(), codec["look"]]:
        if isinstance(part, types.FunctionType):
            atheris.instrument_func(part)
    atheris.Setup(arguments, one)
    atheris.Fuzz()
