"""Debian packages whose installation scripts ask a lot of a system, in either id mode, and what works afterwards.

Two sets: one for every run, and with `-m torture` one that takes minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgcache.image import Image
from pkgcache.resolve import read_layer
from tests.integration.layers import Place
from tests.integration.test_layers import MODES, never, place_of

pytestmark = pytest.mark.timeout(1200)

# A database server, a mail agent, a message bus, an ssh server, diversions of programs that are there, set-id programs.
EVERY_RUN = ("dbus", "exim4-daemon-light", "molly-guard", "openssh-server", "postgresql", "sudo")
TORTURE = (
    *EVERY_RUN,
    "apache2",
    "bind9",
    "cron",
    "default-jre-headless",
    "dictionaries-common",
    "emacs-nox",
    "fontconfig",
    "mariadb-server",
    "slapd",
    "systemd-sysv",
    "texlive-base",
    "udev",
    "wamerican",
)
# Two packages that can't be installed beside those.
OTHERS = ("postfix", "rsyslog")

WHOLE = "dpkg --audit; dpkg -l | awk 'NR > 5 && $1 != \"ii\"'"


@pytest.fixture(params=MODES)
def place(request: pytest.FixtureRequest, data_dir: Path) -> Place:
    return place_of(request.param, data_dir)


@pytest.fixture
def image(place: Place) -> Image:
    return place.build("debian-minimal", {"apt": list(EVERY_RUN)})


def ok(place: Place, image: Image, script: str) -> str:
    code, said = place.run(image, f"set -e\n{script}")
    assert code == 0, said
    return said


def test_every_package_is_installed_and_no_service_started(place: Place, image: Image) -> None:
    assert ok(place, image, WHOLE) == ""
    log = Path(place.store.layer(image.keys[0]), "log").read_text()
    assert "invoke-rc.d: policy-rc.d denied" in log
    installed = {
        package.name.partition(":")[0] for package in read_layer(place.store, image.keys[0]).packages
    }
    assert set(EVERY_RUN) <= installed
    turned = {"apt": list(reversed(EVERY_RUN))}
    assert place.build("debian-minimal", turned, runner=never) == image


def test_the_programs_run(place: Place, image: Image) -> None:
    said = ok(
        place,
        image,
        """test -e /etc/ssh/ssh_host_ed25519_key; mkdir -p /run/sshd /run/dbus; sshd -t
        dbus-daemon --system --fork
        dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId | grep -c string
        exim4 -bV | head -n 1
        sudo -n id -u""",
    )
    lines = said.splitlines()
    assert (lines[0], lines[-1]) == ("1", "0") and "Exim version" in lines[1], said


def test_modes_and_owners_are_those_of_the_packages(place: Place, image: Image) -> None:
    """With a single id all owners are one; set-id stays on the file in both."""
    said = ok(place, image, "stat -c '%a %U:%G' /usr/bin/sudo /usr/bin/ssh-agent /var/spool/exim4")
    owners = (
        ["4755 root:root", "2755 root:_ssh", "750 Debian-exim:Debian-exim"]
        if place.mode == "range"
        else ["4755 root:root", "2755 root:root", "750 root:root"]
    )
    assert said.splitlines() == owners


def test_what_was_diverted_is_beside(place: Place, image: Image) -> None:
    said = ok(place, image, "readlink /usr/sbin/reboot; dpkg-divert --truename /usr/sbin/reboot")
    assert said.splitlines() == ["../lib/molly-guard/molly-guard", "/usr/sbin/reboot.no-molly-guard"]


def test_a_database_server_serves(data_dir: Path) -> None:
    """It refuses to be user 0, so this takes a range of ids."""
    place = place_of("range", data_dir)
    image = place.build("debian-minimal", {"apt": list(EVERY_RUN)})
    script = """version=$(ls /usr/lib/postgresql)
    pg_ctlcluster "$version" main start
    su postgres -c 'psql -Atc "select 20 + 1"'"""
    assert ok(place, image, script) == "21\n"


@pytest.mark.torture
def test_a_whole_server_is_installed(place: Place) -> None:
    image = place.build("debian-minimal", {"apt": list(TORTURE)})
    assert ok(place, image, WHOLE) == ""
    said = ok(
        place,
        image,
        r"""java -version 2>&1 | head -n 1
        keytool -list -cacerts -storepass changeit | grep -c trustedCertEntry
        cd /tmp; printf '\\relax hello \\bye' > a.tex; tex a.tex | grep -c 'a.dvi'
        emacs --batch --eval '(princ (+ 1 2))' 2>/dev/null; echo
        slapcat 2>/dev/null | grep -c 'dn: '
        test -e /var/lib/mysql/ibdata1
        apache2ctl -t 2>&1 | tail -n 1
        named-checkconf; echo checked""",
    )
    lines = said.splitlines()
    assert "openjdk" in lines[0] and int(lines[1]) > 50
    assert lines[2:] == ["1", "3", "1", "Syntax OK", "checked"]


@pytest.mark.torture
def test_another_mail_agent_is_installed(place: Place) -> None:
    image = place.build("debian-minimal", {"apt": list(OTHERS)})
    assert ok(place, image, WHOLE) == ""
    assert ok(place, image, "postconf mail_version").startswith("mail_version = ")
