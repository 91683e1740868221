"""The page about configuration says what the table says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cygnet.config.keys import TABLES
from cygnet.config.load import load_text
from cygnet.config.manual import render_manual
from cygnet.config.reference import render_reference

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render_reference()


def test_every_row_is_on_it() -> None:
    page = render_reference()
    for table in TABLES.values():
        for name in table.names:
            assert f"`{name}" in page


def test_its_example_loads() -> None:
    example = re.search(r"```\n(.*?)```", render_reference(), re.DOTALL)
    assert example is not None
    assert load_text(example[1]).warnings == ()


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_has_no_complaint_about_the_manual_page_and_shows_every_row(tmp_path: Path) -> None:
    page = tmp_path / "cygnet.conf.5"
    page.write_text(render_manual())
    environment = os.environ | {"MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MANROFFOPT": "-ww", "MAN_KEEP_FORMATTING": ""}
    shown = subprocess.run(["man", "--warnings", "-l", str(page)], capture_output=True, text=True, env=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    words = shown.stdout.replace("\u2010", "-")
    assert "swanctl.conf as the gateway Cygnet reads it" in words
    for table in TABLES.values():
        assert table.title in words
        for name in table.names:
            assert re.search(rf"^ +{re.escape(name)}(<suffix>)?( |$)", words, re.MULTILINE), name


def test_nothing_of_the_markdown_is_left_on_the_manual_page() -> None:
    page = render_manual()
    assert "`" not in page
    assert "\n## " not in page
    assert "required" in page


@pytest.mark.parametrize(("arguments", "start"), [([], "# Configuration"), (["--man"], '.\\" Rendered by')])
def test_both_can_be_rendered_from_the_command_line(arguments: list[str], start: str) -> None:
    command = [sys.executable, "-m", "cygnet.config.reference", *arguments]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(start)
