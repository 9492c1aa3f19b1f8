"""Property tests keep nothing between runs: a checkout may be read-only to who tests it."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("stateless", database=None)
hypothesis.settings.load_profile("stateless")
