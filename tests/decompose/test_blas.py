"""The number of BLAS threads comes back, whatever happens inside."""

import pytest

from synatlas.decompose.blas import _controls, one_blas_thread


def test_threads_are_one_inside_and_restored_after_an_error():
    threads = _controls()
    if threads is None:
        pytest.skip("NumPy's BLAS is not its bundled OpenBLAS")
    get, _ = threads
    before = get()
    inside = []

    def fail():
        with one_blas_thread():
            inside.append(get())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [1]
    assert get() == before
