"""``sandboxctl why`` and ``policy``: what an environment lets out, and why."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from netpolicy.blocklist import Block
from netpolicy.policy import Policy, Request, Rule, Verdict
from sandbox import blocklists, images, networks
from sandbox.commands.place import Place
from sandbox.networks import Access

if TYPE_CHECKING:
    from netpolicy.credentials import Credential

_DENIED = 1


@click.command()
@click.argument("target", metavar="HOST[:PORT]")
@click.option("--env", "environment", metavar="FILE|NAME", help="The environment (default: none at all).")
@click.option("--session", "session_id", metavar="ID", help="A session, as it is, instead of an environment.")
@click.option("--base", "base_name", metavar="NAME", help="The base it would stand on.")
@click.option("--net", type=click.Choice(networks.MODES), help="The mode, as sandboxsh has it.")
@click.option("--allow", multiple=True, metavar="HOST", help="As sandboxsh has it; may be repeated.")
@click.option("--allow-private", multiple=True, metavar="CIDR", help="As sandboxsh has it; may be repeated.")
@click.option("--blocklist", multiple=True, metavar="FILE", help="As sandboxsh has it; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.pass_context
def why(
    context: click.Context,
    /,
    target: str,
    environment: str | None,
    session_id: str | None,
    base_name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say whether a session may reach HOST, by which rule, or what to add. Exit code 1 when it may not.

    PORT is 443 when left out. Nothing is looked up or connected to.
    """
    from netpolicy.hosts import parse_target
    from netpolicy.policy import decide, request_for

    host, port = parse_target(target)
    policy, note, attached = _asked(context, session_id, environment, base_name, options)
    request = request_for(policy, host, port)
    verdict = decide(policy, request)
    ours = [each for each in attached if (each.host, each.port) == (host, port)]
    if as_json:
        import json

        found = _verdict(policy, request, verdict, note)
        click.echo(json.dumps({**found, "attached": [_attached(each) for each in ours]}, indent=2))
    else:
        click.echo("\n".join(_explained(policy, request, verdict, note)))
        for each in ours:
            click.echo(f"  {_described(each)}")
    if not verdict.allow and not ours:
        sys.exit(_DENIED)


@click.command()
@click.argument("environment", metavar="[FILE|NAME]", required=False)
@click.option("--session", "session_id", metavar="ID", help="A session, as it is, instead of an environment.")
@click.option("--base", "base_name", metavar="NAME", help="The base it would stand on.")
@click.option("--net", type=click.Choice(networks.MODES), help="The mode, as sandboxsh has it.")
@click.option("--allow-private", multiple=True, metavar="CIDR", help="As sandboxsh has it; may be repeated.")
@click.option("--blocklist", multiple=True, metavar="FILE", help="As sandboxsh has it; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the policy as JSON.")
@click.pass_context
def policy(
    context: click.Context,
    /,
    environment: str | None,
    session_id: str | None,
    base_name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Print what the environment, or a session, lets out, each rule with its origin."""
    from netpolicy.policy import render

    compiled, note, attached = _asked(context, session_id, environment, base_name, options)
    if as_json:
        import json

        rules = [_rule(rule) for rule in compiled.rules]
        blocks = [_rule(block) for block in compiled.blocks]
        told = {"mode": compiled.mode, "blocks": blocks, "rules": rules, "private": compiled.private}
        told["attached"] = [_attached(each) for each in attached]
        click.echo(json.dumps({**told, "note": note or None}, indent=2))
        return
    click.echo("\n".join([*render(compiled), *(f"  {_described(each)}" for each in attached)]))
    if note:
        click.echo(f"note: {note}", err=True)


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[--write FILE] [OPTIONS OF SANDBOXSH]",
)
@click.option("--write", metavar="FILE", default="-", help="Where to write it (default: standard error).")
@click.argument("words", metavar="[--] COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def learn(context: click.Context, write: str, words: tuple[str, ...]) -> None:
    """Run COMMAND in a session that may reach every name, and print the environment that would have sufficed.

    Addresses that are not public stay closed, and so does what blocklists name. Takes every option of sandboxsh.
    """
    from sandbox.begin import begin
    from sandbox.commands import adhoc

    place = [f"--{name}={value}" for name in ("data", "ids") if (value := context.meta.get(name))]
    adhoc.main(begin(), [*place, f"--learn={write}", *words])


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--only", type=click.Choice(["allowed", "denied", "failed"]), help="Show these decisions alone."
)
def egress(file: BinaryIO, only: str | None) -> None:
    """Print a log of network decisions (sandboxsh --egress-log FILE) for people; - is standard input."""
    from netpolicy import auditlog

    for record in auditlog.read(file, file.name):
        if only in (None, record["verdict"]):
            click.echo(auditlog.readable(record))


def _asked(
    context: click.Context,
    session_id: str | None,
    environment: str | None,
    base_name: str | None,
    options: dict[str, Any],
) -> "tuple[Policy, str, tuple[Credential, ...]]":
    """The policy that is asked about, what could not be told of it, and what is attached to hosts."""
    if session_id is None:
        return *_policy(context.obj(), environment, base_name, **options), ()
    if environment is not None or base_name is not None or any(options.values()):
        raise click.UsageError("--session says all that there is to say: give nothing beside it")
    from sandbox.commands.place import opened
    from sandbox.managed import looking

    with opened(context) as service:
        found, attached = looking.policy(service, looking.find(service, session_id))
    return found, "", attached


def _described(credential: "Credential") -> str:
    """A line for what is attached to a host. Its secret is no part of it."""
    paths = ", ".join(credential.paths) or "every path"
    what = f"with {credential.name} added" if credential.value is not None else "with nothing added"
    return f"allow {credential.host} port {credential.port}, TLS, {paths}, {what}  ({credential.origin})"


def _attached(credential: "Credential") -> dict[str, Any]:
    return {
        "host": credential.host,
        "port": credential.port,
        "paths": credential.paths,
        "adds": credential.name if credential.value is not None else None,
        "origin": credential.origin,
    }


def _policy(
    place: Place,
    environment: str | None,
    base_name: str | None,
    net: str | None = None,
    allow: Sequence[str] = (),
    allow_private: Sequence[str] = (),
    blocklist: Sequence[str] = (),
) -> tuple[Policy, str]:
    """The compiled policy, and what could not be told of it yet (or "")."""
    from sandbox import environments

    found = environments.find(environment, place.data) if environment is not None else None
    access = networks.combine(
        found.networking if found else None,
        mode=net,
        allow=allow,
        allow_private=allow_private,
        blocks=blocklists.read(blocklist, os.environ),
    )
    wanted = found.packages.wanted() if found else {}
    endpoints = _endpoints(place, access, base_name or images.default_base(wanted), wanted)
    note = ""
    if endpoints is None:
        named = f" {environment}" if environment is not None else " FILE"
        note = (
            "the package managers' servers are not known yet, for they are asked when the environment is built: "
            f"run sandboxctl env build{named}"
        )
    return networks.make_policy(access, endpoints or ()), note


def _endpoints(
    place: Place, access: Access, base_name: str, wanted: dict[str, tuple[str, ...]]
) -> tuple[Any, ...] | None:
    if not access.allow_package_managers:
        return ()
    return images.endpoints(place.data, place.ids, base_name, wanted)


def _explained(policy: Policy, request: Request, verdict: Verdict, note: str) -> list[str]:
    from netpolicy.policy import SPOKEN, describe

    asked = f"{SPOKEN[request.protocol]} to {request.host} on port {request.port}"
    if verdict.allow:
        lines = [f"allowed: {asked}"]
        if verdict.rule is not None:
            lines.append(f"  rule: {describe(verdict.rule)}")
        return lines
    lines = [f"denied: {asked}", f"  {verdict.reason}"]
    by_option = policy.terms.by == "options"
    if verdict.hint:
        lines.append(f"  to allow it: {'sandboxsh ' if by_option else ''}{verdict.hint}")
    if verdict.entry and by_option:
        lines.append(f'  or in the environment: networking.allowed_hosts: ["{verdict.entry}"]')
    if note:
        lines.append(f"  note: {note}")
    return lines


def _verdict(policy: Policy, request: Request, verdict: Verdict, note: str) -> dict[str, Any]:
    by_option = policy.terms.by == "options"
    return {
        "allow": verdict.allow,
        "protocol": request.protocol,
        "host": request.host,
        "port": request.port,
        "reason": verdict.reason,
        "code": verdict.code or None,
        "rule": None if verdict.rule is None else _rule(verdict.rule),
        "option": (verdict.hint if by_option else "") or None,
        "to_allow": (f"sandboxsh {verdict.hint}" if by_option and verdict.hint else verdict.hint) or None,
        "allowed_hosts_entry": verdict.entry or None,
        "note": note or None,
    }


def _rule(rule: Rule | Block) -> dict[str, Any]:
    if isinstance(rule, Block):
        return {"blocked": str(rule.pattern or rule.network), "origin": rule.origin}
    return {
        "hosts": str(rule.pattern._replace(port=None)),
        "protocol": rule.protocol,
        "port": rule.port,
        "private_addresses": rule.private,
        "origin": rule.origin,
    }
