"""What every credential comes to: somebody, and until when."""

from __future__ import annotations

from typing import NamedTuple

from appliance.principal import Principal


class Admitted(NamedTuple):
    """Who came in, and when that ends by itself (Unix seconds)."""

    principal: Principal
    expires_at: float | None
