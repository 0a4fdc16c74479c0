"""What type checkers must see. A line with `# error` must be an error, no other may be."""

from __future__ import annotations

from typing import Any, assert_type

from taskq import AsyncResult, Signature, Task, TaskQ

app = TaskQ("shop", broker="memory://")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task
async def aadd(x: int, y: int) -> int:
    return x + y


@app.task(name="named", max_retries=5, retry_backoff=True)
def named(text: str, *, loud: bool = False) -> str:
    return text.upper() if loud else text


@app.task(queue="high")
async def anamed(text: str) -> bytes:
    return text.encode()


@app.task(bind=True, max_retries=3)
def bound(self: Task[..., Any], x: int) -> list[int]:
    return [x, self.request.retries]


@app.task(bind=True)
async def abound(self: Task[..., Any], x: int) -> str:
    return f"{self.name}: {x}"


def results() -> None:
    assert_type(add.delay(1, 2), AsyncResult[int])
    assert_type(add.delay(1, 2).get(), int)
    assert_type(add.delay(x=1).get(timeout=1), int)
    assert_type(aadd.delay(1, 2).get(), int)
    assert_type(named.delay("x", loud=True).get(), str)
    assert_type(anamed.delay("x").get(), bytes)
    assert_type(bound.delay(1).get(), list[int])
    assert_type(abound.delay(1).get(), str)
    assert_type(add.s(1).delay().get(), int)
    assert_type(add.s(1, y=2).set(queue="high"), Signature[int])
    assert_type(app.bulk([add.s(1), add.s(2)])[0].get(), int)
    assert_type(add.apply_async((1, 2), countdown=5).get(), int)
    assert_type(add(1, 2), int)
    assert_type(named("x"), str)


async def awaited() -> None:
    assert_type(await (await add.adelay(1, 2)).aget(), int)
    assert_type(await (await abound.adelay(1)).aget(), str)
    assert_type(await (await add.aapply_async((1,))).aget(), int)
    assert_type((await app.abulk([named.s("x")]))[0], AsyncResult[str])


def mistakes() -> None:
    add.delay("x")  # error
    add.delay(1, 2, 3)  # error
    add.delay(z=1)  # error
    add.delay()  # error
    aadd.delay(1)  # error
    named.delay("x", True)  # error
    named.delay(1)  # error
    bound.delay("x")  # error
    bound.delay(bound, 1)  # error
    abound.delay(x="x")  # error
    add.s("x")  # error
    add("x")  # error
    add.apply_async((1,), countdwn=5)  # error
    add.apply_async((1,), countdown="soon")  # error
    app.task(max_retry=5)  # error
    app.task(queue=5)  # error
    wrong: str = add.delay(1).get()  # error
    print(wrong)
