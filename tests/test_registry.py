"""What a method of the user's own is known by."""

import sys
from pathlib import Path

import pytest

from assay import registry

METHOD = """
from assay.explainers.base import BlackBoxExplainer

class Mine(BlackBoxExplainer):
    def converse(self, case):
        yield from ()
        return [{score}] * case.n

def plain(predict, features):
    return [{score}] * len(features)
"""


def write(folder: Path, score: float) -> None:
    sys.modules.pop("a_method_of_mine", None)
    # Without the cache of compiled files, which goes by the second of the last change.
    (folder / "a_method_of_mine.py").write_text(METHOD.format(score=score), "utf-8")


@pytest.mark.parametrize(
    "content",
    [
        {"_target_": "a_method_of_mine.Mine"},
        {"_target_": "assay.benchmark.bridge.Bridge", "explain": "a_method_of_mine.plain"},
    ],
)
def test_an_edited_method_is_another_method(content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write(tmp_path, 1.0)
    first = registry.foreign_source(registry.instantiate(content))
    again = registry.foreign_source(registry.instantiate(content))
    write(tmp_path, 22.5)
    edited = registry.foreign_source(registry.instantiate(content))
    assert first is not None
    assert first == again != edited


def test_assays_own_classes_are_known_by_name_and_protocol_version() -> None:
    assert registry.foreign_source(registry.build("explainer", "lime")) is None
