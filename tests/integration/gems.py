"""A gem source of our own: gems made by the base's RubyGems, served over TLS as a compact index serves them."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trustme

from netpolicy.policy import ConnectTo
from pkgcache.runner import Endpoint, Job, Mount, Result, Root, Runner
from sandbox.trust import host_bundle
from tests.integration.layers import Place

HOST = "gems.test"
KEPT = "/var/cache/gem"
NPM_KEPT = "/var/cache/npm"

# A program and a library, a C extension that it needs, one whose compilation fails, and one
# that puts programs of its own before those of other managers.
MAKE = f"""set -e
export HOME=/tmp
mkdir -p /tmp/make/bin /tmp/make/lib /tmp/make/ext/native /srv/gems/gems /srv/gems/info /srv/gems/quick/Marshal.4.8
cd /tmp/make
printf '#!/usr/bin/env ruby\\nrequire "greeting"\\nputs Greeting.text\\n' > bin/greet
cat > lib/greeting.rb <<'END'
require "native/native"
module Greeting
  VERSION = Gem.loaded_specs["greeting"].version.to_s
  def self.text = "greeting #{{VERSION}}, #{{Native.answer}}"
end
END
cat > ext/native/native.c <<'END'
#include <ruby.h>
static VALUE answer(VALUE self) {{ return INT2FIX(42); }}
void Init_native(void) {{ rb_define_singleton_method(rb_define_module("Native"), "answer", answer, 0); }}
END
cat > ext/native/extconf.rb <<'END'
require "mkmf"
begin
  File.write("{KEPT}/written", "by a package")
  abort "the kept downloads can be written"
rescue SystemCallError
  # As it must be.
end
create_makefile("native/native")
END
mkdir ext/false && cat > ext/false/extconf.rb <<'END'
require "mkmf"
for name in ["npm", "ruby", "node"]
  lines = ["#!/bin/sh", "touch {NPM_KEPT}/written {KEPT}/written", "exec /usr/bin/#{{name}} " + %q("$@")]
  File.write("/usr/local/bin/#{{name}}", lines.join(10.chr) + 10.chr)
  File.chmod(0o755, "/usr/local/bin/#{{name}}")
end
File.write("Makefile", dummy_makefile(".").join)
END
mkdir ext/broken && echo 'abort "no such compiler"' > ext/broken/extconf.rb
gemspec() {{
  cat > $1.gemspec <<END
Gem::Specification.new do |s|
  s.name = "$1"; s.version = "$2"; s.summary = "a test"; s.authors = ["us"]; s.licenses = ["MIT"]; s.homepage = "https://{HOST}"
  $3
end
END
  gem build --silent $1.gemspec && mv $1-$2.gem /srv/gems/gems/
}}
for version in 1.0.0 1.1.0 2.0.0.pre1; do
  gemspec greeting $version 's.files = ["lib/greeting.rb", "bin/greet"]; s.bindir = "bin"; s.executables = ["greet"]
    s.add_dependency "native", "~> 1.0"'
done
gemspec older 1.0.0 's.add_dependency "greeting", "1.0.0"'
for version in 1.0.2 1.0.3; do
  gemspec native $version 's.files = Dir["ext/native/*"]; s.extensions = ["ext/native/extconf.rb"]'
done
gemspec false 1.0.0 's.files = Dir["ext/false/*"]; s.extensions = ["ext/false/extconf.rb"]'
gemspec broken 1.0.0 's.files = Dir["ext/broken/*"]; s.extensions = ["ext/broken/extconf.rb"]'
ruby - <<'END'
require "digest"
require "rubygems/package"
lines = Hash.new {{ |all, name| all[name] = ["---"] }}
Dir["/srv/gems/gems/*.gem"].sort.each do |path|
  spec = Gem::Package.new(path).spec
  needs = spec.runtime_dependencies.map {{ |need| "#{{need.name}}:#{{need.requirement.to_s.gsub(", ", "&")}}" }}
  lines[spec.name] << "#{{spec.version}} #{{needs.join(",")}}|checksum:#{{Digest::SHA256.file(path).hexdigest}}"
  File.binwrite("/srv/gems/quick/Marshal.4.8/#{{spec.full_name}}.gemspec.rz", Gem.deflate(Marshal.dump(spec)))
end
lines.each {{ |name, all| File.write("/srv/gems/info/#{{name}}", all.join("\\n") + "\\n") }}
File.write("/srv/gems/versions", "created_at: 2026-01-01T00:00:00Z\\n---\\n")
END
"""


class Source(NamedTuple):
    """A source that is served: what leads there, what trusts it, and the file that configures it."""

    connect_to: ConnectTo
    environment: dict[str, str]
    configuration: str
    asked: list[str]

    def runner(self, place: Place, *, network: bool = True) -> Runner:
        """The real runner, in a base whose RubyGems is set up for this source."""
        run = place.runner((self.connect_to,), self.environment)
        server = Endpoint("gem", "https", HOST, 443, "/etc/gemrc")

        def configured(job: Job) -> Result:
            others = tuple(each for each in job.endpoints if each.manager != "gem")
            return run(
                job._replace(
                    endpoints=(*others, server) if network and job.endpoints else (),
                    mounts=(*job.mounts, Mount(self.configuration, "/etc/gemrc")),
                )
            )

        return configured


@contextlib.contextmanager
def source(place: Place, base: str, folder: Path) -> Iterator[Source]:
    """Make the gems in the base whose root this is, and serve them until the end of the block."""
    content = folder / "gems"
    content.mkdir()
    said = bytearray()
    job = Job(
        Root(base),
        ("/bin/sh", "-c", MAKE),
        mounts=(Mount(str(content), "/srv/gems", writable=True),),
        timeout_s=300,
        output=said.extend,
    )
    assert place.run_job(job).exit_code == 0, said.decode()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    bundle = folder / "ca.pem"
    bundle.write_bytes(host_bundle(os.environ) + authority.cert_pem.bytes())
    configuration = folder / "gemrc"
    configuration.write_text(f":sources:\n- https://{HOST}/\n")
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, form: str, *arguments: object) -> None:
            asked.append(form % arguments)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(content))
    ) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        try:
            yield Source(
                ConnectTo(HOST, 443, "127.0.0.1", port),
                {**os.environ, "SSL_CERT_FILE": str(bundle)},
                str(configuration),
                asked,
            )
        finally:
            server.shutdown()
            thread.join()
