"""The number of BLAS threads comes back, whatever happens inside."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from synatlas.decompose.blas import one_blas_thread


def threads() -> set[int]:
    assert np.ones(2) @ np.ones(2) == 2
    return {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"}


def test_threads_are_one_inside_and_restored_after_an_error():
    inside = []

    def fail():
        with one_blas_thread():
            inside.append(threads())
            raise ZeroDivisionError

    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with pytest.raises(ZeroDivisionError):
            fail()
        assert threads() == before
    assert inside == [{1}]
