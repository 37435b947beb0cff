"""The table of docs/modules.md: ``python -m tests.modules.table`` writes it, a test compares it.

What stands there is what the reports say. Nothing is drawn for it: plans are made and not filled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from sigprop.errors import SigpropError
from sigprop.modules import init
from sigprop.modules.anatomy import anatomy
from sigprop.modules.init.plan import Plan
from tests.modules.residual import mlp, residual_mlp
from tests.vision import models

__all__ = ["BEGIN", "END", "PAGE", "table"]

PAGE = Path(__file__).parents[2] / "docs" / "modules.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

SCHEMES: dict[str, dict[str, Any]] = {
    "he_": {},
    "glorot_": {},
    "lecun_": {},
    "orthogonal_": {},
    "fractional_": {},
    "looks_linear_": {},
    "risotto_": {"lossy": True, "batch_norm": True},
    "fixup_": {},
    "skipinit_": {},
    "rezero_": {},
    "scaled_": {},
}


def _modules() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    image, words = torch.zeros(1, 3, 32, 32), torch.zeros(5, 1, 8)
    bare = {"norm_layer": lambda channels: nn.Identity()}
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    vision = models()
    with torch.device("meta"):  # nothing is drawn for a module whose numbers nobody reads
        nets = [vision.resnet18(num_classes=10), vision.resnet18(num_classes=10, **bare)]
        nets += [vision.resnet50(num_classes=10), vision.resnet50(num_classes=10, **bare)]
    nets = [net.to_empty(device="cpu") for net in nets]
    return {
        "resnet18": (nets[0], image),
        "resnet18 without BatchNorm": (nets[1], image),
        "resnet50": (nets[2], image),
        "resnet50 without BatchNorm": (nets[3], image),
        "transformer encoder": (nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), words),
        "residual MLP, type B": (residual_mlp((8,) * 5, classes=4), torch.zeros(1, 3)),
        "residual MLP, no ReLU on the sum": (
            residual_mlp((8,) * 5, kind="inner", gain=True),
            torch.zeros(1, 8),
        ),
        "plain MLP": (mlp(3, 8, 8, 4), torch.zeros(1, 3)),
    }


def _cell(report: init.InitReport) -> str:
    said = [
        f"{count} x {why}: **{rule}**" if rule is not None else f"{count} x left alone ({why})"
        for _, rule, why, count in report.grouped()
    ]
    return "; ".join(said)


def table() -> str:
    """A section for every scheme, a row for every module, and the notes behind."""
    modules = _modules()
    found = {name: anatomy(model, x) for name, (model, x) in modules.items()}
    notes: list[str] = []
    lines: list[str] = []
    for scheme, options in SCHEMES.items():
        said = "".join(f", {key}={value}" for key, value in options.items())
        lines += [f"### `{scheme}(model, x{said})`", "", "| module | what was set |", "|---|---|"]
        for name, (model, _) in modules.items():
            with mock.patch.object(Plan, "fill", lambda *_: None):
                try:
                    report = getattr(init, scheme)(model, anatomy=found[name], **options)
                except SigpropError as error:
                    lines.append(f"| {name} | refused: {error} |")
                    continue
            marks = []
            for note in report.notes:
                if note not in notes:
                    notes.append(note)
                marks.append(f"[{notes.index(note) + 1}]")
            lines.append(f"| {name} | {_cell(report)} {' '.join(marks)}".rstrip() + " |")
        lines.append("")
    lines += ["### Notes", ""]
    lines += [f"{i + 1}. {note}" for i, note in enumerate(notes)]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table of today."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return head + BEGIN + "\n" + table() + "\n" + END + tail


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
