# An event loop.
# expect: passed
import asyncio

async def later(x):
    await asyncio.sleep(0.01)
    return x

async def both():
    return await asyncio.gather(later(1), later(2))

def run():
    return asyncio.run(both())

# --- tests ---
assert run() == [1, 2]
