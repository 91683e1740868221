"""What README and the other documents point to is there: files, headings, commands, options, make targets."""

import argparse
import re
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from cygnet.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_COMMAND = re.compile(r"(?:^|[\s/=])cygnet +([a-z]+)(.*)")
_MAKE = re.compile(r"(?:^|\s)make ([a-z]+)(?=\s|$)")
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def prose_of(text: str) -> str:
    """A document without its blocks of code."""
    return _FENCE.sub("", text)


def code_of(text: str) -> list[str]:
    """What a document shows as commands: lines of shell and unit files (continued ones joined), and code in prose."""
    blocks = [body for language, body in _FENCE.findall(text) if language in ("sh", "ini")]
    lines = [line.partition(" # ")[0] for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    return lines + _CODE.findall(prose_of(text))


def anchors_of(path: Path) -> set[str]:
    """The anchors that a forge makes of a document's headings."""
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in _HEADING.findall(prose_of(path.read_text())))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """All long options that a parser takes."""
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


@cache
def options_of_command(command: str) -> set[str]:
    """Those of `cygnet COMMAND`."""
    for action in build_parser(command)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return options_of(action.choices[command])
    raise AssertionError("the program has no commands")


def commands_in(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """The calls of `cygnet` that a document shows: each command with the long options it is given."""
    found = []
    for line in code_of(text):
        match = _COMMAND.search(line)
        if match:
            found.append((match[1], tuple(_OPTION.findall(match[2]))))
    return found


def broken_links(path: Path) -> list[str]:
    """The relative links of a document that lead nowhere."""
    broken = []
    for link in _LINK.findall(prose_of(path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    return broken


def each_document(paths: list[Path] = DOCUMENTS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


@each_document()
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@each_document()
def test_commands_and_their_options_exist(path: Path) -> None:
    for command, options in commands_in(path.read_text()):
        assert command in COMMANDS
        unknown = set(options) - options_of_command(command)
        assert not unknown, f"cygnet {command} has no {unknown}"


@each_document()
def test_options_named_alone_exist(path: Path) -> None:
    known = options_of(build_parser()).union(*(options_of_command(command) for command in COMMANDS))
    alone = {code.split()[0] for code in _CODE.findall(prose_of(path.read_text())) if code.startswith("--")}
    assert alone <= known


@each_document()
def test_make_targets_exist(path: Path) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    named = {name for line in code_of(path.read_text()) for name in _MAKE.findall(line)}
    assert named <= targets


def test_readme_names_what_a_newcomer_needs() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in code_of(text)
    assert "make test" in code_of(text)
    assert {command for command, _ in commands_in(text)} >= {"gateway", "load", "status", "check"}


@pytest.mark.parametrize("benchmark", ["benchmark", "overload", "scaling"])
def test_readme_has_one_place_for_each_measurement(benchmark: str) -> None:
    """`benchmarks/` writes between these lines."""
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(f"<!-- {benchmark}:begin -->\n")
    assert "## Measured" in before
    assert rest.count(f"<!-- {benchmark}:end -->") == text.count(f"<!-- {benchmark}:end -->") == 1


def test_every_decision_is_listed_and_complete() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [record.name[:4] for record in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for record in records:
        assert f"(adr/{record.name})" in architecture
        assert {"context", "decision", "consequences"} <= anchors_of(record)


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(r for group in project["optional-dependencies"].values() for r in group),
    ]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    for requirement in requirements:
        name = re.split(r"[<>=~!\[; ]", requirement)[0]
        assert re.search(rf"^(### {name}|\| {name} \|)", text, re.MULTILINE), f"docs/dependencies.md lacks {name}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```sh\nsudo /opt/x/bin/cygnet load A --vip \\\n    --count 5\n```", [("load", ("--vip", "--count"))]),
        ("Say `cygnet status --json`.", [("status", ("--json",))]),
        ("```\ncygnet: serving on --everything\n```", []),
        ("```sh\nls cygnet\n```", []),
    ],
    ids=["continued", "inline", "output", "no-command"],
)
def test_calls_are_found_in_text(text: str, found: list[tuple[str, tuple[str, ...]]]) -> None:
    assert commands_in(text) == found


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading, here\n")
    text = "[a](other.md#a-heading-here) [b](other.md#gone) [c](gone.md) [d](https://example.org/x) [e](#no)\n"
    (tmp_path / "one.md").write_text(text)
    assert broken_links(tmp_path / "one.md") == ["other.md#gone", "gone.md", "#no"]
