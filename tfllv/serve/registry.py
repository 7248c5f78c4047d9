"""The models that are served, and their versions: a new one is taken up while the old one works on.

A model's folder holds versions, `DIR/1/`, `DIR/2/`, ..., as TF Serving has them; the highest one that works is served.
A folder that is itself a SavedModel, or TFOD's export with its `saved_model/`, is one version. A version is loaded and
tried beside the one in use, and takes its place in one step; requests that began with the old one finish with it. A
version that cannot be loaded or fails its trial is refused with its reason, until its files change.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfllv import contracts, enhancers
from tfllv.serve import engine as engines
from tfllv.serve import tf_serving
from tfllv.serve.batching import Batcher
from tfllv.serve.engine import Engine
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError

LOADING, READY, BROKEN = "loading", "ready", "broken"
_GRAPH = "saved_model.pb"
_log = logging.getLogger("tfllv.serve")


@dataclasses.dataclass
class Model:
    """One served name.

    Attributes:
      name: as in `/v1/models/NAME`.
      folder: of its versions; None for a bundled method, or a model of another server.
      backend: the other server's model, if it is one.
      engine: the version that answers; None until one is loaded.
      refused: version -> why it is not served.
      batcher: its queue; None until a version is loaded.
    """

    name: str
    folder: pathlib.Path | None = None
    backend: tf_serving.Backend | None = None
    engine: Engine | None = None
    refused: dict[int, str] = dataclasses.field(default_factory=dict)
    batcher: Batcher | None = None
    _seen: dict[int, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    @property
    def state(self) -> str:
        """`ready`, `loading`, or `broken` where no version works."""
        return READY if self.engine else BROKEN if self.refused else LOADING


class Registry:
    """All models, in the order they were named.

    Args:
      folders: name -> folder.
      methods: names of `enhancers.METHODS`.
      backends: name -> address of a model in TensorFlow Serving's REST form.
      limits: of the queues.
      poll: seconds between two looks for new versions; 0 does not look again.
      observe: called with a model's name and the size of each batch.

    Raises:
      ValueError: if a name is unknown or doubled, or a folder holds no model.
    """

    def __init__(
        self,
        folders: Mapping[str, str | os.PathLike[str]],
        methods: Sequence[str] = (),
        *,
        backends: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        poll: float = 2.0,
        observe: Callable[[str, int], None] = lambda name, size: None,
    ):
        self.limits = limits or Limits()
        self._poll, self.observe = poll, observe
        self.models: dict[str, Model] = {name: Model(name, pathlib.Path(path)) for name, path in folders.items()}
        for model in self.models.values():
            if not _versions(model.folder):
                raise ValueError(
                    f"`model` must be a folder of versions such as DIR/1/{_GRAPH}, or a SavedModel. Received: "
                    f"'{model.folder}', where there is none."
                )
        for name, url in (backends or {}).items():
            if name in self.models:
                raise ValueError(f"`backend` must have a name of its own. Received: '{name}' twice.")
            self.models[name] = Model(name, backend=tf_serving.Backend(url, name=name, timeout=self.limits.timeout))
        for name in methods:
            if name not in enhancers.METHODS:
                hint = contracts.nearest_name(name, enhancers.METHODS)
                raise ValueError(f"`method` must be a name of `tfllv list`. Received: '{name}'; {hint}")
            if name in self.models:
                raise ValueError(f"`model` must have a name of its own. Received: '{name}' twice.")
            self.models[name] = Model(name)
        if not self.models:
            raise ValueError("`models` must name at least one model or method. Received: none.")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """Whether every model has a version that works."""
        return all(model.engine for model in self.models.values())

    def get(self, name: str) -> Model:
        """Returns a model by name.

        Raises:
          RefusalError: 404, if there is none.
        """
        if name not in self.models:
            raise RefusalError(
                404, "unknown_model", f"No model '{name[:60]}' is served; {contracts.nearest_name(name, self.models)}"
            )
        return self.models[name]

    def for_task(self, task: str, name: str | None = None) -> tuple[Model, Engine]:
        """Returns the model `name`, or the first that can do `task`, with the version in use.

        Raises:
          RefusalError: 400 if the name is unknown or cannot do it, 404 if none can, 503 while it is being loaded.
        """
        if name:
            try:
                model = self.get(name)
            except RefusalError as refusal:
                raise RefusalError(400, "bad_parameter", f"`method`: {refusal.detail}") from None
            if model.engine and task not in model.engine.tasks:
                raise RefusalError(400, "bad_parameter", f"`method` must be able to {task}. Received: '{name[:60]}'.")
        else:
            able = [model for model in self.models.values() if model.engine and task in model.engine.tasks]
            if not able and self.ready:
                raise RefusalError(
                    404, "no_model", f"No model that can {task} is served; start the server with --model DIR of one."
                )
            model = able[0] if able else next(iter(self.models.values()))
        return model, self.engine(model, None if name else task)

    def engine(self, model: Model, task: str | None = None) -> Engine:
        """Returns the version in use.

        Raises:
          RefusalError: 503, if there is none yet.
        """
        if model.engine is None or (task and task not in model.engine.tasks):
            raise RefusalError(503, "loading", f"The model '{model.name}' is not ready.", retry_after=5)
        return model.engine

    def load(self) -> None:
        """Loads a version of every model.

        Raises:
          ValueError: if a model has no version that works.
        """
        for model in self.models.values():
            self.refresh(model)
            if model.engine is None and model.backend is None:  # another server may come up after this one
                raise ValueError(
                    f"`model` '{model.name}' has no version that works: {'; '.join(model.refused.values())}"
                )

    def watch(self) -> None:
        """Starts to look for new versions, in a thread of its own."""
        if self._poll > 0 and any(model.folder or model.backend for model in self.models.values()):
            self._thread = threading.Thread(target=self._watch, name="tfllv-versions", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._poll):
            for model in self.models.values():
                try:
                    self.refresh(model)
                except Exception:  # a folder that cannot be listed for a moment must not end the watch
                    _log.exception("versions of %s", model.name)

    def refresh(self, model: Model) -> None:
        """Takes up the highest version that works, if it is not the one in use."""
        if model.backend is not None:
            found = model.backend.refresh(model.engine)
            if found:
                self._adopt(model, found)
            return
        if model.folder is None:
            if model.engine is None:
                self._adopt(model, engines.EnhancerEngine(model.name))
            return
        versions = _versions(model.folder)
        for gone in set(model.refused) - set(versions):
            del model.refused[gone]
        for version in sorted(versions, reverse=True):
            mark = _fingerprint(versions[version])
            if model.engine is not None and version == model.engine.version:
                return  # a version's files do not change once it is served
            if version in model.refused and model._seen.get(version) == mark:
                continue
            model._seen[version] = mark
            from tfllv.serve import saved_model

            try:
                loaded = saved_model.SavedModelEngine(versions[version], name=model.name, version=version)
            except saved_model.BrokenModelError as error:
                model.refused[version] = str(error)
                _log.warning("version refused", extra={"fields": {"model": model.name, "reason": str(error)}})
                continue
            model.refused.pop(version, None)
            self._adopt(model, loaded)
            return

    def _adopt(self, model: Model, engine: Engine) -> None:
        if model.batcher is None:
            model.batcher = Batcher(
                model.name, engine.workers, self.limits, functools.partial(self._observe, model.name)
            )
        replaced, model.engine = model.engine is not None, engine
        _log.info("version served", extra={"fields": {"model": model.name, "version": engine.version}})
        if replaced:
            gc.collect()  # a version that is no longer used holds its weights in cycles

    def _observe(self, name: str, size: int) -> None:
        self.observe(name, size)

    def close(self) -> None:
        """Ends the watch and lets the queues run out."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        for model in self.models.values():
            if model.batcher:
                model.batcher.close()


def _versions(folder: pathlib.Path | None) -> dict[int, pathlib.Path]:
    """Version -> folder of its graph."""
    if folder is None:
        return {}
    found = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name.isdecimal() and len(entry.name) < 19:
            for place in (entry, entry / "saved_model"):
                if (place / _GRAPH).is_file():
                    found[int(entry.name)] = place
                    break
    for place in (folder, folder / "saved_model"):
        if not found and (place / _GRAPH).is_file():
            found[1] = place
    return found


def _fingerprint(folder: pathlib.Path) -> tuple[Any, ...]:
    """Changes when a file of the version does, so that a copy that was not complete yet is tried again."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def model_name(folder: str | os.PathLike[str]) -> tuple[str, str]:
    """Splits `NAME=DIR`; a plain DIR is named by the folder's own name.

    Raises:
      ValueError: if the name is not one that fits an address.
    """
    text = os.fspath(folder)
    name, equals, path = text.partition("=")
    if not equals or os.path.isdir(text):
        name, path = pathlib.Path(text).resolve().name, text
    if not name or not all(char.isalnum() or char in "_-." for char in name) or len(name) > 100:
        raise ValueError(f"`model` must be DIR or NAME=DIR, of letters, digits, _ - and . only. Received: '{text}'.")
    return name, path
