"""The documented table is what the code does."""

from __future__ import annotations

import torch

from tests.modules.table import PAGE, page

torch.set_num_threads(1)


def test_the_table_of_the_page_is_that_of_the_reports():
    text = PAGE.read_text()
    assert page(text) == text, "run: python -m tests.modules.table"
