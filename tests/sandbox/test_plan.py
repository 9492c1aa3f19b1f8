"""Plans as data: what is mounted where, in which order, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import operations as ops
from sandbox.hostview import Entry, HostFacts
from sandbox.plan import HIDDEN_ON_HOST, Layout, Plan, ground_steps, make_plan
from sandbox.spec import OUTPUTS, WORKSPACE, HostMount, RootFs, RunSpec, Workspace

LAYOUT = Layout("/s/upper", "/s/work", "/s/work/stage", "/s/outputs", "/ground")
HOST = HostFacts((("/usr", ("/usr",)), ("/etc", ("/etc",)), ("/opt", ("/opt",))), (), (("/bin", "usr/bin"),))
SPEC = RunSpec(RootFs(None), ("true",), ())


def plan(spec: RunSpec = SPEC, *, host: HostFacts | None = HOST, root: bool = False) -> Plan:
    return make_plan(spec, LAYOUT, host=host, translate_ids=root, tty_group=True)


def targets(made: Plan, kind: type) -> list[str]:
    return [step.target for step in made.root if isinstance(step, kind)]


def test_the_host_base_shows_three_directories_and_nothing_else_of_the_host() -> None:
    assert targets(plan(), ops.Overlay) == ["/", "/usr", "/etc", "/opt"]
    assert targets(plan(), ops.Bind) == [OUTPUTS]


def test_a_base_of_ones_own_is_one_overlay_with_the_ground_on_top() -> None:
    spec = SPEC._replace(root=RootFs("/base", ("/top", "/next")))
    (overlay,) = [step for step in plan(spec, host=None).root if isinstance(step, ops.Overlay)]
    assert (overlay.target, overlay.lowers) == ("/", ("/ground", "/top", "/next", "/base"))


def test_a_split_directory_is_shown_entry_by_entry() -> None:
    entries = (
        Entry("sub", "directory", ("/opt/sub",)),
        Entry("file", "file", ("/opt/file",)),
        Entry("link", "link", ("/opt/link",), "file"),
    )
    made = plan(host=HOST._replace(split=(("/opt", entries),)))
    assert targets(made, ops.Overlay) == ["/", "/usr", "/etc", "/opt/sub"]
    assert ops.Bind("/opt/file", "/opt/file", writable=False) in made.root
    assert ops.Symlink("/opt/link", "file") in made.root


@pytest.mark.parametrize("hidden", [*HIDDEN_ON_HOST, "/etc/passwd", "/etc/hosts"])
def test_what_is_hidden_is_hidden_in_a_split_directory_too(hidden: str) -> None:
    folder, name = hidden.rsplit("/", 1)
    entries = tuple(Entry(name, kind, (hidden,)) for kind in ("directory", "file"))
    ssl = (Entry("ssl", "directory", ("/etc/ssl",)),)
    split = (("/etc", entries if folder == "/etc" else ssl), ("/etc/ssl", entries))
    made = plan(host=HOST._replace(split=split))
    assert not [step for step in made.root if getattr(step, "target", "") == hidden]


def test_kernel_file_systems_come_after_the_root_and_before_what_the_user_mounts() -> None:
    spec = SPEC._replace(mounts=(HostMount("/a", "/b", False),))
    kinds = [type(step) for step in plan(spec).root]
    assert kinds.index(ops.Overlay) < kinds.index(ops.Proc) < kinds.index(ops.Masked)
    assert plan(spec).root[-1] == ops.Bind("/a", "/b", False, None)


def test_nested_user_namespaces_are_switched_off_before_proc_is_read_only() -> None:
    steps = list(plan().root)
    assert steps.index(ops.Setting("user/max_user_namespaces", "0", optional=True)) < steps.index(
        ops.ReadOnly("/proc/sys")
    )


def test_roots_host_trees_are_numbered_in_the_order_in_which_they_are_opened() -> None:
    spec = SPEC._replace(
        workspace=Workspace("/w", False), mounts=(HostMount("/a", "/x", True), HostMount("/b", "/y", False))
    )
    made = plan(spec, root=True)
    assert [tree.source for tree in made.trees] == ["/w", "/a", "/b"]
    assert [step.tree for step in made.root if isinstance(step, ops.Attach)] == [0]
    assert [step.tree for step in made.root if isinstance(step, ops.Bind) and step.target != OUTPUTS] == [
        1,
        2,
    ]
    assert plan(spec).trees == ()


def test_a_workspace_is_an_overlay_or_a_bind() -> None:
    copied = plan(SPEC._replace(workspace=Workspace("/w", False)))
    assert [s.lowers for s in copied.root if isinstance(s, ops.Overlay) and s.target == WORKSPACE] == [
        ("/w",)
    ]
    written = plan(SPEC._replace(workspace=Workspace("/w", True)))
    assert [
        step.writable for step in written.root if isinstance(step, ops.Bind) and step.target == WORKSPACE
    ] == [True]


def test_without_a_network_there_is_no_resolver() -> None:
    contents = {
        mode: [
            s.content
            for s in ground_steps(SPEC._replace(network=mode), HOST)
            if isinstance(s, ops.WriteFile) and s.target == "/etc/resolv.conf"
        ]
        for mode in ("none", "limited")
    }
    assert contents["none"] == [b""]
    assert b"nameserver" in contents["limited"][0]


def test_the_hosts_users_are_replaced_on_the_host_base_alone() -> None:
    def written(spec: RunSpec, host: HostFacts | None) -> set[str]:
        return {step.target for step in ground_steps(spec, host) if isinstance(step, ops.WriteFile)}

    assert "/etc/passwd" in written(SPEC, HOST)
    assert "/etc/passwd" not in written(SPEC._replace(root=RootFs("/base")), None)


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.builds(HostMount, paths, paths, st.booleans()), max_size=5), st.booleans())
def test_the_same_input_makes_the_same_plan_and_every_step_can_be_told(
    mounts: list[HostMount], root: bool
) -> None:
    spec = SPEC._replace(mounts=tuple(mounts))
    made = plan(spec, root=root)
    assert made == plan(spec, root=root)
    lines = made.describe()
    assert len(lines) == len(made.root)
    assert all(line and "\n" not in line for line in lines)
    assert [step.target for step in made.root[len(made.root) - len(mounts) :]] == [
        mount.target for mount in mounts
    ]
