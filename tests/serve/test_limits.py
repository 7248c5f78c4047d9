from __future__ import annotations

import pytest

from tfllv.serve.limits import Limits, cores


def test_every_limit_is_on_unless_it_is_changed():
    limits = Limits()
    assert all(value for name, value in vars(limits).items() if name != "concurrency")
    assert limits.workers == cores() + 2
    assert Limits(concurrency=3).workers == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 0}, "`max_bytes` must be a whole number >= 1"),
        ({"max_pixels": 1.5}, "`max_pixels` must be a whole number"),
        ({"max_queue": -1}, "`max_queue` must be a whole number >= 0"),
        ({"timeout": float("nan")}, "`timeout` must be a finite number"),
        ({"timeout": float("inf")}, "`timeout` must be a finite number"),
        ({"max_request_bytes": 10}, "`max_request_bytes` must be at least `max_bytes`"),
    ],
)
def test_limits_that_make_no_sense_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Limits(**options)
