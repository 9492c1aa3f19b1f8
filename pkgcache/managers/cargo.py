"""cargo: programs from crates, compiled from kept sources."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.environment import PREFIX
from pkgcache.recipe import CLEAN, UNREACHED, Phase, fetch_and_install, require, settle
from pkgcache.records import Locked
from pkgcache.report import MARK, most_telling
from pkgcache.specs import Spec, refuse

_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_NUMBER = r"(?:0|[1-9][0-9]*)"
_VERSION = rf"{_NUMBER}(?:\.{_NUMBER}){{0,2}}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_REQUIREMENT = rf"(?:[=^~]|[<>]=?)\s*{_VERSION}"
_WHOLE = r"\d+\.\d+\.\d+.*"


def parse(text: str) -> Spec:
    """`name` or `name@requirement`: `14.1.1` (that version), `14` or `14.1` (the newest of those), or as cargo writes
    requirements, several joined by commas (`^1.2`, `~0.3`, `>=1, <3`)."""
    name, at, requirement = text.partition("@")
    if re.fullmatch(_NAME, name) is None:
        raise refuse("it is not a crate name", "write name or name@version")
    name_key = name.lower().replace("_", "-")
    if not at:
        return Spec(name_key, name)
    requirement = requirement.strip()
    if re.fullmatch(_VERSION, requirement) is not None:
        # cargo takes a bare number for a version, and refuses one that is not whole.
        wanted = requirement if re.fullmatch(_WHOLE, requirement) else f"~{requirement}"
        return Spec(name_key, f"{name}@{wanted}")
    parts = [part.strip() for part in requirement.split(",")]
    for part in parts:
        if re.fullmatch(_REQUIREMENT, part) is None:
            raise refuse(f"'{part}' is not a version requirement", "write name@1.2.3")
    folded = sorted({re.sub(r"\s+", "", part) for part in parts})
    return Spec(name_key, f"{name}@{','.join(folded)}")


_CACHE = "/var/cache/cargo"
_PLAN = "/var/tmp/cargo-plan"
"""What the first phase found out, for the second: lines of name, version and how its own lock file is taken."""

_RUSTC = "/var/tmp/rustc-info"
"""What cargo wrote down of the compiler; of another one, it finds out again."""

# cargo's home is what it is, settings and credentials included, but for the downloads and the lock over them.
_SETTINGS = f"""own=${{CARGO_HOME:-$HOME/.cargo}}
export CARGO_HOME=/tmp/cargo CARGO_TARGET_DIR=/tmp/target CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never
export CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback
mkdir -p /tmp/cargo || exit
for file in "$own"/*; do
  case ${{file##*/}} in bin|registry|git) ;; *) ln -sf "$file" /tmp/cargo/ ;; esac
done
ln -sfn {_CACHE}/registry /tmp/cargo/registry
ln -sfn {_CACHE}/.package-cache /tmp/cargo/.package-cache
ln -sfn {_CACHE}/.package-cache-mutate /tmp/cargo/.package-cache-mutate
cd /tmp || exit
"""
# cargo downloads all that a program needs before it compiles anything. The first crate that it would compile ends it:
# nothing of any package has run then.
_DOWNLOAD = f"""{require("cargo", "command -v cargo")}{_SETTINGS}{settle(_CACHE, _PLAN)}
mkdir -p {_CACHE}/registry || exit
# A session with a network has an address for every name; without one, trying again is in vain.
getent hosts name.invalid >/dev/null || export CARGO_NET_RETRY=0
# cargo asks several times what rustc this is, which takes longer than the rest of its start. While the servers are
# asked, it is found out once for this phase, and as cargo writes it down for the next.
{{ rustc -vV > /tmp/asked && mv /tmp/asked /tmp/rustc; }} &
{{
  mkdir -p /tmp/empty/src && cd /tmp/empty && : > src/lib.rs &&
    printf '[package]\nname = "empty"\nversion = "0.0.0"\n[workspace]\n' > Cargo.toml
  CARGO_HOME=/tmp/empty/home CARGO_TARGET_DIR=/tmp/empty/target cargo check --offline &&
    cp target/.rustc_info.json {_RUSTC}
}} > /dev/null 2>&1 &
cat > /tmp/stop <<'END'
#!/bin/sh
case "$*" in "rustc -vV") test ! -e /tmp/rustc || exec cat /tmp/rustc ;; esac
# Of a crate's own words some are among the arguments, so only the first one counts: cargo compiles nothing from "-".
case "$2" in -vV | -) exec "$@" ;; esac
: > /tmp/reached
kill "$PPID"
END
chmod 755 /tmp/stop
fetch() {{
  rm -f /tmp/reached
  {{ RUSTC_WRAPPER=/tmp/stop cargo install $how --root /tmp/none "$spec" 2>&1; }} 2>/dev/null | tee /tmp/said |
    sed -u '/^ *Compiling /d'
  test -e /tmp/reached &&
    sed -n "s/^ *Installing \\([^ ]*\\) v\\([^ ]*\\).*/\\1\t\\2\t$how/p" /tmp/said | sed -n 1p > /tmp/found
}}
for spec in "$@"; do
  : > /tmp/found
  how=--locked
  if ! fetch && grep -q 'because --locked was passed' /tmp/said; then
    how=
    fetch
  fi
  wait
  tool=$(sed -n 1p /tmp/rustc)
  settle
done
"""
_INSTALL = f"""{_SETTINGS}
: > /tmp/artifacts
test ! -e {_RUSTC} || {{ mkdir -p /tmp/target && cp {_RUSTC} /tmp/target/.rustc_info.json; }} || exit
while IFS="$(printf '\\t')" read -r name version how; do
  cargo install --offline $how --root /tmp/made --message-format json-render-diagnostics "$name@$version" \\
    >> /tmp/artifacts || exit
done < {_PLAN}
mkdir -p {PREFIX}/bin && cp -a /tmp/made/bin/. {PREFIX}/bin/ || exit
cp /tmp/made/.crates.toml /tmp/made/.crates2.json {PREFIX}/ || exit
sed -n 's/.*"reason":"compiler-artifact","package_id":"\\([^"]*\\)".*/\\1/p' /tmp/artifacts | sort -u |
  sed -n \\
    -e 's/^\\([^ ]*\\) \\([^ ]*\\) (registry+.*/\\1\\t\\2/p' \\
    -e 's/^registry+.*#\\([^@]*\\)@\\(.*\\)$/\\1\\t\\2/p' |
  while IFS="$(printf '\\t')" read -r name version; do
    digest=$(cat /tmp/cargo/registry/cache/*/"$name-$version.crate" 2>/dev/null | sha256sum | cut -d' ' -f1)
    printf '{MARK}package\\t%s\\t%s\\tsha256:%s\\n' "$name" "$version" "$digest"
  done
"""

# Without a network, cargo names the index that it could not reach, whatever its configuration made of it.
PROBE = f"""command -v cargo >/dev/null || exit 0
from='built-in default'
for file in /.cargo/config.toml /.cargo/config "${{CARGO_HOME:-$HOME/.cargo}}"/config.toml; do
  if test -e "$file"; then from=$file; fi
done
CARGO_NET_RETRY=0 cargo install --root /tmp/none a 2>&1 | sed -n 's/.*`\\(https*:[^`]*\\)`.*/\\1/p' | sort -u |
while read -r url; do
  printf '{MARK}endpoint\tcargo\t%s\t%s\n{MARK}follow\tcargo\t%s\n' "$url" "$from" "$url"
done
printf '{MARK}tool\tcargo\t%s\n' "$(cargo --version | cut -d' ' -f2)"
printf '{MARK}tool\trustc\t%s\n' "$(rustc --version | cut -d' ' -f2)"
"""
# The index's configuration names the servers of the archives and of the interface.
FOLLOW = f"""for url in "$@"; do
  case $url in */config.json)
    curl -fsS --max-time 60 "$url" | grep -o '"https*://[^"]*"' | tr -d '"' |
    while read -r server; do printf '{MARK}endpoint\tcargo\t%s\tthe index\n' "$server"; done
  esac
done
"""


def recipe(specs: tuple[str, ...], _base: str) -> tuple[Phase, ...]:
    """Download what is to be compiled, then compile it, build scripts included, without writing to what is kept."""
    return fetch_and_install("cargo", _CACHE, specs, _DOWNLOAD, _INSTALL + CLEAN)


def again(specs: tuple[str, ...], packages: Sequence[Locked]) -> tuple[str, ...]:
    """Specs that ask for the locked versions of what was asked for; their own lock files pin the rest."""
    versions: dict[str, set[str]] = {}
    for package in packages:
        versions.setdefault(package.name.lower().replace("_", "-"), set()).add(package.version)
    found = []
    for spec in specs:
        name = spec.partition("@")[0]
        locked = versions.get(name.lower().replace("_", "-"), set())
        # A crate that others of the layer need in another version is there twice.
        found.append(f"{name}@{min(locked)}" if len(locked) == 1 else spec)
    return tuple(found)


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong with it) when the log tells."""
    return most_telling(_FAILURES, lines)


_FAILURES = (
    UNREACHED,
    (
        r"^error: could not find `(?P<package>[^`]+)` in registry .* with version `\*`",
        "the registry has no such crate",
    ),
    (r"^error: could not find `(?P<package>[^`]+)` in registry", "the registry has no such version"),
    (
        r"^error: there is nothing to install in `(?P<package>[^ `]+)",
        "it has no program: cargo installs programs alone",
    ),
    (
        r"^error: cannot install package `(?P<package>[^ `]+)[^`]*`, it requires rustc",
        "it needs a newer Rust than the base has",
    ),
    (r"^error: failed to run custom build command for `(?P<package>[^ `]+)", "its build script failed"),
    (r"^error: could not compile `(?P<package>[^`]+)`", "compiling it failed"),
    (
        r"^error: binary `[^`]+` already exists in destination as part of `(?P<package>[^ `]+)",
        "another crate of the list has a program of that name",
    ),
)
