from __future__ import annotations

import os

from pkgcache.debian import PROFILES
from pkgcache.names import KNOWN, platform


def test_known_bases_have_profiles_that_exist() -> None:
    assert set(KNOWN.values()) <= set(PROFILES)


def test_the_platform_names_the_processor() -> None:
    assert platform() == f"linux/{os.uname().machine}"
