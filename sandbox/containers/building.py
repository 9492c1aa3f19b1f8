"""Make what a container stands on and tell process 1 what to become: in a process that ends when that is done.

The keeper stays for as long as the container runs. What it takes to read a specification, plan and gather is memory
that it would keep; so a child does it, and passes back what has to be held.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from netpolicy.policy import listening_ports
from sandbox import ground, idmap, launch, trust
from sandbox.channel import hear, say
from sandbox.containers import attach, directory, requests
from sandbox.containers.directory import Place
from sandbox.containers.spec import WINDOW, ContainerSpec
from sandbox.directory import layout
from sandbox.errors import SetupError
from sandbox.spec import SESSION, HostMount, RunSpec


class Built(NamedTuple):
    """What the keeper holds: descriptors of process 1's namespaces, and of what the container stands on."""

    namespaces: attach.Namespaces
    held: tuple[int, ...]


def run_spec(place: Place, spec: ContainerSpec, environment: Mapping[str, str]) -> RunSpec:
    """The container as a session."""
    own = tuple(
        HostMount(f"{place.path}/repositories/{each.name}", each.target, True, SESSION)
        for each in spec.repositories
    )
    return RunSpec(
        root=spec.root,
        command=(),
        environment=spec.environment,
        network=spec.policy.mode,
        listeners=listening_ports(spec.policy),
        workdir=spec.workdir,
        mounts=(HostMount(f"{place.path}/resources", WINDOW, writable=False), *spec.mounts, *own),
        ca_bundle=trust.session_bundle(place.data, environment, spec.policy.mode),
    )


def build(
    place: Place, running: launch.Running, orders: socket.socket, environment: Mapping[str, str]
) -> Built:
    """Give process 1 its ids and its set-up; how that goes is on its channel. ``orders``: the socket that it is to
    take commands on. HostError, SetupError or InputError as sessions have them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            try:
                _build(place, running, orders, environment, theirs)
            except Exception as error:
                failure = requests.failure(error)
                if failure is None:
                    raise
                say(theirs, failure)
        except Exception:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        message = hear(ours)
    os.waitpid(pid, 0)
    if message is None:
        raise SetupError("the process that makes containers ended")
    if message[0] != "built":
        raise requests.raised(message[0])
    user, mount, *held = message[1]
    return Built(attach.Namespaces(user, mount), tuple(held))


def _build(
    place: Place,
    running: launch.Running,
    orders: socket.socket,
    environment: Mapping[str, str],
    told: socket.socket,
) -> None:
    with ExitStack() as stack:
        waiting = idmap.begin_maps(running.pid, place.ids)
        # Later it lets nobody look.
        namespaces = stack.enter_context(attach.open_namespaces(running.pid))
        spec = directory.read_spec(place)
        directory.clear_work(place)
        held = [namespaces.user, namespaces.mount]
        if spec.held:
            from pkgcache.store import hold

            held += stack.enter_context(hold(spec.held)).fds
        session = run_spec(place, spec, environment)
        prepared = launch.prepare(session, place.ids, place.data, layout(place.path))
        if prepared.steps:
            held.append(ground.use(prepared.ground, place.ids, prepared.steps))
        filter_ = launch.load_filter(place.data, place.ids, session)
        waiting()
        launch.set_up(
            running,
            session,
            place.ids,
            f"{place.path}/root",
            prepared.plan,
            filter_=filter_,
            given=(orders.fileno(),),
            window=WINDOW,
        )
        say(told, "built", tuple(held))
