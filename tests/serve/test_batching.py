from __future__ import annotations

import concurrent.futures
import time

import numpy as np
import pytest

from tfllv.serve.batching import Batcher
from tfllv.serve.limits import Limits

SOON = 20.0


@pytest.fixture
def batcher():
    made = []

    def make(workers=1, **options):
        made.append(Batcher("toy", workers, Limits(**options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_for(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def run_together(batcher, engine, images, deadline=SOON):
    """Runs images that all wait behind a first one, which goes alone; returns the results in order."""
    engine.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(len(images) + 1) as pool:
        first = pool.submit(batcher.run, engine, np.zeros((2, 2, 3), np.uint8), time.monotonic() + SOON)
        wait_for(lambda: first.running() and not batcher.waiting)
        futures = []
        for number, image in enumerate(images):
            futures.append(pool.submit(batcher.run, engine, image, time.monotonic() + deadline))
            wait_for(lambda number=number: batcher.waiting == number + 1)
        engine.gate.set()
        first.result()
        return [future.result() for future in futures]


def test_pictures_of_equal_size_that_wait_go_together(batcher, toy):
    engine = toy.Brighten()
    images = [toy.picture(seed=seed) for seed in range(4)]
    results = run_together(batcher(), engine, images)
    assert engine.batches == [1, 4]
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result.image, image + 10)


def test_other_sizes_and_types_go_apart(batcher, toy):
    engine = toy.Brighten()
    images = [toy.picture(), toy.picture(10, 10), toy.picture(seed=1), toy.picture(dtype=np.uint16)]
    results = run_together(batcher(), engine, images)
    assert engine.batches == [1, 2, 1, 1]
    assert [result.image.shape for result in results] == [image.shape for image in images]


@pytest.mark.parametrize("options", [{"max_batch": 2}, {"max_batch_pixels": 2 * 24 * 32}])
def test_a_batch_has_a_limit_of_pictures_and_of_pixels(options, batcher, toy):
    engine = toy.Brighten()
    run_together(batcher(**options), engine, [toy.picture(seed=seed) for seed in range(4)])
    assert engine.batches == [1, 2, 2]


def test_a_picture_larger_than_a_batch_goes_alone(batcher, toy):
    engine = toy.Brighten()
    run_together(batcher(max_batch_pixels=1), engine, [toy.picture(), toy.picture()])
    assert engine.batches == [1, 1, 1]


def test_one_bad_picture_does_not_cost_those_that_came_along(batcher, toy):
    engine = toy.Brighten()

    def fail(batch):
        if any(image[0, 0, 0] == 99 for image in batch):
            raise ArithmeticError("bad")

    engine.fail = fail
    bad = toy.picture()
    bad[0, 0, 0] = 99
    engine.gate.clear()
    one = batcher()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(one.run, engine, np.zeros((2, 2, 3), np.uint8), time.monotonic() + SOON)
        wait_for(lambda: first.running() and not one.waiting)
        futures = [pool.submit(one.run, engine, image, time.monotonic() + SOON) for image in (toy.picture(), bad)]
        wait_for(lambda: one.waiting == 2)
        engine.gate.set()
        assert futures[0].result().image is not None
        with pytest.raises(ArithmeticError):
            futures[1].result()


def test_versions_do_not_mix_in_a_batch(batcher, toy):
    old, new = toy.Brighten(), toy.Brighten(version=2)
    one = batcher()
    old.gate.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(one.run, old, toy.picture(), time.monotonic() + SOON)]
        wait_for(lambda: futures[0].running() and not one.waiting)
        futures += [pool.submit(one.run, engine, toy.picture(), time.monotonic() + SOON) for engine in (old, new)]
        wait_for(lambda: one.waiting == 2)
        old.gate.set()
        for future in futures:
            future.result()
    assert (old.batches, new.batches) == ([1, 1], [1])


def test_a_full_queue_refuses_at_once(batcher, toy):
    engine = toy.Brighten()
    engine.gate.clear()
    one = batcher(max_queue=1, concurrency=1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(one.run, engine, toy.picture(), time.monotonic() + SOON)]
        wait_for(lambda: futures[0].running() and not one.waiting)
        futures += [pool.submit(one.run, engine, toy.picture(), time.monotonic() + SOON) for _ in range(2)]
        wait_for(lambda: one.waiting == 2)
        with pytest.raises(toy.RefusalError) as caught:
            one.run(engine, toy.picture(), time.monotonic() + SOON)
        assert (caught.value.status, caught.value.error) == (503, "busy")
        engine.gate.set()
        assert all(future.result() for future in futures)


def test_what_has_no_time_left_is_given_up_and_never_run(batcher, toy):
    engine = toy.Brighten()
    engine.gate.clear()
    one = batcher()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(one.run, engine, toy.picture(), time.monotonic() + SOON)
        wait_for(lambda: first.running() and not one.waiting)
        with pytest.raises(toy.RefusalError) as caught:
            one.run(engine, toy.picture(), time.monotonic() + 0.05)
        assert (caught.value.status, caught.value.error) == (503, "timeout")
        engine.gate.set()
        first.result()
    assert one.call(engine, lambda: "done", time.monotonic() + SOON) == "done"
    assert engine.batches == [1]
