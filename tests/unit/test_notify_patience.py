"""When a notice is given up."""

from __future__ import annotations

import pytest

from leeroy.notify.sender import Patience

DAY_S = 86_400.0


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize(("partly", "limit_s"), [(False, DAY_S), (True, 600.0)])
def test_a_day_without_a_server_is_no_day_of_trying(
    partly: bool, limit_s: float, urgent: bool
) -> None:
    """Old enough and tried six times: it is over; after a restart it has all its attempts first."""
    patience = Patience()
    for attempts in range(5):
        assert not patience.is_over(30 * limit_s, attempts, urgent=urgent, partly=partly)
    assert patience.is_over(limit_s, 5, urgent=urgent, partly=partly)
    assert not patience.is_over(limit_s - 1, 5000, urgent=urgent, partly=partly)
