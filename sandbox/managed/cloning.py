"""Cloning a repository: what is run for it, and what its failure means. Pure; sandbox.managed.placing runs it."""

import re
from typing import NamedTuple

from sandbox.managed.database import Document

TARGET = "/repository"
REMOTE = "/remote"
TIMEOUT_S = 540
_CHECKOUT_FAILED = 4
_LONGEST_MESSAGE = 600

# $1: where to clone from; $2: the URL of the origin; $3: branch, commit or nothing; $4: which; $5: the directory that
# stands for the origin in the session, or nothing.
_SCRIPT = """
umask 022
cd /repository || exit 3
failed() { find . -mindepth 1 -delete; exit "$1"; }
git config --global safe.directory '*'
case $3 in
'')
  git clone --quiet -- "$1" . || failed 3
  ;;
*)
  git clone --quiet --no-checkout -- "$1" . || failed 3
  ;;
esac
case $3 in
branch)
  git rev-parse --quiet --verify "refs/remotes/origin/$4^{commit}" >/dev/null || {
    echo "fatal: there is no branch $4" >&2
    failed 4
  }
  git checkout --quiet -B "$4" --track "origin/$4" || failed 4
  ;;
commit)
  git cat-file -e "$4^{commit}" 2>/dev/null || git fetch --quiet origin "$4" 2>/dev/null || {
    echo "fatal: there is no commit $4" >&2
    failed 4
  }
  git checkout --quiet --detach "$4" || failed 4
  ;;
esac
[ "$1" = "$2" ] || git remote set-url origin "$2" || failed 3
[ -z "$5" ] || git config "url.$5.insteadOf" "$2" || failed 3
"""
# Nothing of the session's, and nobody to ask for a password.
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/tmp",
    "LC_ALL": "C",
}


class Failed(NamedTuple):
    """Why a repository is not there. ``type``: one of the API's ``repository_…_error``."""

    type: str
    message: str


def command(url: str, source: str, checkout: Document | None, local: str = "") -> tuple[str, ...]:
    """What clones ``source`` into /repository, with ``url`` as its origin; ``local`` stands for it in the session."""
    kind = "" if checkout is None else checkout["type"]
    which = "" if checkout is None else checkout.get("name") or checkout.get("sha") or ""
    return ("sh", "-c", _SCRIPT, "clone", source, url, kind, which, local)


def judge(code: int, errors: bytes, *, timed_out: bool) -> Failed | None:
    """What came of it: None when the repository is there."""
    text = _readable(errors)
    if timed_out:
        return Failed("repository_clone_error", f"cloning took longer than {TIMEOUT_S} s")
    if code == 0:
        return None
    if code == _CHECKOUT_FAILED:
        return Failed("repository_checkout_error", text)
    if re.search(r"Authentication failed|could not read (Username|Password)|error: 401", text):
        return Failed("repository_authentication_error", text)
    if "error: 403" in text:
        return Failed("repository_forbidden_error", text)
    if re.search(r"repository '[^']*' not found|error: 404|does not (exist|appear to be a git)", text):
        return Failed("repository_not_found_error", text)
    return Failed("repository_clone_error", text or f"git ended with exit code {code}")


def error(failed: Failed, url: str) -> Document:
    """The ``error`` of the event that tells of it."""
    return {
        "type": failed.type,
        "message": f"{url}: {failed.message}",
        "repository_url": url,
        # The session goes on without the repository.
        "retry_status": {"type": "retrying"},
    }


def _readable(errors: bytes) -> str:
    text = errors.decode("utf-8", "replace")
    lines = ["".join(each for each in line if each.isprintable()).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Cloning into")]
    return "; ".join(lines)[-_LONGEST_MESSAGE:]
