"""What the model has answered, kept in the results folder, so that other cells need not ask it again.

A cell that is computed after another over the same examples asks for many of the same rows: the whole text, each word
hidden, what a metric asks of every method. What each shard has asked for the first time is written to a file of its
own, whole or not at all, and nothing is ever changed in place, so that any number of processes can read and write at
once without locks. A file that is not what was written is passed over, and all of it can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from assay.benchmark.answers import Answers
from assay.benchmark.whole_folder import clear_dead, staged
from assay.classifier import Classifier
from assay.encoding import Encoding, Output

FOLDER = ".answers"
MOST_BYTES = 2 * 2**30  # of all answers in a results folder, about
_MAGIC = b"assay answers 1\n"
_KIND = ("tokens", "attended", "embedded")  # what digests are told apart within, as in `Kind`
_DIGEST = 32
_SECRET = 16


class SharedAnswers:
    """The answers of one model in float32 that the cells of a results folder share.

    In less precision a row's answer hangs on the batch that it is computed in, by more than scores may change, so only
    float32 is shared; and only among runs with the same weights, device and versions of torch and transformers.
    """

    def __init__(self, root: Path, model: Classifier, reads: bool = True) -> None:
        """Name the place; nothing is read or written yet.

        Args:
            root: the local results folder.
            model: the classifier, in float32.
            reads: whether what is there is used; False to have the model asked anew.
        """
        self._root = root / FOLDER
        self._folder = self._root / _fingerprint(model)
        self._reads = reads
        self._room = 0
        self._classes = len(model.labels)
        self._layout = np.dtype(
            [
                ("example", "<u4"),
                *((name, "<u4") for name in _KIND),
                ("key", "V16"),
                ("logits", "<f4", (self._classes,)),
                ("seconds", "<f4"),
            ]
        )

    @cached_property
    def entropy(self) -> int:
        """What the digests of rows hang on: a secret of this folder, so that no text can be made to collide."""
        path = self._root / "secret"
        with suppress(OSError):
            self._root.mkdir(parents=True, exist_ok=True)
            clear_dead(self._root)
            if not path.exists():
                with staged(self._root) as temporary:
                    fresh = temporary / "secret"
                    fresh.write_bytes(os.urandom(_SECRET))
                    try:
                        # Whoever comes second has the secret of whoever came first.
                        os.link(fresh, path)
                    except FileExistsError:
                        pass
                    except OSError:
                        # A file system without links: of two at once, one shares nothing this time.
                        fresh.rename(path)
            secret = path.read_bytes()
            if len(secret) == _SECRET:
                return int.from_bytes(secret, "little")
        return int.from_bytes(os.urandom(_SECRET), "little")

    def recall(self, encodings: Sequence[Encoding], output: Output) -> Answers:
        """What is known about the examples of a shard, to begin an engine with.

        Args:
            encodings: of the examples.
            output: what conversations receive.
        """
        answers = Answers(self._classes, output, self.entropy)
        paths = sorted(self._of_shard(encodings).glob("*.answers")) if self._reads else []
        for path in paths:
            records = self._read(path, len(encodings))
            if records is None:
                continue
            groups, group_of_row = np.unique(records[["example", *_KIND]], return_inverse=True)
            for number, (example, tokens, attended, embedded) in enumerate(groups.tolist()):
                rows = records[group_of_row == number]
                kind = (tokens, bool(attended), embedded)
                answers.recall(encodings[example].id, kind, rows["key"].tolist(), rows["logits"], rows["seconds"])
        return answers

    def keep(self, encodings: Sequence[Encoding], answers: Answers) -> None:
        """Write down what the model has said about the examples of a shard.

        What cannot be written is lost to the other cells, and no reason to end a run.
        """
        place_of = {encoding.id: place for place, encoding in enumerate(encodings)}
        parts = []
        for example, kind, keys, numbers in answers.found_out():
            if kind[2] > 1:  # drawn at random, element by element: nobody asks for it again
                continue
            part = np.empty(len(keys), self._layout)
            part["example"], part["key"] = place_of[example], np.frombuffer(b"".join(keys), "V16")
            for name, value in zip(_KIND, kind, strict=True):
                part[name] = value
            part["logits"], part["seconds"] = answers.logits[numbers], answers.seconds[numbers]
            parts.append(part)
        if not parts:
            return
        content = self._classes.to_bytes(4, "little") + np.concatenate(parts).tobytes()
        place = self._of_shard(encodings)
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content))
            with staged(self._root) as temporary:
                whole = temporary / "answers"
                whole.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
                whole.rename(place / f"{uuid.uuid4().hex}.answers")

    def _of_shard(self, encodings: Sequence[Encoding]) -> Path:
        """The folder of the answers about these examples, in this order."""
        digest = hashlib.blake2b(digest_size=12)
        for encoding in encodings:
            digest.update(encoding.row.key)
        return self._folder / digest.hexdigest()

    def _read(self, path: Path, examples: int) -> NDArray[Any] | None:
        """The records of a file; None if it is not what was written."""
        start = len(_MAGIC) + _DIGEST
        with suppress(OSError):
            if path.is_symlink() or path.stat().st_size > MOST_BYTES:
                return None
            content = path.read_bytes()
            body = content[start:]
            if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) : start] != hashlib.sha256(body).digest():
                return None
            if int.from_bytes(body[:4], "little") != self._classes or len(body[4:]) % self._layout.itemsize:
                return None
            records = np.frombuffer(body, self._layout, offset=4)
            return records if (records["example"] < examples).all() else None
        return None

    def _make_room(self, size: int) -> None:
        """Drop the oldest answers where there would be too many; others write at the same time, so this is rough."""
        if self._room < size:
            files = []
            for path in self._root.glob("*/*/*.answers"):
                with suppress(OSError):
                    found = path.stat()
                    files.append((found.st_mtime, found.st_size, path))
            self._room = MOST_BYTES - sum(one for _, one, _ in files)
            # Once something must go, enough goes for a while.
            wanted = max(size, MOST_BYTES // 4) if self._room < size else size
            for _, freed, path in sorted(files):
                if self._room >= wanted:
                    break
                path.unlink(missing_ok=True)
                self._room += freed
        self._room -= size


def _fingerprint(model: Classifier) -> str:
    """A name for all that a row's answer hangs on beside the row."""
    config = {name: value for name, value in model.model.config.to_dict().items() if name != "_name_or_path"}
    device = model.device
    content = {
        "weights": model.fingerprint,
        "config": config,
        "attention": model.model.config._attn_implementation,
        "prompt": model.prompt,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "precision": torch.get_float32_matmul_precision(),
        "versions": [torch.__version__, transformers.__version__, np.__version__],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]
