"""From a specification to steps: what is planned, in which order, and that nothing is looked at on the way."""

from typing import TypeVar

from sandbox.hostview import Entry, HostFacts
from sandbox.operations import (
    Attach,
    Bind,
    Directory,
    Hidden,
    InPlaceRoot,
    Masked,
    Overlay,
    Proc,
    ReadOnly,
    Setting,
    Symlink,
    WriteFile,
)
from sandbox.plan import HIDDEN_ON_HOST, Layout, Plan, ground_steps, make_plan
from sandbox.spec import CA_BUNDLE, OUTPUTS, TRUST_FILE, WORKSPACE, HostMount, RootFs, RunSpec, Workspace

LAYOUT = Layout("/s/upper", "/s/work", "/s/stage", "/s/outputs", "/ground")
HOST = HostFacts(trees=(("/usr", ("/usr",)), ("/etc", ("/etc",))), links=(("/bin", "usr/bin"),))
ON_HOST = RunSpec(RootFs(None), ("true",), ())
ON_BASE = RunSpec(RootFs("/base", ("/pip", "/apt")), ("true",), ())


def plan(spec: RunSpec, host: HostFacts | None = None, *, translate: bool = False) -> Plan:
    return make_plan(spec, LAYOUT, host=host, translate_ids=translate, tty_group=True)


T = TypeVar("T")


def of(made: Plan, kind: type[T]) -> list[T]:
    return [step for step in made.root if isinstance(step, kind)]


def test_the_same_specification_gives_the_same_plan() -> None:
    assert plan(ON_HOST, HOST) == plan(ON_HOST, HOST)
    assert plan(ON_HOST, HOST).describe() == [step.describe() for step in plan(ON_HOST, HOST).root]


def test_a_base_is_one_overlay_with_the_ground_on_top_and_the_base_below_all_layers() -> None:
    first = plan(ON_BASE).root[0]
    assert isinstance(first, Overlay)
    assert first.target == "/"
    assert first.lowers == ("/ground", "/pip", "/apt", "/base")


def test_the_host_is_overlays_of_its_directories_above_the_ground() -> None:
    overlays = {step.target: step.lowers for step in of(plan(ON_HOST, HOST), Overlay)}
    assert overlays == {"/": ("/ground",), "/usr": ("/ground/usr", "/usr"), "/etc": ("/ground/etc", "/etc")}


def test_overlays_have_work_directories_of_their_own() -> None:
    workspace = ON_HOST._replace(workspace=Workspace("/home/ann/w", writable=False))
    works = [step.work for step in of(plan(workspace, HOST), Overlay)]
    assert len(set(works)) == len(works) == 4


def test_a_split_directory_is_shown_entry_by_entry_and_never_what_is_the_sessions_own_or_hidden() -> None:
    entries = (
        Entry("ssl", "directory", ("/etc/ssl",)),
        Entry("ssh", "directory", ("/etc/ssh",)),
        Entry("hosts", "file", ("/etc/hosts",)),
        Entry("shadow", "file", ("/etc/shadow",)),
        Entry("issue", "file", ("/etc/issue",)),
        Entry("rmt", "link", ("/etc/rmt",), "/usr/sbin/rmt"),
    )
    made = plan(ON_HOST, HOST._replace(split=(("/etc", entries),)))
    assert [step.target for step in of(made, Overlay)] == ["/", "/usr", "/etc/ssl"]
    shown = [step.target for step in of(made, Bind)]
    assert "/etc/issue" in shown
    assert not {"/etc/hosts", "/etc/shadow", "/etc/ssh"} & set(shown)
    assert Symlink("/etc/rmt", "/usr/sbin/rmt") in made.root


def test_the_ground_of_the_host_hides_secrets_and_has_its_own_users() -> None:
    steps = ground_steps(ON_HOST, HOST)
    assert {step.target for step in steps if isinstance(step, Hidden)} == set(HIDDEN_ON_HOST)
    written = {step.target: step.content for step in steps if isinstance(step, WriteFile)}
    assert b"root:x:0:0" in written["/etc/passwd"]
    assert written["/etc/machine-id"] == b""


def test_the_ground_of_a_base_leaves_its_users_alone() -> None:
    written = {step.target for step in ground_steps(ON_BASE, None) if isinstance(step, WriteFile)}
    assert written == {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}


def test_without_a_network_there_is_no_name_server() -> None:
    def resolver(network: str) -> bytes:
        steps = ground_steps(ON_BASE._replace(network=network), None)
        return next(
            step.content
            for step in steps
            if isinstance(step, WriteFile) and step.target == "/etc/resolv.conf"
        )

    assert resolver("none") == b""
    assert resolver("limited").startswith(b"nameserver ")


def test_certificates_stand_where_programs_look_and_where_the_environment_points() -> None:
    steps = ground_steps(ON_BASE._replace(ca_bundle=b"PEM"), None)
    assert {step.target for step in steps if isinstance(step, WriteFile) and step.content == b"PEM"} == {
        CA_BUNDLE,
        TRUST_FILE,
    }


def test_a_base_in_the_making_is_written_in_place() -> None:
    made = plan(ON_BASE._replace(root=RootFs("/base", in_place=True)))
    assert made.root[0] == InPlaceRoot("/base")
    assert not of(made, Overlay)
    assert ground_steps(ON_BASE._replace(root=RootFs("/base", in_place=True)), None) == ()


def test_kernel_settings_are_made_before_they_become_read_only() -> None:
    steps = plan(ON_BASE).root
    proc = steps.index(Proc())
    settings = [index for index, step in enumerate(steps) if isinstance(step, Setting)]
    sealed = steps.index(ReadOnly("/proc/sys"))
    assert proc < min(settings)
    assert max(settings) < sealed
    assert Masked("/proc/kcore") in steps


def test_a_workspace_is_copied_on_write_or_written_through() -> None:
    copied = plan(ON_BASE._replace(workspace=Workspace("/home/ann/w", writable=False)))
    assert [step.lowers for step in of(copied, Overlay) if step.target == WORKSPACE] == [("/home/ann/w",)]
    through = plan(ON_BASE._replace(workspace=Workspace("/home/ann/w", writable=True)))
    assert Bind("/home/ann/w", WORKSPACE, True) in through.root
    assert [step.target for step in of(through, Overlay)] == ["/"]


def test_roots_host_directories_are_opened_by_the_supervisor_and_numbered_in_order() -> None:
    spec = ON_BASE._replace(
        workspace=Workspace("/root/w", writable=False),
        mounts=(HostMount("/root/a", "/a", False), HostMount("/root/b", "/b", True)),
    )
    made = plan(spec, translate=True)
    assert [tree.source for tree in made.trees] == ["/root/w", "/root/a", "/root/b"]
    assert [tree.recursive for tree in made.trees] == [False, True, True]
    assert Attach(0, "/s/stage/0", "/root/w") in made.root
    assert Bind("/root/b", "/b", True, 2) in made.root
    assert plan(spec).trees == ()


def test_outputs_are_a_mount_that_the_session_cannot_replace() -> None:
    assert Bind("/s/outputs", OUTPUTS, writable=True) in plan(ON_BASE).root


def test_files_are_read_only_copies() -> None:
    made = make_plan(
        ON_BASE, LAYOUT, host=None, translate_ids=False, tty_group=False, files=(("/s/files/0", "/data"),)
    )
    assert Bind("/s/files/0", "/data", writable=False) in made.root


def test_the_places_of_every_session_are_there() -> None:
    targets = {step.target for step in ground_steps(ON_BASE, None) if isinstance(step, Directory)}
    assert {"/tmp", "/workspace", "/mnt/session/outputs", "/mnt/session/uploads"} <= targets
