"""How long IKE_SAs live, by their connection's settings and strongSwan's defaults."""

import pytest

from cygnet.ike.lifetimes import IkeLifetimes
from cygnet.ike.settings import ConnectionSettings


@pytest.mark.parametrize(
    ("settings", "rekey", "reauth", "over", "spread"),
    [
        ({}, 14400.0, 0.0, 1440.0, 1440.0),
        ({"reauth_time_s": 3600.0}, 0.0, 3600.0, 360.0, 360.0),
        ({"reauth_time_s": 3600.0, "rekey_time_s": 600.0}, 600.0, 3600.0, 360.0, 360.0),
        ({"reauth_time_s": 600.0, "rekey_time_s": 3600.0}, 3600.0, 600.0, 360.0, 360.0),
        ({"reauth_time_s": 3600.0, "over_time_s": 60.0, "rand_time_s": 5.0}, 0.0, 3600.0, 60.0, 5.0),
        ({"rekey_time_s": 0.0}, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_what_the_times_of_a_connection_mean(
    settings: dict[str, float], rekey: float, reauth: float, over: float, spread: float
) -> None:
    lifetimes = IkeLifetimes.of(ConnectionSettings(name="rw", **settings))  # type: ignore[arg-type]
    assert (lifetimes.rekey.soft, lifetimes.reauth.soft, lifetimes.over_s) == (rekey, reauth, over)
    assert max(lifetimes.rekey.spread, lifetimes.reauth.spread) == spread
