"""Make what a container stands on and tell process 1 what to become: in a process that ends when that is done.

Who keeps the container stays for as long as it runs, and keeps others: so a child does what takes time and memory, and
passes back what has to be held.
"""

import socket
from collections.abc import Mapping
from contextlib import ExitStack

from netpolicy.policy import listening_ports
from sandbox import entering, ground, idmap, launch, trust
from sandbox.channel import say
from sandbox.containers import directory
from sandbox.containers.directory import Place
from sandbox.containers.spec import WINDOW, ContainerSpec
from sandbox.directory import layout
from sandbox.spec import SESSION, HostMount, RunSpec


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
    place: Place,
    running: launch.Running,
    orders: socket.socket,
    environment: Mapping[str, str],
    told: socket.socket,
) -> None:
    """Give process 1 its ids and its set-up; how it fares is on its own channel. ``orders``: the socket that it is to
    take commands on. ``told`` gets ``built``, with descriptors of process 1's user and mount namespace and of what the
    container stands on, to be held. HostError, SetupError or InputError as sessions have them."""
    with ExitStack() as stack:
        waiting = idmap.begin_maps(running.pid, place.ids)
        # Later it lets nobody look.
        namespaces = stack.enter_context(entering.open_namespaces(running.pid))
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
