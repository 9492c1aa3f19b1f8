"""Denied hosts explain themselves inside TLS to the programs that sessions run, each with its own way to trust."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sessions.running import PYTHON, Sandbox

HOST = "denied.example"
URL = f"https://{HOST}/"

PROGRAMS = {
    "curl": ["curl", "-sS", "-D", "-", "--max-time", "20", URL],
    "python": [
        PYTHON,
        "-Ic",
        f"""
import urllib.request, urllib.error
try:
    urllib.request.urlopen("{URL}", timeout=60)
except urllib.error.HTTPError as error:
    print(error.status, error.headers, error.read().decode())
""",
    ],
    "node": [
        "node",
        "-e",
        f"""
require("https").get("{URL}", (answer) => {{
    console.log(answer.statusCode, answer.rawHeaders.join(" "));
    answer.on("data", (data) => console.log(String(data)));
}});
""",
    ],
    # As a program of one file, which takes a JDK.
    "java": [
        "sh",
        "-ec",
        f"""
cat > /tmp/Ask.java <<'END'
public class Ask {{
    public static void main(String[] arguments) throws Exception {{
        var asked = (java.net.HttpURLConnection) new java.net.URL("{URL}").openConnection();
        System.out.println(asked.getResponseCode() + " " + asked.getHeaderFields());
        System.out.println(new String(asked.getErrorStream().readAllBytes()));
    }}
}}
END
java -Xshare:auto /tmp/Ask.java
""",
    ],
    "git": ["git", "-c", "http.followRedirects=false", "ls-remote", URL],
    "pip": [PYTHON, "-m", "pip", "download", "--no-input", "--no-deps", f"{URL}six-1.0-py3-none-any.whl"],
    "npm": ["npm", "view", "--registry", URL, "--fetch-retries=0", "six"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_gets_403_with_the_reason(program: str, either_sandbox: Sandbox) -> None:
    command = PROGRAMS[program]
    if program == "java" and not (shutil.which("java") and shutil.which("javac")):
        pytest.skip("this machine has no JDK")
    if not (shutil.which(command[0]) or "").startswith("/usr/bin/"):
        pytest.skip(f"{command[0]} is not in /usr/bin of this machine")
    if program == "pip" and subprocess.run([PYTHON, "-c", "import pip"], capture_output=True).returncode:
        pytest.skip("this machine's own Python has no pip")
    done = either_sandbox.run("--allow", "allowed.example", "--", *command, timeout=60)
    said = done.out + done.err
    assert "403" in said, done
    if program in ("curl", "python", "node", "java"):
        assert f"{HOST} is not among the allowed hosts" in done.out, done
        assert f"--allow {HOST}" in done.out, done
        assert "x-sandbox-denied" in done.out.lower(), done
    assert f"denied {HOST} port 443" in done.err, done


def test_a_session_can_not_read_the_key_and_its_host_does_not_trust_it(sandbox: Sandbox) -> None:
    bundle = sandbox.ok("--", "cat", "/etc/ssl/certs/ca-certificates.crt")
    authority = (sandbox.data / "ca" / "authority.pem").read_text()
    certificate, mark, _ = authority.partition("-----BEGIN PRIVATE KEY-----")
    assert mark
    assert certificate in bundle
    assert "PRIVATE KEY" not in bundle
    for path in ("/etc/ssl/certs/ca-certificates.crt", os.environ.get("SSL_CERT_FILE", "")):
        if path and Path(path).exists():
            assert certificate not in Path(path).read_text()
    assert sandbox.run("--", "ls", str(sandbox.data / "ca")).code != 0


def test_without_a_network_nothing_more_is_trusted(sandbox: Sandbox) -> None:
    def count(*options: str) -> int:
        return sandbox.ok(*options, "--", "cat", "/etc/ssl/certs/ca-certificates.crt").count(
            "BEGIN CERTIFICATE"
        )

    assert count("--net", "limited") == count("--net", "none") + 1
