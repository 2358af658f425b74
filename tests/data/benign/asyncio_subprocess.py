# A child in an event loop.
# expect: passed
import asyncio
import sys

async def child():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(3)", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out

# --- tests ---
assert asyncio.run(child()) == b"3\n"
