"""gem: Ruby packages, installed from kept archives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pkgcache.environment import PREFIX
from pkgcache.recipe import CLEAN, UNREACHED, Phase, fetch_and_install, require, settle
from pkgcache.records import Locked
from pkgcache.report import MARK, most_telling
from pkgcache.specs import Spec, refuse

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_VERSION = r"[0-9]+(?:\.[0-9A-Za-z]+)*(?:-[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*)?"
_REQUIREMENT = rf"(?:~>|>=|<=|!=|=|>|<)?\s*{_VERSION}"


def parse(text: str) -> Spec:
    """`name`, `name:version` or `name:requirement` (`~> 7.1`, several joined by commas)."""
    name, colon, wanted = text.partition(":")
    if re.fullmatch(_NAME, name) is None:
        raise refuse("it is not a gem name", "write name or name:version")
    # RubyGems installs a local file when the argument ends so.
    if name.endswith(".gem"):
        raise refuse("files are not taken", "write name or name:version")
    if not colon:
        return Spec(name, name)
    parts = [part.strip() for part in wanted.split(",")]
    for part in parts:
        if re.fullmatch(_REQUIREMENT, part) is None:
            raise refuse(f"'{part}' is not a version requirement", "write name:7.1.0")
    folded = sorted({re.sub(r"\s+", "", part) for part in parts})
    return Spec(name, f"{name}:{','.join(folded)}")


_CACHE = "/var/cache/gem"
# What the first phase found out, for the second: lines of name, version and archive, what others need first.
_PLAN = "/var/tmp/gem-plan"

# `gem fetch` leaves out what a gem needs, so RubyGems' own resolver is asked, as its installer asks it, but for all
# packages together. Archives are kept apart by source: two sources may have different ones of the same name.
_RESOLVE = r"""require "rubygems"
require "rubygems/request_set"
require "rubygems/resolver"
require "digest"
require "fileutils"

def resolved(wanted)
  installer = Gem::Resolver::InstallerSet.new(:remote)
  wanted.each { |one| installer.add_always_install(one) }
  set = Gem::RequestSet.new
  set.import(wanted)
  set.always_install = installer.always_install
  set.remote = true
  set.resolve(installer)
  set.sorted_requests
end

kept, *specs = ARGV
wanted = specs.map do |spec|
  name, _, versions = spec.partition(":")
  Gem::Dependency.new(name, versions.empty? ? Gem::Requirement.default : versions.split(","))
end
begin
  begin
    requests = resolved(wanted)
  rescue Gem::DependencyResolutionError
    # One version of each gem does not do for all; `gem install` takes one after the other then, too.
    requests = wanted.flat_map { |one| resolved([one]) }
  end
  names = wanted.map(&:name)
  found = requests.reject { |one| !names.include?(one.name) && one.installed? }.map do |one|
    about = one.full_spec
    place = File.join(kept, "archives", Digest::SHA256.hexdigest(one.spec.source.uri.to_s)[0, 16])
    archive = File.join(place, about.file_name)
    unless File.exist?(archive)
      puts "fetching #{about.full_name}"
      FileUtils.mkdir_p(place)
      fetched = one.download("/tmp/fetched")
      FileUtils.mv(fetched, "#{archive}.#{$$}")
      File.rename("#{archive}.#{$$}", archive)
    end
    [about.name, about.version, archive].join("\t")
  end
  File.write("/tmp/found", found.join("\n") + "\n")
rescue Gem::Exception, SystemCallError, SocketError, Timeout::Error => error
  name = error.respond_to?(:dependency) ? error.dependency.name : error.message[/\A\S+(?= requires Ruby)/]
  puts "gem: #{name || wanted.first.name}: #{error.message.lines.first}"
  causes = error.respond_to?(:errors) && error.errors || []
  causes.each { |cause| puts "gem: #{cause.wordy}" if cause.respond_to?(:wordy) }
  exit 1
end
"""
# Below /usr/local, so that gems have one place on every base: Ruby looks there by itself, or it is its own place.
_INSTALL_DIRECTORY = r"""ENV["GEM_HOME"] ? Gem.dir :
  Gem.default_path.find { |path| path.start_with?("/usr/local/") } || Gem.default_dir"""

_DOWNLOAD = f"""{require("gem", "command -v gem")}{settle(_CACHE, _PLAN)}
cd /tmp && cat > /tmp/resolve.rb <<'END' || exit
{_RESOLVE}END
tool=$(ruby -e 'puts RUBY_VERSION, RUBY_PLATFORM, Gem.sources.to_a')
spec=$* && : > /tmp/found
ruby /tmp/resolve.rb {_CACHE} "$@" 2>&1 | tee /tmp/said
settle
"""
_INSTALL = f"""cd /tmp && place=$(ruby -e 'puts {_INSTALL_DIRECTORY}') || exit
awk -F '\\t' '!seen[$3]++' {_PLAN} > /tmp/plan || exit
cut -f 3 /tmp/plan > /tmp/archives
mkdir -p {PREFIX}/bin
xargs -d '\\n' gem install --local --ignore-dependencies --no-document --no-user-install \
  --install-dir "$place" --bindir {PREFIX}/bin < /tmp/archives || exit
while IFS="$(printf '\\t')" read -r name version archive; do
  printf '{MARK}package\\t%s\\t%s\\tsha256:%s\\n' "$name" "$version" "$(sha256sum < "$archive" | cut -d' ' -f1)"
done < /tmp/plan
"""

# RubyGems may ask another server for the index than the source's own; which, its resolver tells when it fetches.
PROBE = f"""command -v gem >/dev/null || exit 0
ruby - <<'END'
require "rubygems"
require "rubygems/remote_fetcher"
require "rubygems/source"

files = [Gem::ConfigFile::SYSTEM_WIDE_CONFIG_FILE, Gem.configuration.config_file_name]
from = files.find {{ |file| File.file?(file) && File.read(file).include?(":sources:") }} || "built-in default"
asked = []
Gem::RemoteFetcher.class_eval do
  define_method(:fetch_path) {{ |address, *| asked << address.to_s; raise "asked" }}
end
Gem.sources.each_source do |source|
  asked << source.uri.to_s
  begin
    source.dependency_resolver_set
  rescue StandardError
    nil
  end
end
asked.each {{ |address| puts ["{MARK}endpoint", "gem", address, from].join("\\t") }}
puts ["{MARK}tool", "ruby", RUBY_VERSION].join("\\t"), ["{MARK}tool", "gem", Gem::VERSION].join("\\t")
END
"""
FOLLOW = ""


def recipe(specs: tuple[str, ...], _base: str) -> tuple[Phase, ...]:
    """Fetch with the network, then install, extensions included, without writing to what is kept."""
    return fetch_and_install("gem", _CACHE, specs, _DOWNLOAD, _INSTALL + CLEAN)


def again(specs: tuple[str, ...], packages: Sequence[Locked]) -> tuple[str, ...]:
    """The locked gems, each by its version; a gem that is there in several versions as it was asked for, if it was."""
    versions: dict[str, set[str]] = {}
    for package in packages:
        versions.setdefault(package.name, set()).add(package.version)
    asked = {parse(spec).name: spec for spec in specs}
    pinned = [f"{name}:{min(found)}" for name, found in versions.items() if len(found) == 1]
    return (*pinned, *(spec for name, spec in asked.items() if len(versions.get(name, ())) != 1))


def explain(lines: Sequence[str]) -> tuple[str, str] | None:
    """(package, what is wrong with it) when the log tells."""
    return most_telling(_FAILURES, lines)


_FAILURES = (
    UNREACHED,
    (
        r"^ERROR:  Error installing (?:\S*/)?(?P<package>[A-Za-z0-9_][A-Za-z0-9._-]*?)-[0-9][^/\s]*\.gem:$",
        "installing it failed; perhaps its extension could not be compiled",
    ),
    (
        r"^gem: (?P<package>[A-Za-z0-9_][A-Za-z0-9._-]*): .*(?:not find|Unable to resolve)",
        "no source has such a gem or version",
    ),
    (
        r"^gem: (?P<package>[A-Za-z0-9_][A-Za-z0-9._-]*): .*requires Ruby",
        "it needs another Ruby than the base has",
    ),
    (r"^gem: (?P<package>[A-Za-z0-9_][A-Za-z0-9._-]*): ", "it could not be fetched"),
)
