"""go: programs, compiled from their modules; a module that is no program is kept for sessions to import."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.environment import GO_MODULES, PREFIX
from pkgcache.recipe import CLEAN, UNREACHED, Phase, fetch_and_install, require, settle
from pkgcache.records import Locked
from pkgcache.report import MARK, most_telling
from pkgcache.specs import Spec, refuse

# https://go.dev/ref/mod#go-mod-file-ident: an element neither begins nor ends with a dot.
_ELEMENT = r"[A-Za-z0-9_~-](?:[A-Za-z0-9._~+-]*[A-Za-z0-9_~+-])?"
_HOST = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+"
_VERSION = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
# What `go get` takes for a change to a module that is there already.
_QUERIES = ("none", "patch", "upgrade")


def parse(text: str) -> Spec:
    """`path@version`, the path as it is imported; no version means `latest`."""
    path, at, version = text.partition("@")
    if re.fullmatch(rf"{_HOST}(?:/{_ELEMENT})*", path) is None:
        raise refuse("it is not an import path of a module", "write host/path@version")
    if not at:
        version = "latest"
    if re.fullmatch(_VERSION, version) is None or version in _QUERIES:
        raise refuse(f"'{version}' is not a version", "write path@latest or path@v1.2.3")
    return Spec(path, f"{path}@{version}")


_CACHE = "/var/cache/go"
_MODULES = f"{_CACHE}/mod"
# What the first phase found out, for the second: lines of kind, path, version and toolchain ("-" for Go's own).
_PLAN = "/var/tmp/go-plan"

# The file of settings is named outright, so that what Go notes about itself can be sent elsewhere than beside it.
_SETTINGS = r"""export GOENV="${GOENV:-${XDG_CONFIG_HOME:-$HOME/.config}/go/env}"
export XDG_CONFIG_HOME=/tmp/config GOPATH=/tmp/gopath GOCACHE=/var/tmp/gocache
flags=$(go env GOFLAGS) || exit
escaped() { printf %s "$1" | sed 's/[A-Z]/!&/g' | tr A-Z a-z; }
library() {
  rm -rf /tmp/module && mkdir -p /tmp/module && cd /tmp/module && go mod init module.invalid/m 2>/dev/null &&
  go get "$1@$2" && go get "$1/...@$2"
}
"""
# What `go install -n` would do tells the version of the module that the package is in, and the toolchain that Go
# changed to: among its files, the first one whose path is the package's own, less a version, is in that module.
_RESOLVED = r"""resolved() {
  awk -v modules="$GOMODCACHE/" -v path="$(escaped "$path")" -v named="$path" '
    BEGIN {
      toolchain = "-"
      count = split(path, part, "/")
      for (i = 1; i <= count; i++) {
        head[i] = (i > 1 ? head[i - 1] "/" : modules) part[i]
        tail[i] = substr(modules path, length(head[i]) + 1)
      }
    }
    toolchain == "-" && match($0, /golang\.org\/toolchain@v0\.0\.1-go[0-9a-z.]*\.linux-/) {
      toolchain = substr($0, RSTART, RLENGTH)
      sub(/.*@v0\.0\.1-/, "", toolchain)
      sub(/\.linux-$/, "", toolchain)
    }
    {
      for (i = count; i && version == ""; i--) {
        at = index($0, head[i] "@")
        if (!at) continue
        rest = substr($0, at + length(head[i]) + 1)
        match(rest, /^[^\/ ]*/)
        found = substr(rest, 1, RLENGTH)
        rest = substr(rest, RLENGTH + 1)
        if (rest == tail[i] || index(rest, tail[i] "/") == 1) version = found
      }
    }
    END {
      while (match(version, /![a-z]/))
        version = substr(version, 1, RSTART - 1) toupper(substr(version, RSTART + 1, 1)) substr(version, RSTART + 2)
      if (version == "") exit 1
      printf "%s\tprogram\t%s\t%s\n", named, version, toolchain
    }
  ' /tmp/said
}
no_program() {
  awk -v path="$path" '
    /^package .* is not a main package$/ { yes = 1 }
    # The path is a module all of whose packages are further down.
    index($0, "module " path "@") && substr($0, length($0) - length(path)) == " " path { yes = 1 }
    END { exit !yes }
  ' /tmp/said
}
resolved_library() {
  version=$(go list -m -f '{{.Version}}' "$path" 2>/dev/null || go list -f '{{.Module.Version}}' "$path") || return
  toolchain=$(go env GOVERSION)
  test "$toolchain" != "$(cd /tmp && go env GOVERSION)" || toolchain=-
  printf '%s\tlibrary\t%s\t%s\n' "$path" "$version" "$toolchain"
}
"""
# Everything that compiling needs is loaded, and so downloaded and verified as Go is set up to, but not compiled.
# What a query like `latest` came to is kept, for when the servers can't be asked.
_DOWNLOAD = f"""{require("go", "command -v go")}{_SETTINGS}{_RESOLVED}{settle(_CACHE, _PLAN)}
export GOMODCACHE={_MODULES} GOFLAGS="$flags -modcacherw"
tool=$(go env GOVERSION)
for spec in "$@"; do
  path=${{spec%@*}}
  cd /tmp && : > /tmp/found || exit
  {{ go install -n "$spec" 2>&1; echo $? > /tmp/status; }} | tee /tmp/said |
    sed -un -e '/^go: /p' -e '/^package /p' -e '/^\tserver/p'
  if test "$(cat /tmp/status)" = 0; then
    resolved > /tmp/found
  elif no_program; then
    echo "$path is no program: kept for import"
    library "$path" "${{spec##*@}}" > /tmp/said 2>&1
    status=$?
    cat /tmp/said
    test $status != 0 || resolved_library > /tmp/found
  fi
  settle
done
"""
# A module of the layer is read from the kept ones as from any proxy. All that is used was verified as it was
# downloaded: in the phase before or, without a network, when it was kept. Asked again, the checksum database wants
# the proof for the tree as it is by now, parts of which may not be here.
_INSTALL = f"""{_SETTINGS}
export GOSUMDB=off
record() {{
  archive={_MODULES}/cache/download/$(escaped "$1")/@v/$(escaped "$2").zip
  test -e "$archive" || return 0
  printf '{MARK}package\\t%s\\t%s\\tsha256:%s\\n' "$1" "$2" "$(sha256sum < "$archive" | cut -d' ' -f1)"
}}
mkdir -p {PREFIX}/bin
while IFS="$(printf '\\t')" read -r path kind version toolchain; do
  test "$toolchain" = - || export GOTOOLCHAIN="$toolchain"
  test "$toolchain" != - || unset GOTOOLCHAIN
  export GOPROXY=file://{_MODULES}/cache/download GOMODCACHE={_MODULES} GOFLAGS="$flags"
  cd /tmp
  if test $kind = program; then
    rm -rf /tmp/bin
    GOBIN=/tmp/bin go install "$path@$version" || exit
    for program in /tmp/bin/*; do
      if test -e "/tmp/made/${{program##*/}}"; then
        echo "go: $path@$version: another package has a program called ${{program##*/}} too"
        exit 1
      fi
      mkdir -p /tmp/made && : > "/tmp/made/${{program##*/}}"
      go version -m "$program" | awk -F '\\t' '$2 == "mod" || $2 == "dep" {{ print $3 "\\t" $4 }}' > /tmp/modules
      mv -f "$program" {PREFIX}/bin/ || exit
    done
  else
    export GOMODCACHE={GO_MODULES} GOFLAGS="$flags -modcacherw"
    mkdir -p {GO_MODULES}/cache/download
    test -e {GO_MODULES}/cache/download/sumdb || test ! -e {_MODULES}/cache/download/sumdb ||
      cp -r {_MODULES}/cache/download/sumdb {GO_MODULES}/cache/download/ || exit
    library "$path" "$version" || exit
    go list -m -f '{{{{if .Dir}}}}{{{{.Path}}}}\t{{{{.Version}}}}{{{{end}}}}' all > /tmp/modules || exit
  fi
  while IFS="$(printf '\\t')" read -r name version; do
    test -z "$version" || record "$name" "$version"
  done < /tmp/modules
done < {_PLAN}
"""

# GOPROXY is a list with words among the addresses; GOSUMDB is a name, perhaps with a key and an address of its own.
PROBE = f"""command -v go >/dev/null || exit 0
from() {{
  file=$(go env GOENV)
  if grep -qs "^$1=" "$file"; then echo "$file"; else echo 'built-in default'; fi
}}
for url in $(go env GOPROXY | tr ',|' '  '); do
  printf '{MARK}endpoint\tgo\t%s\t%s\n' "$url" "$(from GOPROXY)"
done
set -- $(go env GOSUMDB)
test "${{1:-off}}" = off || printf '{MARK}endpoint\tgo\t%s\t%s\n' "${{2:-https://${{1%%+*}}}}" "$(from GOSUMDB)"
printf '{MARK}tool\tgo\t%s\n' "$(go env GOVERSION | sed 's/^go//')"
"""
FOLLOW = ""


def recipe(specs: tuple[str, ...], _base: str) -> tuple[Phase, ...]:
    """Download what is to be compiled, then compile it without writing to what is kept."""
    return fetch_and_install("go", _CACHE, specs, _DOWNLOAD, _INSTALL + CLEAN)


def again(specs: tuple[str, ...], packages: Sequence[Locked]) -> tuple[str, ...]:
    """Specs that ask for the locked versions of the modules that they are in; those pin the rest."""
    versions: dict[str, set[str]] = {}
    for package in packages:
        versions.setdefault(package.name, set()).add(package.version)
    found = []
    for spec in specs:
        path = spec.partition("@")[0]
        inside = [name for name in versions if path == name or path.startswith(f"{name}/")]
        locked = versions[max(inside, key=len)] if inside else set()
        found.append(f"{path}@{min(locked)}" if len(locked) == 1 else spec)
    return tuple(found)


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong with it) when the log tells."""
    return most_telling(_FAILURES, lines)


_FAILURES = (
    UNREACHED,
    (
        r"^go: (?P<package>[^\s@:]+)@\S+: another package has a program",
        "another package has a program of that name",
    ),
    (
        r"^go: (?P<package>[^\s@:]+)@\S+ requires go .*GOTOOLCHAIN=local",
        "it needs a newer Go than the base has",
    ),
    (
        r"^go: module \S+ found.*, but does not contain package (?P<package>\S+)$",
        "its module has no such package",
    ),
    (
        r"^go: (?P<package>[^\s@:]+)@\S+: module \S+ found.*, but does not contain package",
        "its module has no such package",
    ),
    (r"^go: (?P<package>[^\s@:]+)@\S+: ", "there is no such module or version"),
    (r"^# (?P<package>[a-z0-9.-]+\.[a-z0-9-]+(?:/\S+)?)$", "compiling it failed"),
)
