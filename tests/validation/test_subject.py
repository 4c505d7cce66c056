"""What is validated is found; what is none is told all that it lacks, and an error in it is shown without ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay.benchmark.bridge import Bridge
from assay.errors import AssayError
from assay.explainers.precomputed import Precomputed
from assay.perturbation import Delete
from assay.validation.subject import load_subject

GOOD = """
import numpy as np
from assay.explainers.base import BlackBoxExplainer


class OnlyOne(BlackBoxExplainer):
    def __init__(self, weight=1.0):
        if weight < 0:
            raise ValueError("weight must be at least 0")
        self.weight = weight

    def converse(self, case):
        answers = yield np.eye(case.n, dtype=bool)
        return self.weight * answers[:, case.target]


class LIMEScore(OnlyOne):
    pass


class Lime(OnlyOne):
    pass


class CannotBeBuilt(OnlyOne):
    def __init__(self):
        self.words = None + 1


def explain(predict, features, rounds=3):
    return predict(np.eye(len(features), dtype=bool))


def leave_two_out(predict, features, rng, *, rounds=3):
    return predict(np.eye(len(features), dtype=bool))


instance = OnlyOne()
number = 3
"""

BAD = """
from assay.explainers.base import BlackBoxExplainer, WhiteBoxExplainer
from assay.metrics.erasure import Comprehensiveness


class Stranger:
    def __init__(self, alpha, beta, gamma=3):
        pass


class LooksInside:
    def attribute(self, model):
        pass


class Asks(BlackBoxExplainer):
    def converse(self, case, model):
        yield

    def prepare(self):
        pass

    def check(self, model, background):
        pass


class Empty(WhiteBoxExplainer):
    pass


class Async(BlackBoxExplainer):
    async def converse(self, case):
        yield


class ByPlace(BlackBoxExplainer):
    def __init__(self, alpha, /):
        pass

    def converse(self, case):
        yield


def one(features):
    return []


def swapped(features, predict):
    return []


def asks(predict, features):
    yield


async def waits(predict, features):
    return []


def needs(predict, features, window, *, rng, size):
    return []
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with modules, found as the command line finds them: from the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "good_methods.py").write_text(GOOD)
    (tmp_path / "bad_methods.py").write_text(BAD)
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("")
    (tmp_path / "a_package" / "methods.py").write_text(GOOD)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("good_methods", "bad_methods", "a_package")]:
        del sys.modules[name]


def message(target, **settings):
    with pytest.raises(AssayError) as caught:
        load_subject(target, settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "name", "kind"),
    [
        ("good_methods:OnlyOne", "only_one", "class"),
        ("good_methods:LIMEScore", "lime_score", "class"),
        ("good_methods:Lime", "my_lime", "class"),
        ("a_package.methods:OnlyOne", "only_one", "class"),
        ("good_methods:explain", "good_methods", "function"),
        ("a_package.methods:explain", "methods", "function"),
        ("good_methods:leave_two_out", "leave_two_out", "function"),
    ],
)
def test_a_class_or_function_is_named_and_built_anew_each_time(target, name, kind):
    subject = load_subject(target, {})
    assert (subject.name, subject.kind) == (name, kind)
    built = subject.build()
    assert built is not subject.build()
    assert isinstance(built, Bridge) is (kind == "function")


def test_settings_reach_the_constructor_or_the_function_and_are_part_of_the_content():
    subject = load_subject("good_methods:OnlyOne", {"weight": 2.0, "perturbation": "delete"})
    assert subject.content == {"_target_": "good_methods.OnlyOne", "weight": 2.0, "perturbation": "delete"}
    for _ in range(2):
        built = subject.build()
        assert built.weight == 2.0
        assert isinstance(built.perturbation, Delete)
    function = load_subject("good_methods:explain", {"rounds": 7, "signed": False})
    built = function.build()
    assert function.content["explain"] == "good_methods.explain"
    assert (built.settings, built.signed) == ({"rounds": 7}, False)


def test_a_file_or_a_folder_is_taken_for_attributions(here):
    folder = here / "From Captum (2nd run)"
    folder.mkdir()
    line = '{"id": "1", "features": ["good"], "scores": [0.5], "method": "ig"}\n'
    (folder / "part-1.jsonl").write_text(line)
    for path, name in ((folder, "from_captum_2nd_run"), (folder / "part-1.jsonl", "part_1")):
        subject = load_subject(str(path), {"method": "ig"})
        assert (subject.name, subject.kind) == (name, "attributions")
        assert isinstance(subject.build(), Precomputed)
    assert "no attributions of the method 'ige'" in message(str(folder), method="ige")


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("god_methods:OnlyOne", ["no module 'god_methods' here", "Did you mean 'good_methods' or 'bad_methods'?"]),
        ("a_package.method:OnlyOne", ["a_package has no module 'method'. Did you mean 'methods'?"]),
        ("good_methods.inner:OnlyOne", ["good_methods is a module and no package"]),
        ("good_methods:OnlyTwo", ["good_methods has no 'OnlyTwo'. Did you mean 'OnlyOne'"]),
        ("good_methods.OnlyOne", ["Write good_methods:OnlyOne."]),
        ("good_methods.py:OnlyOne", ["Write good_methods:OnlyOne."]),
        ("./a_package/methods.py", ["Write a_package.methods:MyMethod."]),
        ("good_methods:OnlyOne.converse", ["it must stand at the top of its module"]),
        ("good_methods", ["not 'good_methods', and there is no such path here"]),
        ("lime", ["lime ships with Assay: write assay.explainers.surrogate:Lime."]),
        ("goods.csv", ["There is no file or folder 'goods.csv'."]),
        ("good_method.jsonl", ["There is no file or folder", "Did you mean 'good_methods.py'"]),
        ("nowhere/mine", ["There is no folder 'nowhere' either."]),
        ("x" * 5000, ["there is no such path here"]),
        ("bad\0name", ["there is no such path here"]),
    ],
)
def test_what_is_not_there_is_told_with_what_is(target, parts):
    said = message(target)
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("target", "listed"),
    [
        (
            "bad_methods:Stranger",
            [
                "it inherits neither from BlackBoxExplainer, which asks, nor from WhiteBoxExplainer",
                "it has no converse(self, case), nor attribute(self, model, batch, target)",
                "its constructor needs alpha, beta: give them defaults or set method.alpha=… method.beta=…",
            ],
        ),
        (
            "bad_methods:LooksInside",
            [
                "it inherits neither from BlackBoxExplainer",
                "its attribute(self, model) cannot be called as attribute(model, batch, target)",
            ],
        ),
        (
            "bad_methods:Asks",
            [
                "its converse(self, case, model) cannot be called as converse(case)",
                "its check(self, model, background) cannot be called as check(model)",
                "its prepare(self) cannot be called as prepare(model, background)",
            ],
        ),
        ("bad_methods:Empty", ["it has no attribute(self, model, batch, target)"]),
        ("bad_methods:Async", ["its converse is async; a plain method is called here"]),
        ("bad_methods:ByPlace", ["its constructor takes alpha by place alone"]),
        ("bad_methods:Comprehensiveness", ["it is a metric; what is validated is an explainer"]),
        ("bad_methods:one", ["one(features) cannot be called as one(predict, features)"]),
        ("bad_methods:swapped", ["it takes features first; it is called as swapped(predict, features)"]),
        ("bad_methods:asks", ["it is a generator; a function returns its scores"]),
        ("bad_methods:waits", ["it is async; a plain function is called here"]),
        (
            "bad_methods:needs",
            ["it needs window, size: give them defaults or set method.window=… method.size=…"],
        ),
        ("good_methods:instance", ["it is an object of the class OnlyOne; name the class"]),
        ("good_methods:number", ["it is an object of the type int, neither a class nor a function"]),
    ],
)
def test_what_is_no_explainer_is_told_all_that_it_lacks_at_once(target, listed):
    lines = message(target).splitlines()
    assert lines[0] == f"{target} cannot be validated:"
    assert lines[-1] == "How to write an explainer: docs/explaining.md."
    problems = lines[1:-1]
    assert len(problems) == len(listed)
    for line, expected in zip(problems, listed, strict=True):
        assert line.startswith(f"- {expected}")


@pytest.mark.parametrize("target", ["good_methods:OnlyOne", "good_methods:explain"])
def test_a_setting_that_it_does_not_take_is_told_with_those_that_it_takes(target):
    known = "weight" if target.endswith("One") else "rounds"
    said = message(target, **{f"{known}s_": 2})
    assert f"it has no setting '{known}s_'. Did you mean '{known}'?" in said


def test_a_value_that_it_refuses_is_told_in_its_own_words():
    assert message("good_methods:OnlyOne", weight=-1) == "good_methods.OnlyOne: weight must be at least 0"


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("def f():\n    return {}['a']\n\nf()\n", "KeyError: 'a'"),
        ("import torrch\n", "ModuleNotFoundError: No module named 'torrch'"),
        ("from assay.explainers.base import Explaner\n", "ImportError: cannot import name 'Explaner'"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('usage: broken')\n", "SystemExit: usage: broken"),
        ("try:\n    1 / 0\nexcept Exception as e:\n    raise OSError('both') from e\n", "OSError: both"),
    ],
)
def test_an_error_in_the_module_is_shown_with_the_users_lines_and_none_of_ours(here, source, last):
    (here / "broken_module.py").write_text(source)
    said = message("broken_module:f")
    assert said.startswith("broken_module cannot be imported.\n\n")
    assert said.splitlines()[-1].startswith(last)
    files = [line.split('"')[1] for line in said.splitlines() if line.lstrip().startswith('File "')]
    assert files
    assert {Path(file).name for file in files} == {"broken_module.py"}
    if "both" in last:
        assert "ZeroDivisionError" in said


def test_an_error_in_the_constructor_is_shown_with_its_line():
    said = message("good_methods:CannotBeBuilt")
    assert said.startswith("good_methods:CannotBeBuilt cannot be built.\n\nTraceback")
    assert "self.words = None + 1" in said
    assert "registry.py" not in said


def test_a_missing_module_is_told_without_importing_torch():
    code = (
        "import sys\nfrom assay.validation.subject import load_subject\n"
        "try: load_subject('no_such_module:X', {})\nexcept Exception as e: print(type(e).__name__)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["AssayError", "False"]
