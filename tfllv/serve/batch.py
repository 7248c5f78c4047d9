"""`POST /batch_enhance`: pictures in, a zip out that is sent while it is made; one picture is in work at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence

from tfllv.serve import archive, pictures
from tfllv.serve.engine import Engine
from tfllv.serve.pictures import Rendering
from tfllv.serve.refusals import RefusalError
from tfllv.serve.registry import Model
from tfllv.serve.service import Service, Work


class Batch:
    """The pictures of one request.

    Args:
      service: what does the work.
      files: (name as the client calls it, bytes) of each.
      work: the request's account.

    Raises:
      RefusalError: 400 if there is none, 413 if they are too many; if none can be read, as the first is refused.
    """

    def __init__(self, service: Service, files: Sequence[tuple[str | None, bytes]], work: Work):
        if not files:
            raise RefusalError(
                400, "missing_image", "`images` must be one or more files of a multipart/form-data form."
            )
        if len(files) > service.limits.max_files:
            raise RefusalError(
                413, "too_many_files", f"`images` must be at most {service.limits.max_files}. Received: {len(files)}."
            )
        self._service, self._work = service, work
        self._names = [name for name, _ in files]
        self._files: list[bytes | None] = [data for _, data in files]
        self._refused: dict[int, RefusalError] = {}
        for index, (_, data) in enumerate(files):
            try:
                pictures.check_upload(data, service.limits)
            except RefusalError as refusal:
                self._refused[index] = refusal
        if len(self._refused) == len(files):
            raise self._refused[0]
        work.facts["files"] = len(files)

    def stream(self, model: Model, engine: Engine, rendering: Rendering) -> Iterator[bytes]:
        """Yields the zip: the results, and in `errors.json` behind them what could not be done.

        Raises:
          RefusalError: 503, before the first byte, if too many zips are being made.
        """
        with self._service.stream():
            yield b""  # so far the caller goes before it answers 200
            yield from archive.stream(self._entries(model, engine, rendering))

    def _entries(self, model: Model, engine: Engine, rendering: Rendering) -> Iterator[tuple[str, bytes]]:
        names = archive.unique_names(self._names, rendering.suffix)
        for index, name in enumerate(names):
            data, self._files[index] = self._files[index], None  # so that it goes when it is done
            if data is None or index in self._refused:
                continue
            # Each picture has the time of a request of its own: a zip of many may take long.
            work = Work(time.monotonic() + self._service.limits.timeout, self._work.stages)
            try:
                yield name, self._service.enhance(data, model, engine, rendering, work)
            except RefusalError as refusal:
                self._refused[index] = refusal
            except Exception as error:  # the zip is under way: what failed can only be listed in it
                self._service.log.write("error", kind=type(error).__name__, reason=str(error)[:300])
                self._refused[index] = RefusalError(500, "internal", "The server failed at this picture.")
            self._work.facts.update(model=engine.name, version=engine.version, refused=len(self._refused) or None)
        if self._refused:
            yield "errors.json", json.dumps([self._describe(i) for i in sorted(self._refused)], indent=1).encode()

    def _describe(self, index: int) -> dict[str, str | int]:
        refusal = self._refused[index]
        name = archive.safe_stem(self._names[index])
        return {"index": index, "name": name, "error": refusal.error, "detail": refusal.detail}
