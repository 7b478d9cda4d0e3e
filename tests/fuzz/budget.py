"""How much the tests of this folder try: little in the whole suite, much by ``make fuzz``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("OPENLLM_FUZZ_CASES", "150"))
"""Of each test."""

fuzz = settings(
    max_examples=CASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    # What was found once is kept for the next time where it is looked for seriously.
    database=None,
)
