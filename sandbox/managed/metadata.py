"""Metadata: how much of it an object has, and what a patch makes of it."""

from collections.abc import Mapping

from sandbox.managed.failures import invalid

METADATA_PAIRS = 16


def merge(
    old: Mapping[str, str], patch: Mapping[str, str | None], *, empty_deletes: bool = True
) -> dict[str, str]:
    """``old`` with ``patch`` applied: null deletes, so does an empty text where it may. Refused when too many."""
    merged = dict(old)
    for key, value in patch.items():
        if value or (value == "" and not empty_deletes):
            merged[key] = value
        else:
            merged.pop(key, None)
    if len(merged) > METADATA_PAIRS:
        raise invalid(f"metadata: would have {len(merged)} pairs; {METADATA_PAIRS} are allowed")
    return merged
