"""gem: Ruby packages. The specs are read; installing them is not there yet."""

from __future__ import annotations

import re

from pkgcache.report import MARK
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
