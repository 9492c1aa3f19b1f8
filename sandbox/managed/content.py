"""What messages and results hold: text, images, documents, search results."""

from typing import Annotated, Literal

from pydantic import Field

from sandbox.managed.values import Strict

_Url = Annotated[str, Field(min_length=1, max_length=8192)]
_MediaType = Annotated[str, Field(min_length=1, max_length=128)]
_FileId = Annotated[str, Field(min_length=1, max_length=128)]


class Text(Strict):
    type: Literal["text"]
    text: str


class Base64Source(Strict):
    type: Literal["base64"]
    media_type: _MediaType
    data: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class UrlSource(Strict):
    type: Literal["url"]
    url: _Url


class FileSource(Strict):
    type: Literal["file"]
    file_id: _FileId


class TextSource(Strict):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


ImageSource = Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]
DocumentSource = Annotated[Base64Source | TextSource | UrlSource | FileSource, Field(discriminator="type")]


class Image(Strict):
    type: Literal["image"]
    source: ImageSource


class Document(Strict):
    type: Literal["document"]
    source: DocumentSource
    title: str | None = None
    context: str | None = None


class Redacted(Strict):
    type: Literal["redacted"]


class Citations(Strict):
    enabled: bool


class SearchResult(Strict):
    type: Literal["search_result"]
    source: str
    title: str
    content: list[Text]
    citations: Citations


MessageBlock = Annotated[Text | Image | Document | Redacted, Field(discriminator="type")]
ResultBlock = Annotated[Text | Image | Document | SearchResult, Field(discriminator="type")]


def files_of(blocks: list[MessageBlock] | list[ResultBlock]) -> list[str]:
    """The ids of the files that ``blocks`` refer to."""
    return [
        block.source.file_id
        for block in blocks
        if isinstance(block, Image | Document) and isinstance(block.source, FileSource)
    ]
