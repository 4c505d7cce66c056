"""How much faster Assay is than ferret, interpreto, captum, lime and shap, at the same work on the same texts.

Each tool runs with the same model in a process of its own, in the environment that it needs, and times itself once it
is asked, so that start-up is nobody's speed. In every round all do the same work on the same few texts, one after the
other, and a round is compared with itself. Rows, tokens and padding are counted where the model is called. Where both
sides give the same scores, they are compared: the run ends with an error if they differ.

First: sh benchmarks/peers/environments.sh
Then:  python benchmarks/peers.py [--quick] [--only ferret] [--model FOLDER --task sst2] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Seconds, machine, ratio

HERE = Path(__file__).parent
SAMPLES = 50
ROWS_A_CALL = 64
OURS = "assay"
JUDGED: dict[str, dict[str, int]] = {
    "leave_one_out": {},
    "lime": {"samples": SAMPLES},
    "partition_shap": {"samples": SAMPLES},
    "gradient": {},
    "gradient_x_input": {},
    "integrated_gradients": {"steps": 10},
}

Request = dict[str, Any]
Reply = dict[str, Any]


class Side:
    """A tool in a process of its own."""

    def __init__(self, name: str, environments: Path, model: str, threads: int) -> None:
        own = environments / name / "bin" / "python"
        python = str(own) if name in ("ferret", "interpreto") else sys.executable
        if name in ("ferret", "interpreto") and not own.exists():
            sys.exit(f"{own} is not there. Make it by: sh benchmarks/peers/environments.sh {environments}")
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(HERE / "peers" / f"{name}_side.py"), model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )
        self.name = name

    def ask(self, request: Request) -> Reply:
        """Have it do some work."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            sys.exit(f"{self.name} failed:\n{self._log.read()[-2000:]}")
        reply: Reply = json.loads(line)
        return reply

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class Round:
    """What everyone works on in one round.

    Attributes:
        texts: of the examples.
        targets: the class that is explained of each.
        scores: for each of six explainers, its scores of each text's tokens; empty where nobody judges them.
    """

    texts: list[str]
    targets: list[int]
    scores: dict[str, list[list[float]]] = field(default_factory=dict)

    @property
    def asked(self) -> Request:
        """What every request holds."""
        return {"texts": self.texts, "targets": self.targets}


Ask = Callable[[Round], Request]


@dataclass(frozen=True)
class Contest:
    """One piece of work that several tools do.

    Attributes:
        asks: what each competitor is asked; a name's first word is its process. Assay's own comes first.
        agrees: compares what was found with Assay's, by the competitor's name; says how well, or raises.
        judges: whether it is about explanations that are there already.
    """

    asks: Mapping[str, Ask]
    agrees: Callable[[str, Any, Any], str] | None = None
    judges: bool = False


def main() -> None:
    arguments = parse()
    contests = {name: contest for name, contest in all_contests().items() if chosen(name, arguments.only)}
    if not contests:
        sys.exit(f"--only {' '.join(arguments.only)} fits none of: {'; '.join(all_contests())}")
    with tempfile.TemporaryDirectory() as folder:
        texts = task_texts(arguments.task, arguments.rounds * arguments.texts)
        model = arguments.model or small_bert(folder)
        needed = {process(who) for contest in contests.values() for who in contest.asks} | {OURS}
        sides = {name: Side(name, arguments.environments, model, arguments.threads) for name in sorted(needed)}
        header = f"{machine()}, of which {arguments.threads} used by each tool; {arguments.rounds} rounds of "
        header += f"{arguments.texts} texts of {arguments.task}; {arguments.model or '6 layers of width 384, random'}"
        print(header, flush=True)
        replies: dict[str, list[dict[str, Reply]]] = {name: [] for name in contests}
        agreements: dict[str, list[str]] = {}
        for number in range(arguments.rounds + 1):
            # What is imported or compiled at first use is nobody's speed: the first round is one text, and not kept.
            first = max(0, number - 1) * arguments.texts
            part = make_round(sides, contests, texts[first : first + (arguments.texts if number else 1)])
            for name, contest in contests.items():
                found = one_round(sides, contest, part, number)
                if number == 0:
                    continue
                replies[name].append(found)
                for who in list(contest.asks)[1:]:
                    if contest.agrees is not None:
                        said = contest.agrees(who, found[OURS]["found"], found[who]["found"])
                        agreements.setdefault(f"{name}, {who}", []).append(said)
            print(f"round {number} of {arguments.rounds} done, load {os.getloadavg()[0]:.1f}", flush=True)
        for side in sides.values():
            side.close()
    table = as_table(replies)
    notes = [f"- {who}: {'; '.join(said)}" for who, said in agreements.items()]
    text = "\n".join([header, "", *table, "", *notes])
    print("\n" + text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "peers.md").write_text(text + "\n", "utf-8")
        write_rounds(arguments.out / "peers.csv", replies)


def one_round(sides: Mapping[str, Side], contest: Contest, part: Round, number: int) -> dict[str, Reply]:
    """Everyone's reply; each round begins with another competitor."""
    asks = list(contest.asks.items())
    first = number % len(asks)
    return {who: sides[process(who)].ask(ask(part)) for who, ask in asks[first:] + asks[:first]}


def make_round(sides: Mapping[str, Side], contests: Mapping[str, Contest], texts: list[str]) -> Round:
    """The predicted class of each text and, if someone judges them, six explanations of it."""
    said = sides[OURS].ask({"work": "predict", "feature": "token", "texts": texts})["found"]
    part = Round(texts, said["targets"])
    if any(contest.judges for contest in contests.values()):
        request = {"work": "explain", "feature": "token", "explainers": JUDGED, **part.asked}
        found = sides[OURS].ask(request)["found"]
        part.scores.update({name: [distinct(scores) for scores in vectors] for name, vectors in found.items()})
    return part


def distinct(scores: Sequence[float]) -> list[float]:
    """The scores over the largest of them, without ties, which every tool breaks in a way of its own."""
    array = np.array(scores)
    ranks = np.argsort(np.argsort(array, kind="stable"))
    return list((array / max(1e-12, np.abs(array).max()) + 1e-6 * ranks).tolist())


def task_texts(name: str, count: int) -> list[str]:
    import assay

    return [" ".join(example.text).strip() for example in assay.load_task(name, size=count)]


def small_bert(folder: str) -> str:
    """A BERT of 6 layers and width 384 with random weights, the same every time."""
    import torch

    import assay
    from assay.base_models import TinyBert

    torch.manual_seed(0)
    settings = {"layers": 6, "width": 384, "heads": 12, "intermediate": 1536, "spread": 0.05}
    model, tokenizer = TinyBert(**settings).create(assay.load_task("planted_word", size=200))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def all_contests() -> dict[str, Contest]:
    """Every piece of work, by what it is."""

    def evaluate(protocol: str, **more: Any) -> Ask:
        return lambda part: {
            "work": "evaluate",
            "protocol": protocol,
            "feature": "token",
            "scores": part.scores,
            **part.asked,
            **more,
        }

    def explain(feature: str, **explainers: Request) -> Ask:
        named = {name.replace("__", " "): settings for name, settings in explainers.items()}
        return lambda part: {"work": "explain", "feature": feature, "explainers": named, **part.asked}

    def theirs(work: str = "explain", **more: Any) -> Ask:
        return lambda part: {"work": work, **part.asked, **more}

    def ferrets_six(part: Round) -> Request:
        # ferret's LIME takes as many samples as the square of a text's tokens.
        samples = round(statistics.mean(len(text.split()) ** 2 for text in part.texts))
        path: Request = {"steps": 50}
        return explain(
            "token",
            partition_shap={"samples": 500},
            lime={"samples": max(10, samples)},
            gradient={},
            gradient_x_input={},
            integrated_gradients={**path},
            integrated_gradients__again={**path},
        )(part)

    def interpreto(method: str, settings: Request) -> dict[str, Ask]:
        asked = {"method": method, "settings": settings}
        return {
            "interpreto, as it comes": theirs(batch_size=4, **asked),
            "interpreto, 64 rows a batch": theirs(batch_size=ROWS_A_CALL, **asked),
        }

    def captum(method: str, **settings: Any) -> dict[str, Ask]:
        full = {**settings, "perturbations_per_eval": ROWS_A_CALL}
        return {
            "captum, as it comes": theirs(method=method, settings=settings),
            "captum, 64 rows a call": theirs(method=method, settings=full),
        }

    return {
        "ferret: comprehensiveness, sufficiency and tau-LOO of six explanations": Contest(
            {
                OURS: evaluate("ferret"),
                "assay in bfloat16": evaluate("ferret", dtype="bfloat16"),
                "ferret": evaluate(""),
            },
            agree,
            judges=True,
        ),
        "ferret: its six explainers": Contest({OURS: ferrets_six, "ferret": theirs()}),
        "interpreto: insertion and deletion of six explanations": Contest(
            {
                OURS: evaluate("interpreto"),
                "interpreto, as it comes": evaluate("", batch_size=4),
                "interpreto, 64 rows a batch": evaluate("", batch_size=ROWS_A_CALL),
            },
            agree,
            judges=True,
        ),
        "interpreto: occlusion": Contest({OURS: explain("token", leave_one_out={}), **interpreto("occlusion", {})}),
        "interpreto: LIME": Contest(
            {
                OURS: explain("token", lime={"samples": SAMPLES}),
                **interpreto("lime", {"n_perturbations": SAMPLES}),
            }
        ),
        "interpreto: saliency": Contest(
            {OURS: explain("token", gradient_x_input={}), **interpreto("saliency", {})},
        ),
        "interpreto: integrated gradients": Contest(
            {
                OURS: explain("token", integrated_gradients={"steps": SAMPLES}),
                **interpreto("integrated_gradients", {"n_perturbations": SAMPLES}),
            }
        ),
        "interpreto: SmoothGrad": Contest(
            {
                OURS: explain("token", smoothgrad={"samples": SAMPLES}),
                **interpreto("smoothgrad", {"n_perturbations": SAMPLES}),
            }
        ),
        "captum: FeatureAblation": Contest({OURS: explain("token", leave_one_out={}), **captum("ablation")}),
        "captum: Lime": Contest(
            {OURS: explain("token", lime={"samples": SAMPLES}), **captum("lime", n_samples=SAMPLES)}
        ),
        "captum: KernelShap": Contest(
            {OURS: explain("token", kernel_shap={"samples": SAMPLES}), **captum("kernel_shap", n_samples=SAMPLES)}
        ),
        "captum: Saliency": Contest({OURS: explain("token", gradient={}), "captum": theirs("saliency")}),
        "lime: LimeTextExplainer": Contest(
            {OURS: explain("word", lime={"samples": SAMPLES}), "lime, 64 rows a call": theirs(samples=SAMPLES)}
        ),
        "shap: the partition explainer on a pipeline": Contest(
            {OURS: explain("token", partition_shap={"samples": 500}), "shap": theirs(samples=500)}
        ),
    }


def process(who: str) -> str:
    """The tool that a competitor's name begins with."""
    return who.replace(",", " ").split()[0]


def agree(who: str, ours: Any, theirs: Any) -> str:
    """How far two tools' scores of the same attributions are apart.

    Raises:
        AssertionError: by more than rounding, or in bfloat16 by more than is allowed for.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for explainer, rows in ours.items():
        for mine, other in zip(rows, theirs[explainer], strict=True):
            for metric, value in mine.items():
                if value is not None and other[metric] is not None:
                    pairs.setdefault(metric, []).append((value, other[metric]))
    apart = {metric: np.abs(np.subtract(*np.transpose(both))) for metric, both in pairs.items()}
    if who.startswith(OURS):
        means = {metric: abs(np.mean(np.subtract(*np.transpose(both)))) for metric, both in pairs.items()}
        return "means apart by " + ", ".join(f"{metric} {value:.4f}" for metric, value in means.items())
    for metric, differences in apart.items():
        if metric == "taucorr_loo":  # two tokens whose drops are the same but for rounding change places
            assert np.quantile(differences, 0.9) < 1e-4, (metric, differences.max())
        else:
            assert differences.max() < 1e-4, (metric, differences.max())
    return (
        f"{sum(map(len, pairs.values()))} scores, at most {max(float(one.max()) for one in apart.values()):.1e} apart"
    )


def as_table(replies: Mapping[str, Sequence[Mapping[str, Reply]]]) -> list[str]:
    """A Markdown table: medians over the rounds, and the lowest and highest ratio."""
    lines = [
        "| work | by | seconds | × Assay by the clock | × Assay on the processor | rows | tokens | padding |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, rounds in replies.items():
        if not rounds:
            continue
        seconds = {who: [Seconds(one[who]["wall"], one[who]["processor"]) for one in rounds] for who in rounds[0]}
        for who in sorted(seconds, key=lambda one: (one != OURS, not one.startswith(OURS), one)):
            clock, processor = (
                ratio([getattr(one, kind) for one in seconds[who]], [getattr(one, kind) for one in seconds[OURS]])
                for kind in ("wall", "processor")
            )
            rows, tokens, padding = (sum(one[who][key] for one in rounds) for key in ("rows", "tokens", "padding"))
            first = name if who == OURS else ""
            lines.append(
                f"| {first} | {who} | {statistics.median(one.wall for one in seconds[who]):.2f} | "
                f"{clock.strip() if who != OURS else '1'} | {processor.strip() if who != OURS else '1'} | "
                f"{rows:,} | {tokens:,} | {padding / max(1, tokens):.0%} |"
            )
    return lines


def write_rounds(path: Path, replies: Mapping[str, Sequence[Mapping[str, Reply]]]) -> None:
    """Every single measurement, as CSV."""
    columns = ["wall", "processor", "rows", "tokens", "padding", "threads"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["work", "by", "round", *columns])
        for name, rounds in replies.items():
            for number, found in enumerate(rounds):
                for who, reply in found.items():
                    writer.writerow([name, who, number + 1, *(reply[column] for column in columns)])


def chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(part.lower() in name.lower() for part in only)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed")
    parser.add_argument("--texts", type=int, default=8, help="how many texts in a round")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 texts")
    parser.add_argument("--only", nargs="+", default=[], help="work whose name has one of these parts in it")
    parser.add_argument("--model", help="folder of a classifier; by default a BERT with random weights")
    parser.add_argument("--task", default="planted_word", help="where the texts come from")
    parser.add_argument("--threads", type=int, default=1, help="of each tool")
    parser.add_argument("--environments", type=Path, default=Path(".peers"), help="where environments.sh put them")
    parser.add_argument("--out", type=Path, help="folder for peers.md and peers.csv")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.texts = 2, 2
    return arguments


if __name__ == "__main__":
    main()
