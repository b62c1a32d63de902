"""The tail of F that needs no scipy, against scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import fdtrc

from scaling.distributions import fisher_tail


@given(x=st.floats(1e-6, 1e4), first=st.integers(1, 40), second=st.integers(1, 100_000))
def test_tail_of_f_is_that_of_scipy(x: float, first: int, second: int) -> None:
    assert fisher_tail(x, first, second) == pytest.approx(fdtrc(first, second, x), rel=1e-9, abs=1e-14)


def test_ends_of_the_tail() -> None:
    assert fisher_tail(0.0, 3, 20) == 1.0
    assert fisher_tail(1e300, 3, 20) == pytest.approx(0.0, abs=1e-300)
