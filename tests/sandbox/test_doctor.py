"""The doctor: what it makes of what was seen, as tables."""

import json

import pytest

from sandbox.doctor import DEGRADED, MISSING, OK, Finding, can_run, judge, render_text, to_json
from sandbox.idmap import HostIds
from sandbox.probes import Seen

STEPS = (
    "pidfd",
    "libseccomp",
    "seccomp",
    "user-namespace",
    "id-range",
    "mount",
    "overlay",
    "proc",
    "tmpfs",
    "devpts",
    "loopback",
    "local-routes",
    "nft",
)
IDS = HostIds(
    uid=1000,
    gid=1000,
    subuid=(100000, 65536),
    subgid=(100000, 65536),
    newuidmap=True,
    namespace_ids=4294967295,
)
GOOD = Seen(
    user="ada",
    ids=IDS,
    helpers=("newuidmap", "newgidmap"),
    kernel="6.1.0-18-amd64",
    interpreter="/usr/bin/python3.11",
    settings={"user.max_user_namespaces": "1000", "kernel.unprivileged_userns_clone": "1"},
    tried=dict.fromkeys(STEPS, ""),
    programs=("mmdebstrap", "apt-get", "sudo"),
    keyring=True,
    data="/home/ada/data",
    data_problem="",
    free_bytes=50 << 30,
    descriptors=1 << 20,
)
ROOT = GOOD._replace(user="root", ids=IDS._replace(uid=0, gid=0, subuid=None, subgid=None))


def failed(*steps: str, problem: str = "Operation not permitted", seen: Seen = GOOD) -> Seen:
    return seen._replace(tried=seen.tried | dict.fromkeys(steps, problem))


def finding(seen: Seen, name: str) -> Finding:
    return next(found for found in judge(seen) if found.name == name)


@pytest.mark.parametrize("seen", [GOOD, ROOT])
def test_a_good_machine_has_nothing_to_mend(seen: Seen) -> None:
    findings = judge(seen)
    assert [found for found in findings if found.status != OK] == []
    assert can_run(findings)
    assert "with everything" in render_text(findings, color=False)


@pytest.mark.parametrize(
    ("seen", "name", "status", "detail", "remedy"),
    [
        (GOOD._replace(kernel="5.10.0-30-amd64"), "kernel", MISSING, "Linux 5.10.0", "upgrade"),
        (GOOD._replace(kernel="4.19.0"), "kernel", MISSING, "5.12 or later", "upgrade"),
        (
            failed(
                "mount", seen=GOOD._replace(settings={"kernel.apparmor_restrict_unprivileged_userns": "1"})
            ),
            "apparmor",
            MISSING,
            "kernel.apparmor_restrict_unprivileged_userns is 1",
            "/etc/apparmor.d/sandboxsh >/dev/null && sudo apparmor_parser -r /etc/apparmor.d/sandboxsh",
        ),
        (
            failed("user-namespace", seen=GOOD._replace(settings={"kernel.unprivileged_userns_clone": "0"})),
            "kernel.unprivileged_userns_clone",
            MISSING,
            "is 0",
            "echo kernel.unprivileged_userns_clone=1 >>/etc/sysctl.d/60-sandboxsh.conf && sysctl -p",
        ),
        (
            GOOD._replace(settings={"user.max_net_namespaces": "0"}),
            "user.max_net_namespaces",
            MISSING,
            "is 0",
            "echo user.max_net_namespaces=10000",
        ),
        (
            failed("user-namespace"),
            "user namespaces",
            MISSING,
            "making namespaces: Operation not",
            "container",
        ),
        (failed("mount"), "user namespaces", MISSING, "mounting in them: Operation not", "container"),
        (
            GOOD._replace(helpers=()),
            "id range",
            DEGRADED,
            "newuidmap and newgidmap not installed",
            "sudo apt-get install -y --no-install-recommends uidmap",
        ),
        (
            GOOD._replace(helpers=("newuidmap",), programs=()),
            "id range",
            DEGRADED,
            "newgidmap not installed",
            "install what Debian calls uidmap",
        ),
        (
            GOOD._replace(ids=IDS._replace(subuid=None, subgid=(1, 1000))),
            "id range",
            DEGRADED,
            "/etc/subuid gives ada no ids; /etc/subgid gives ada 1000 ids",
            "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ada",
        ),
        (failed("id-range", problem="newuidmap refused"), "id range", DEGRADED, "newuidmap refused", ""),
        (failed("id-range", seen=ROOT), "id range", DEGRADED, "too few ids", ""),
        (
            GOOD._replace(data_problem="/home/ada can't be written"),
            "data directory",
            MISSING,
            "can't be written",
            "sudo install -d -o ada -m 700 /home/ada/data",
        ),
        (failed("overlay"), "overlay", MISSING, "in /home/ada/data: Operation not", "sudo modprobe overlay"),
        (
            failed("overlay", problem="Permission denied", seen=ROOT),
            "overlay",
            MISSING,
            "Permission denied",
            "chmod o+x the directories above /home/ada/data",
        ),
        (failed("proc"), "mounts", MISSING, "proc: Operation not permitted", "systempaths=unconfined"),
        (failed("tmpfs", "devpts"), "mounts", MISSING, "tmpfs: Operation not permitted; devpts:", ""),
        (failed("loopback"), "network namespace", MISSING, "loopback: Operation not", "boot a kernel"),
        (
            failed("local-routes"),
            "network namespace",
            MISSING,
            "local-routes: Operation not",
            "boot a kernel",
        ),
        (failed("nft"), "nft", DEGRADED, "Operation not permitted", "sudo modprobe -a nf_tables"),
        (failed("pidfd"), "pidfd", MISSING, "Operation not permitted", "upgrade the kernel"),
        (failed("seccomp"), "system call filter", MISSING, "seccomp: Operation not", "CONFIG_SECCOMP_FILTER"),
        (failed("libseccomp", problem="no library"), "system call filter", MISSING, "no lib", "libseccomp2"),
        (GOOD._replace(programs=("apt-get",)), "mmdebstrap", DEGRADED, "not installed", "mmdebstrap"),
        (
            GOOD._replace(keyring=False),
            "Debian's keyring",
            DEGRADED,
            "not installed",
            "debian-archive-keyring",
        ),
        (GOOD._replace(free_bytes=1 << 30), "disk space", DEGRADED, "1.0 GiB free", ""),
        (GOOD._replace(descriptors=1024), "open files", DEGRADED, "at most 1024", "* hard nofile 65536"),
    ],
)
def test_each_lack_is_found_with_its_remedy(
    seen: Seen, name: str, status: str, detail: str, remedy: str
) -> None:
    found = finding(seen, name)
    assert found.status == status
    assert detail in found.detail
    assert remedy in found.remedy
    assert found.why
    assert found.remedy or found.remedy_without_root or "refused" in found.detail or "few" in found.detail
    assert can_run(judge(seen)) == (status != MISSING)
    text = render_text(judge(seen), color=False)
    assert f"why: {found.why}" in text
    assert remedy in text
    assert ("No session can run" in text) == (status == MISSING)


@pytest.mark.parametrize("name", ["apparmor", "kernel.unprivileged_userns_clone"])
def test_limits_on_ordinary_users_are_none_for_root(name: str) -> None:
    settings = {"kernel.apparmor_restrict_unprivileged_userns": "1", "kernel.unprivileged_userns_clone": "0"}
    assert finding(ROOT._replace(settings=settings), name).status == OK


def test_apparmor_with_a_profile_for_this_program_is_no_limit() -> None:
    seen = GOOD._replace(settings={"kernel.apparmor_restrict_unprivileged_userns": "1"})
    assert finding(seen, "apparmor").status == OK


def test_what_could_not_be_tried_is_never_taken_for_good() -> None:
    findings = judge(GOOD._replace(tried={}))
    good = {found.name for found in findings if found.status == OK}
    assert good == {
        "kernel",
        "kernel.unprivileged_userns_clone",
        "data directory",
        "mmdebstrap",
        "Debian's keyring",
        "disk space",
        "open files",
    }
    assert not can_run(findings)


def test_the_apparmor_remedy_is_a_line_that_a_shell_reads_as_a_profile() -> None:
    import subprocess

    seen = failed("mount", seen=GOOD._replace(settings={"kernel.apparmor_restrict_unprivileged_userns": "1"}))
    printing = finding(seen, "apparmor").remedy.partition(" | ")[0]
    printed = subprocess.run(["sh", "-c", printing], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "abi <abi/4.0>,",
        "include <tunables/global>",
        'profile sandboxsh "/usr/bin/python3.11" flags=(unconfined) { userns, }',
    ]


def test_no_limit_on_open_files_is_none_to_mend() -> None:
    for descriptors in (-1, 20_000):
        assert finding(GOOD._replace(descriptors=descriptors), "open files").status == OK


def test_colour_changes_nothing_but_the_colour() -> None:
    import re

    findings = judge(failed("overlay", "nft"))
    coloured = render_text(findings, color=True)
    assert "\x1b[31mmissing" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_text(findings, color=False)


def test_json_holds_every_finding_and_the_verdict() -> None:
    told = json.loads(json.dumps(to_json(judge(failed("overlay")))))
    assert told["can_run"] is False
    overlay = next(found for found in told["findings"] if found["name"] == "overlay")
    assert overlay["status"] == "missing"
    assert overlay["required"] is True
    assert json.loads(json.dumps(to_json(judge(GOOD))))["can_run"] is True
