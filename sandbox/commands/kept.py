"""``sandboxctl env list``, ``show`` and ``remove``: environments that were kept under their name."""

import click

from sandbox.commands.place import prepared


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the environments as JSON.")
@click.pass_context
def env_list(context: click.Context, as_json: bool) -> None:
    """List the environments that are known by name, with their packages and their network."""
    from sandbox import environments

    rows = environments.list_kept(context.obj().data)
    if as_json:
        import json

        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
        return
    for row in rows:
        wanted = "; ".join(f"{manager}: {', '.join(specs)}" for manager, specs in row.packages.items())
        click.echo(f"{row.name:16}  {row.problem or row.networking:12}  {wanted or '-'}")


@click.command("show")
@click.argument("name")
@click.option("--policy", is_flag=True, help="Print what it lets out instead, as sandboxctl policy does.")
@click.pass_context
def env_show(context: click.Context, name: str, policy: bool) -> None:
    """Print the environment NAME as it was kept."""
    from sandbox import environments
    from sandbox.commands import network

    if policy:
        context.invoke(network.policy, environment=name)
        return
    click.echo(environments.text(context.obj().data, name), nl=False)


@click.command("remove")
@click.argument("name")
@click.pass_context
def env_remove(context: click.Context, name: str) -> None:
    """Forget the environment NAME. Its layers stay, for others that need the same, until a prune takes them."""
    from sandbox import environments

    environments.remove(prepared(context).data, name)
    click.echo(f"removed {name}")
