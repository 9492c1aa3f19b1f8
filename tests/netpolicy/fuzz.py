"""Coverage-guided fuzzing of one check of tests.netpolicy.hostile: see scripts/fuzz and docs/development.md."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["netpolicy", "h11"]):
    from tests.netpolicy import hostile
    from tests.netpolicy.seeds import seeds


def main(target: str, seconds: str, folder: str) -> None:
    """Start from the seeds and from what earlier runs found; a crash leaves its input in `folder`."""
    corpus = Path(folder, target)
    corpus.mkdir(parents=True, exist_ok=True)
    for data in seeds()[target]:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]
    options += [f"-artifact_prefix={folder}/{target}-", "-print_final_stats=1", str(corpus)]
    atheris.Setup([sys.argv[0], *options], hostile.CHECKS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
