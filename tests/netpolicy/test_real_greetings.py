"""Greetings of browsers and TLS libraries: recorded ones, and those of the clients on this machine as they are now.

Go's is among the recorded ones alone: compiling its TLS takes longer than all other tests here.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from netpolicy.clienthello import ClientHello, HelloReader, parse
from tests.netpolicy.hostile import name_for_openssl
from tests.netpolicy.recorded import recorded_hellos
from tests.netpolicy.serving import PATIENCE, Canary, allow, echo, session, to

RECORDED = recorded_hellos()
HOSTS = {
    "chromium": "www.a.test",
    "chromium-again": "www.a.test",
    "firefox": "www.a.test",
    "rustls": "localhost",
}
BROWSERS = ("chromium", "chromium-again", "firefox")
POST_QUANTUM = (*BROWSERS, "curl", "go", "rustls")
SEGMENT = 1_388  # what is left of a packet of 1,440 octets

_KEY_SHARE, _ENCRYPTED_HELLO = 51, 0xFE0D


def extensions(data: bytes) -> dict[int, int]:
    """Kinds of extensions and their sizes, in a greeting of one record that is known to be well-formed."""
    at = 5 + 4 + 2 + 32
    at += 1 + data[at]
    at += 2 + int.from_bytes(data[at : at + 2], "big")
    at += 1 + data[at] + 2
    found = {}
    while at < len(data):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        found[int.from_bytes(data[at : at + 2], "big")] = size
        at += 4 + size
    assert at == len(data)
    return found


def is_grease(number: int) -> bool:
    """RFC 8701."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


@pytest.mark.parametrize("client", RECORDED)
def test_a_recorded_greeting_is_read_however_it_is_split(client: str) -> None:
    data = RECORDED[client]
    expected = ClientHello(HOSTS.get(client, "a.test"))
    assert parse(data) == expected == name_for_openssl(data)
    for size in (1, SEGMENT):
        reader = HelloReader()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        found = [reader.feed(piece) for piece in pieces]
        assert found == [None] * (len(pieces) - 1) + [expected]


@pytest.mark.parametrize("client", RECORDED)
def test_a_recorded_greeting_is_read_when_records_split_it_too(client: str) -> None:
    message = RECORDED[client][5:]
    for size in (1, 100, 1_000):
        parts = [message[at : at + size] for at in range(0, len(message), size)]
        data = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)
        assert parse(data) == parse(RECORDED[client])
        assert parse(data[:-1]) is None


def test_the_recordings_have_what_makes_greetings_of_today_different() -> None:
    for client in POST_QUANTUM:
        assert extensions(RECORDED[client])[_KEY_SHARE] > 1_216, "a share of ML-KEM-768"
        assert len(RECORDED[client]) > SEGMENT, "more than a packet holds"
    for client in BROWSERS:
        assert _ENCRYPTED_HELLO in extensions(RECORDED[client]), "ECH or what stands in for it"
    first, second = (list(extensions(RECORDED[each])) for each in BROWSERS[:2])
    assert any(map(is_grease, first))
    assert [each for each in first if not is_grease(each)] != [each for each in second if not is_grease(each)]


@pytest.mark.parametrize("client", BROWSERS)
def test_a_browsers_greeting_passes_the_wall_in_packets_and_unchanged(client: str) -> None:
    data = RECORDED[client]
    with Canary(echo) as canary:
        policy = allow("www.a.test", targets=to(canary, "www.a.test"))
        with session(policy) as wall, wall.connect("tls") as browser:
            browser.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(data), SEGMENT):
                browser.sendall(data[at : at + SEGMENT])
            assert browser.recv(len(data), socket.MSG_WAITALL) == data
        with session(allow("a.test")) as wall, wall.connect("tls") as browser:
            browser.sendall(data)
            assert browser.recv(100)[:1] == b"\x15", "an alert, for its host is not allowed"
        assert canary.hits == 1


_JAVA = """
import java.net.Socket;
import javax.net.ssl.*;
public class Hello {
    public static void main(String[] arguments) throws Exception {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        Socket plain = new Socket("127.0.0.1", Integer.parseInt(arguments[0]));
        ((SSLSocket) factory.createSocket(plain, "a.test", 443, true)).startHandshake();
    }
}
"""
_NODE = """
const tls = require('tls');
tls.connect({host: '127.0.0.1', port: +process.argv[1], servername: 'a.test'}).on('error', () => {});
"""

CLIENTS = {
    "curl": [
        "curl",
        "--silent",
        "--noproxy",
        "*",
        "--resolve",
        "a.test:PORT:127.0.0.1",
        "https://a.test:PORT/",
    ],
    "gnutls-cli": ["gnutls-cli", "--insecure", "--sni-hostname", "a.test", "--port", "PORT", "127.0.0.1"],
    "java": ["java", "FOLDER/Hello.java", "PORT"],
    "node": ["node", "-e", _NODE, "PORT"],
    "openssl": ["openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "a.test"],
    "wget": ["wget", "--quiet", "--tries=1", "--no-proxy", "-O", "-", "https://localhost:PORT/"],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_greeting_of_a_client_on_this_machine_is_read(client: str, tmp_path: Path) -> None:
    if shutil.which(client) is None:
        pytest.skip(f"{client} is not installed; others are tried, and recorded greetings")
    (tmp_path / "Hello.java").write_text(_JAVA)
    heard: list[bytes] = []
    done = threading.Event()

    def listen(connection: socket.socket) -> None:
        reader, data = HelloReader(), b""
        while piece := connection.recv(65_536):
            data += piece
            if reader.feed(piece) is not None:
                break
        heard.append(data)
        done.set()

    with Canary(listen) as canary:
        names = {"PORT": str(canary.port), "FOLDER": str(tmp_path)}
        command = CLIENTS[client]
        for name, value in names.items():
            command = [word.replace(name, value) for word in command]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE) as running:
            done.wait(6 * PATIENCE)
            _, errors = running.communicate(timeout=6 * PATIENCE)
    assert heard, errors.decode(errors="replace")
    expected = ClientHello("localhost" if client == "wget" else "a.test")
    assert parse(heard[0]) == expected == name_for_openssl(heard[0])
