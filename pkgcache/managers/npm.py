"""npm: packages installed globally beneath /usr/local."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.environment import PREFIX
from pkgcache.recipe import CLEAN, OFFLINE, SEALABLE, TOOLS, Cache, Phase, require
from pkgcache.records import Locked
from pkgcache.report import MARK, first_told
from pkgcache.specs import Spec, refuse

# https://docs.npmjs.com/cli/configuring-npm/package-json#name; old packages have capitals.
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._~-]*"
_NAME = rf"(?:@{_PART}/)?{_PART}"
_RANGE = r"[0-9A-Za-z.^~<>=|*+ -]+"
# npm takes a name or a tag that ends so for a file in the working directory.
_FILE = (".tgz", ".tar.gz", ".tar")


def parse(text: str) -> Spec:
    """`name`, `@scope/name`, and either with `@version`, `@range` or `@tag`."""
    at = text.find("@", 1)
    name, wanted = (text, None) if at < 0 else (text[:at], text[at + 1 :])
    if re.fullmatch(_NAME, name) is None or len(name) > 214:
        if ":" in text or "/" in text:
            raise refuse(
                "addresses, repositories and paths are not taken", "write name@version from the registry"
            )
        raise refuse("it is not an npm package name", "write name, name@version or @scope/name@range")
    if name.startswith(("-", ".")) or name.lower().endswith(_FILE):
        raise refuse("npm would take it for a file")
    if wanted is None:
        return Spec(name, name)
    wanted = re.sub(r"\s+", " ", wanted.strip())
    if ":" in wanted or "/" in wanted:
        raise refuse(
            "addresses, repositories, paths and aliases are not taken", "write a version, a range or a tag"
        )
    if re.fullmatch(_RANGE, wanted) is None:
        raise refuse(f"'{wanted}' is not a version, range or tag", "write name@1.2.3 or name@^1.2")
    if wanted.startswith((".", "-")) or wanted.lower().endswith(_FILE):
        raise refuse("npm would take it for a file")
    return Spec(name, f"{name}@{wanted}")


_CACHE = "/var/cache/npm"
_OPTIONS = f"--prefix {PREFIX} --no-audit --no-fund --no-update-notifier --logs-max=0 --yes"

_TOLD = "/tmp/told.js"
# npm itself tells what it installed, and goes on with the packages' own scripts where the cache can be closed before:
# starting it again takes as long as many installs. `npm.exec` is how npm says that it is used by programs; where that
# is not to be found, it tells as it ends, and the scripts are run by another. What is there is read from the packages'
# own files.
#
# npm keeps no record of the hashes of global packages. Its cache does, under each archive's address, which is the same
# on every registry that does as the public one; where it is another, nothing is found and no hash is told. Which
# registry a package is from, the addresses of the documents tell that npm says it has read.
_TELL = f"""const fs = require("fs");
const path = require("path");
const crypto = require("crypto");
const child = require("child_process");
const read = [];
// What is fetched from a repository may want to be built first: older versions run that whatever they are told.
let shut = false;
const spawn = child.spawn;
child.spawn = function (file, ...rest) {{
  if (!shut && path.basename(String(file)) !== "git") throw new Error(file + " is not run while packages are fetched");
  return spawn.call(this, file, ...rest);
}};
const sealable = process.env.{SEALABLE};
delete process.env.{SEALABLE};
const others = (process.env.NODE_OPTIONS || "").replace(/ *--require=\\S*$/, "");
if (others) process.env.NODE_OPTIONS = others;
else delete process.env.NODE_OPTIONS;
process.on("log", (level, ...words) => {{
  if (level !== "http") return;
  for (const [address] of words.join(" ").matchAll(/https?:\\/\\/\\S+/g)) read.push(address.replace(/%2f/gi, "/"));
}});
function visit(directory, each) {{
  let entries = [];
  try {{ entries = fs.readdirSync(directory, {{ withFileTypes: true }}); }} catch {{ return; }}
  for (const entry of entries) {{
    const place = path.join(directory, entry.name);
    if (!entry.isDirectory() || entry.name.startsWith(".")) continue;
    if (entry.name.startsWith("@")) {{ visit(place, each); continue; }}
    let about;
    try {{ about = JSON.parse(fs.readFileSync(path.join(place, "package.json"), "utf8")); }} catch {{ continue; }}
    // What a package says of itself is told as one word each.
    if (![about.name, about.version].every((word) => typeof word === "string" && /^[!-~]+$/.test(word))) continue;
    each(place, about);
    visit(path.join(place, "node_modules"), each);
  }}
}}
function kept(address) {{
  const key = "make-fetch-happen:request-cache:" + address;
  const name = crypto.createHash("sha256").update(key).digest("hex");
  const index = path.join("{_CACHE}/_cacache/index-v5", name.slice(0, 2), name.slice(2, 4), name.slice(4));
  let lines = [];
  try {{ lines = fs.readFileSync(index, "utf8").split("\\n"); }} catch {{ return ""; }}
  let hash = "";
  for (const line of lines) {{
    let entry;
    try {{ entry = JSON.parse(line.slice(line.indexOf("\\t") + 1)); }} catch {{ continue; }}
    const sum = /^sha512-([A-Za-z0-9+/=]+)$/.exec(entry.integrity || "");
    if (entry.key === key && sum) hash = "sha512:" + Buffer.from(sum[1], "base64").toString("hex");
  }}
  return hash;
}}
let told = false;
// What is there now, once; returns whether some of it has scripts.
function tell() {{
  told = true;
  const found = [];
  visit("{PREFIX}/lib/node_modules", (place, about) => found.push([place, about]));
  const registries = Object.create(null);
  for (const address of read) {{
    // As long as a name may be: one after another is tried, so that this takes no longer with more packages.
    for (let at = address.lastIndexOf("/"), n = 0; n < 2; at = address.lastIndexOf("/", at - 1), n++) {{
      registries[address.slice(at + 1)] = address.slice(0, at + 1);
    }}
  }}
  const all = [...new Set(found.map(([, about]) => registries[about.name]).filter(Boolean))];
  let scripts = false;
  for (const [place, about] of found) {{
    const file = about.name.split("/").pop() + "-" + about.version + ".tgz";
    const own = registries[about.name];
    const hash = (own ? [own] : all).map((from) => kept(from + about.name + "/-/" + file)).find(Boolean) || "";
    console.log("{MARK}package\\t" + about.name + "\\t" + about.version + "\\t" + hash);
    const commands = about.scripts || {{}};
    // A package with binding.gyp and no install script has one by implication.
    if (commands.preinstall || commands.install || commands.postinstall) scripts = true;
    if (fs.existsSync(path.join(place, "binding.gyp"))) scripts = true;
  }}
  return scripts;
}}
const next = () => console.log("{MARK}phase\\tscripts");
async function closed() {{
  console.log("{MARK}seal");
  const there = () => fs.readFileSync("/proc/self/mountinfo", "utf8").includes(" {_CACHE} ");
  if (!there()) return false;
  for (let left = 2000; left; left--) {{
    // It is read-only before it is no longer there.
    if (!there()) return (shut = true);
    await new Promise((done) => setTimeout(done, 5));
  }}
  return false;
}}
async function scripts(npm, exec) {{
  for (const [name, value] of [["ignore-scripts", false], ["foreground-scripts", true], ["cache", "/tmp/npm"]]) {{
    npm.config.set(name, value);
  }}
  npm.config.setEnvs();
  delete process.env.npm_config_ignore_scripts;
  await exec.call(npm, "rebuild", []);
}}
if (sealable) {{
  try {{
    const root = path.dirname(path.dirname(fs.realpathSync(process.argv[1])));
    const Npm = require(path.join(root, "lib", "npm.js"));
    const exec = Npm.prototype.exec;
    Npm.prototype.exec = async function (name, words) {{
      await exec.call(this, name, words);
      if (told || process.exitCode || !tell()) return;
      if (typeof this.config.setEnvs === "function" && await closed()) await scripts(this, exec);
      else next();
    }};
  }} catch (error) {{ console.log("npm's scripts are run apart: " + error.message); }}
}}
process.on("exit", (code) => {{
  if (!code && !told && tell()) next();
}});
"""
# Fetched and unpacked first, with the cache at hand but no code of packages running; then their scripts, without it.
_INSTALL = f"""{require("npm", "{ command -v node && command -v npm; }")}\
test -z "${OFFLINE}" || export npm_config_offline=true
cat > {_TOLD} <<'END'
{_TELL}END
NODE_OPTIONS="${{NODE_OPTIONS:+$NODE_OPTIONS }}--require={_TOLD}" npm install --global {_OPTIONS} --cache {_CACHE} \\
  --ignore-scripts --loglevel=http -- "$@"
"""
_SCRIPTS = f"""npm rebuild --global {_OPTIONS} --cache /tmp/npm --foreground-scripts --loglevel=notice
status=$?
"""

# `npm config ls` heads the settings of each file with a line that quotes its path.
PROBE = f"""command -v npm >/dev/null || exit 0
npm config ls | awk -v FS='"' '
  /^; ".*" config from / {{ source = $0; sub(/^; ".*" config from /, "", source); gsub(/"/, "", source) }}
  /^(@[^ ]*:)?registry = "/ {{ printf "%sendpoint\\tnpm\\t%s\\t%s\\n", "{MARK}", $2, source; if (!/^@/) found = 1 }}
  END {{ exit !found }}
' || printf '{MARK}endpoint\tnpm\t%s\tbuilt-in default\n' "$(npm config get registry)"
printf '{MARK}follow\tnpm\tregistry\n'
printf '{MARK}tool\tnode\t%s\n{MARK}tool\tnpm\t%s\n' "$(node --version)" "$(npm --version)"
"""
# The registry's documents name the server of the archives; npm itself is on every public registry and its mirrors.
FOLLOW = f"""archive=$(npm view npm dist.tarball --cache /tmp/npm --logs-max=0)
printf '{MARK}endpoint\tnpm\t%s\tthe registry\n' "$archive"
"""


def recipe(specs: tuple[str, ...], _base: str) -> tuple[Phase, ...]:
    """Unpack with the cache at hand, then run the packages' own scripts, if there are any, without it."""
    cache = Cache("npm", _CACHE, writable=True, private=True)
    return (
        Phase(
            "install",
            TOOLS + _INSTALL + "status=$?\n" + CLEAN + "exit $status\n",
            specs,
            True,
            (cache,),
            apart=True,
            seals=True,
        ),
        Phase("scripts", _SCRIPTS + CLEAN + "exit $status\n", (), kept=True, asked=True),
    )


def again(specs: tuple[str, ...], packages: Sequence[Locked]) -> tuple[str, ...]:
    """What to install to get these very packages.

    npm takes no lock for global packages, and not every registry tells when a version came. So what was asked for is
    pinned; what that needs in turn is resolved again.
    """
    versions: dict[str, list[str]] = {}
    for package in packages:
        versions.setdefault(package.name, []).append(package.version)
    pinned = []
    for spec in specs:
        name = parse(spec).name
        known = versions.get(name, [])
        # Of several versions, all but one belong to other packages; which, the record does not tell.
        pinned.append(f"{name}@{known[0]}" if len(known) == 1 else spec)
    return tuple(pinned)


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong with it) when the log tells."""
    told = first_told(_FAILURES, lines)
    return None if told is None else (told[0].replace("%2f", "/"), told[1])


_FAILURES = (
    (
        r"npm (?:ERR!|error) request to \S+?//[^/\s]+/(?:\S+/)?(?P<package>(?:@[^/\s]+/)?[^/\s]+)/-/\S+ failed: "
        r"cache mode",
        "it is not kept",
    ),
    (
        r"npm (?:ERR!|error) request to \S+?//[^/\s]+/(?:\S+/)?(?P<package>[^/\s]+) failed: cache mode",
        "it is not kept",
    ),
    (r"notarget No matching version found for (?P<package>@?[^@\s]+)@", "the registry has no such version"),
    (r"404\s+'(?P<package>@?[^@'\s]+)@[^']*' is not in this registry", "the registry has no such package"),
    (r"404\s+'(?P<package>@?[^@'\s]+)@[^']*' is not in the npm registry", "the registry has no such package"),
    (r"npm (?:ERR!|error) path \S*/node_modules/(?P<package>(?:@[^/\s]+/)?[^/\s]+)$", "its scripts failed"),
)
