"""What the commands that write OCI image layouts share."""

from typing import TYPE_CHECKING

import click

from sandbox import images
from sandbox.commands.place import Place
from sandbox.commands.progress import Progress

if TYPE_CHECKING:
    from pkgcache.image import Image

compression = click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    help="Of the layers (default: gzip, which everything reads).",
)


def write_image(
    place: Place, image: "Image", directory: str, tag: str, compression: str, *, quiet: bool
) -> str:
    """Write ``image`` to ``directory``; the line that says what came of it."""
    from pkgcache.export import export_image
    from sandbox.build_runner import make_inside

    with Progress(quiet=quiet) as progress:
        exported = export_image(
            images.store(place.data, place.ids),
            image,
            directory,
            tag=tag,
            environment=images.exported_environment(image),
            inside=make_inside(place.ids),
            compression=compression,
            progress=progress.show,
        )
    return f"{directory}:{tag} {exported.digest}"
