"""Options of where a server keeps uploaded files and batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from openllm.cli.options import parse_size, takes
from openllm.cli.settings import data_folder
from openllm.errors import MachineError

if TYPE_CHECKING:
    from openllm.api.archive import ArchiveOptions
    from openllm.batches.storage import DataFolder

_DATA_LIMIT = 10 * 1024**3
_MAX_UPLOAD = 200 * 1000**2  # what OpenAI takes as a batch's input


class DataChoices(NamedTuple):
    """What a caller chooses of ``api.archive.ArchiveOptions``. A field's annotation is its option."""

    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of uploaded files and batches; one server at a time.")
    ] = None
    data_limit: Annotated[
        int | None,
        typer.Option(
            parser=parse_size, metavar="SIZE", help="Most bytes of all uploaded files; 10GiB by default."
        ),
    ] = None
    max_upload: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="Longest uploaded file; 200MB by default."),
    ] = None

    def folder(self) -> DataFolder | MachineError:
        """The folder, or why there is none. Raises that if the user insists on the folder."""
        from openllm.batches.storage import default_root, lock_folder

        chosen = data_folder(self.data_dir)
        try:
            return lock_folder(chosen or default_root())
        except MachineError as error:
            if chosen is not None:
                raise
            return error

    def later_folder(self) -> Path:
        """The folder, which a server has that will give it back."""
        from openllm.batches.storage import default_root

        return data_folder(self.data_dir) or default_root()

    def options(self, folder: Path | DataFolder | MachineError, concurrency: int) -> ArchiveOptions:
        """These choices for a model that runs ``concurrency`` sequences at once."""
        from openllm.api.archive import ArchiveOptions

        return ArchiveOptions(
            folder=folder,
            most_bytes=_DATA_LIMIT if self.data_limit is None else self.data_limit,
            longest_upload=_MAX_UPLOAD if self.max_upload is None else self.max_upload,
            width=concurrency,
        )


takes_data_choices = takes(DataChoices, "data")
