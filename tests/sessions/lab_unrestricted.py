"""Checks of a whole unrestricted session on a host whose whole Internet is a namespace beside it.

Run as root of new network and mount namespaces with the data directory and options of sandboxsh as arguments;
writes "all held" at the end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.netpolicy.lab_unrestricted import (
    OPENED,
    OWN,
    PRIVATE,
    PUBLIC,
    PUBLIC_V6,
    ip,
    move,
)
from tests.sessions.running import PYTHON, Sandbox

INSIDE = """
import socket, sys
def tcp(host, port):
    try:
        with socket.create_connection((host, port), timeout=10) as client:
            client.settimeout(10)
            return client.recv(100).decode().strip() or 'closed'
    except OSError as error: return type(error).__name__
def udp(host, port):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        try: client.connect((host, port)); client.send(b'x'); return client.recv(100).decode()
        except OSError as error: return type(error).__name__
for target in sys.argv[1:]:
    kind, host, port = target.split('/')
    print(target, {'tcp': tcp, 'udp': udp}[kind](host, int(port)))
"""


def main(data: str, *options: str) -> None:
    ip("link set lo up")
    ip("link add outer type veth peer name inner")
    command = ["unshare", "--net", sys.executable, "-m", "tests.netpolicy.lab_unrestricted", "world"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        tempfile.TemporaryDirectory() as place,
    ):
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            move(other.pid)
            other.stdin.write("go\n")
            other.stdin.flush()
            ip("link set outer up")
            for address in (f"{OWN}/24", "10.9.9.1/24", "10.8.8.1/24"):
                ip(f"address add {address} dev outer")
            ip("address add 2001:db8:9::1/64 dev outer nodad")
            ip(f"route add default via {PUBLIC}")
            ip(f"-6 route add default via {PUBLIC_V6}")
            assert other.stdout.readline() == "ready\n"
            servers = Path(place, "resolv.conf")
            servers.write_text(f"nameserver {PUBLIC}\n")
            servers.chmod(0o644)
            Path(place).chmod(0o755)
            subprocess.run(["mount", "--bind", str(servers), "/etc/resolv.conf"], check=True)
            check(Sandbox(Path(data), *options), Path(place))
        finally:
            other.kill()
    sys.stdout.write("all held\n")


def check(sandbox: Sandbox, place: Path) -> None:
    listed = place / "listed"
    listed.write_text(f"{PUBLIC_V6}\nlisted.test\n")
    targets = {
        f"tcp/{PUBLIC}/22": f"at {PUBLIC}",
        f"tcp/{PUBLIC}/65000": f"at {PUBLIC}",
        "tcp/public.test/443": f"at {PUBLIC}",
        "tcp/half.test/443": f"at {PUBLIC}",
        f"udp/{PUBLIC}/999": "heard x",
        f"tcp/{OPENED}/22": f"at {OPENED}",
        f"udp/{PRIVATE}/999": "ConnectionRefusedError",
        "tcp/listed.test/443": "gaierror",
        "tcp/metadata.google.internal/80": "gaierror",
        "tcp/127.0.0.1/22": "ConnectionRefusedError",
    }
    cut = [f"tcp/{host}/443" for host in (PRIVATE, OWN, PUBLIC_V6, "169.254.169.254")]
    done = sandbox.run(
        *("--net", "unrestricted", "--allow-private", "10.8.8.0/24", "--blocklist", str(listed), "--json"),
        *("--", PYTHON, "-c", INSIDE, *targets, *cut),
        timeout=60,
    )
    assert done.code == 0, done
    found = dict(line.split(" ", 1) for line in done.out.splitlines())
    assert {target: found[target] for target in targets} == targets, done
    assert {found[target] for target in cut} <= {"ConnectionResetError", "closed"}, done
    report = done.report()
    allowed = {(each["protocol"], each["host"], each["port"]) for each in report["allowed"]}
    assert {("tcp", "public.test", 443), ("dns", "public.test", 53)} <= allowed, report
    codes = {(each["host"], each["code"]) for each in report["denied"]}
    assert codes == {
        (PRIVATE, "private-address"),
        (OWN, "private-address"),
        ("169.254.169.254", "private-address"),
        ("public.test", "blocked"),  # its IPv6 address, known by name by then
        ("listed.test", "blocked"),
        ("metadata.google.internal", "blocked"),
    }, report
    assert f"to allow it: --allow-private {PRIVATE}/32" in done.err
    limited = sandbox.run("--", PYTHON, "-c", INSIDE, f"tcp/{PUBLIC}/22", f"udp/{PUBLIC}/999", timeout=60)
    assert [line.split(" ")[1] for line in limited.out.splitlines()] == ["ConnectionRefusedError"] * 2, (
        limited
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
