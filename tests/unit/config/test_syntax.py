"""The syntax of swanctl.conf, form by form."""

import random
from pathlib import Path

import pytest

from cygnet.config.defaults import MAX_INCLUDE_DEPTH, MAX_PROBLEMS, MAX_SECTION_DEPTH
from cygnet.config.errors import ConfigError
from cygnet.config.syntax import Section, parse_file, parse_text

Tree = dict[str, "Tree | str | None"]


def tree(section: Section) -> Tree:
    inner: Tree = {name: tree(sub) for name, sub in section.sections.items()}
    return {name: setting.value for name, setting in section.settings.items()} | inner


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_text(text, "x")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing", {}),
        ("a=b", {"a": "b"}),
        ("a = b", {"a": "b"}),
        ("\ta\t=\tb\t\r\n", {"a": "b"}),
        ("a = b # comment", {"a": "b"}),
        ("a = b#comment", {"a": "b"}),
        ("a =", {"a": None}),
        ("a = # nothing\nb = c", {"a": None, "b": "c"}),
        ("a = b   c\td", {"a": "b c d"}),
        ("a = k=v, x{y", {"a": "k=v, x{y"}),
        ("a = b }", None),
        ("a\n=\nb = c", {"a": None, "b": "c"}),
        ('a = "b"', {"a": "b"}),
        ('a = ""', {"a": ""}),
        ('a = "b # c { } = \\" \\\\ \\n\\t\\r\\x"', {"a": 'b # c { } = " \\ \n\t\rx'}),
        ('a = "b" "c" d', {"a": "b c d"}),
        ('a = x"y z"', {"a": "x y z"}),
        ('a = "b \\\n   c"', {"a": "b    c"}),
        ('a = "b \\\r\n   c"', {"a": "b    c"}),
        ('a = "b\nc"', {"a": "b\nc"}),
        ("s { }", {"s": {}}),
        ("s { a = b }", {"s": {"a": "b"}}),
        ("s {a=b}", {"s": {"a": "b"}}),
        ("s\n{\na = b\n}", {"s": {"a": "b"}}),
        ("s { t { u { a = b } } }", {"s": {"t": {"u": {"a": "b"}}}}),
        ("s { a = 1 }\ns { b = 2\na = 3 }", {"s": {"a": "3", "b": "2"}}),
        ("include = x", {"include": "x"}),
        ("include  = x", {"include": "x"}),
        ("included = x", {"included": "x"}),
        ("include { a = b }", None),
        ("s : t, u.v { a = b }", {"s": {"a": "b"}}),
        ("a/b-c_d%e = f", {"a/b-c_d%e": "f"}),
        ("Ünï = cödé", {"Ünï": "cödé"}),
    ],
)
def test_forms(text: str, expected: Tree | None) -> None:
    if expected is None:
        assert problems(text)
    else:
        assert tree(parse_text(text)) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a", "x:1:1: this name is followed by neither = nor {"),
        ("a b", "x:1:1: this name is followed by neither = nor {"),
        ("s { a }", "x:1:5: this name is followed by neither = nor {"),
        ("a.b = c", "x:1:2: a name can't hold a dot"),
        ('"a" = b', "x:1:1: a name is expected here"),
        ("= b", "x:1:1: a name is expected here"),
        ("}", "x:1:1: } closes no section of this file"),
        ("\n  s {", "x:2:3: section s is not closed: } is missing"),
        ('a = "b', "x:1:5: the quote that opens here is not closed"),
        ('a = b"c', "x:1:6: the quote that opens here is not closed"),
        ('a = "b\\"', "x:1:5: the quote that opens here is not closed"),
        ("s : { }", "x:1:5: the name of a section to inherit from is expected here"),
        ("s : t u { }", "x:1:7: { is expected after the sections to inherit from"),
        ("s : t", "x:1:5: { is expected after the sections to inherit from"),
        ("s : t, { }", "x:1:8: the name of a section to inherit from is expected here"),
        ("include  # x", "x:1:1: include is followed by no file name"),
        ("include \0", "x:1:1: can't include this: embedded null byte"),
    ],
)
def test_errors(text: str, line: str) -> None:
    assert problems(text) == [line]


def test_an_error_ends_its_line_only() -> None:
    lines = problems("s {\n a\n b = 1\n = c\n}\nt {\n d\n u { }\n}\n")
    assert [line.split(": ")[0] for line in lines] == ["x:2:2", "x:4:2", "x:7:2"]


def test_the_rest_of_a_secret_is_not_repeated() -> None:
    for text in (
        "secret = abc}hunter2",
        "secret hunter2",
        'secret = "hunter2',
        "secret = x\n.hunter2",
        "a : hunter2 x",
    ):
        assert "hunter2" not in "".join(problems(text))


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    assert parse_text("s {" * MAX_SECTION_DEPTH + "}" * MAX_SECTION_DEPTH)
    depth = MAX_SECTION_DEPTH + 1
    assert problems("s {" * depth + "}" * depth) == [f"x:1:{3 * depth - 2}: sections are nested too deeply"]
    assert len(problems("s {" * 100_000)) == MAX_PROBLEMS


def test_long_files_take_linear_time() -> None:
    section = parse_text("#" * 500_000 + "\n" + " " * 500_000 + 'a = "' + "\\\\" * 500_000 + '"')
    assert section.settings["a"].value == "\\" * 500_000


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "d[1]").mkdir()
    (tmp_path / "d[1]" / "b.conf").write_text("x = b\ny = b\n")
    (tmp_path / "d[1]" / "a.conf").write_text("x = a\nz = a\ninclude deeper.inc\n")
    (tmp_path / "d[1]" / "deeper.inc").write_text("deep { w = 1 }")
    (tmp_path / "d[1]" / "has space.inc").write_text("spaced = yes")
    main = tmp_path / "d[1]" / "main"
    main.write_text('x = 0\ns { include *.conf\n}\ninclude has\\ space.inc\ninclude "none*.inc" # fine\nend = 1')
    assert tree(parse_file(str(main))) == {
        "x": "0",
        "s": {"x": "b", "z": "a", "y": "b", "deep": {"w": "1"}},
        "spaced": "yes",
        "end": "1",
    }
    absolute = tmp_path / "absolute"
    absolute.write_text(f'include "{tmp_path}/d?1?/b.conf"')
    assert tree(parse_file(str(absolute))) == {"x": "b", "y": "b"}


def test_errors_of_included_files_are_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("main").write_text("s {\n include sub/inner\n include sub\n include sub/binary\n include missing\n}\nt")
    Path("sub/inner").write_text("a = 1\n}\nu {\nb")
    Path("sub/binary").write_bytes(b"abc\xff")
    with pytest.raises(ConfigError) as caught:
        parse_file("main")
    assert str(caught.value).splitlines() == [
        "main:3:2: can't include sub: is a directory",
        "main:4:2: can't include sub/binary: it is not UTF-8 text (octet 3)",
        "main:5:2: can't include missing: no such file or directory",
        "main:7:1: this name is followed by neither = nor {",
        "sub/inner:2:1: } closes no section of this file",
        "sub/inner:3:1: section u is not closed: } is missing",
        "sub/inner:4:1: this name is followed by neither = nor {",
    ]


def test_files_that_include_each_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("include ./b")
    Path("b").write_text("x = 1\ninclude *")
    with pytest.raises(ConfigError) as caught:
        parse_file("a")
    assert str(caught.value).splitlines() == ["b:2:1: a includes itself", "b:2:1: b includes itself"]
    for number in range(MAX_INCLUDE_DEPTH + 1):
        Path(f"f{number}").write_text(f"include f{number + 1}")
    Path(f"f{MAX_INCLUDE_DEPTH + 1}").write_text("x = 1")
    with pytest.raises(ConfigError, match=f"f{MAX_INCLUDE_DEPTH}:1:1: files are included too deeply"):
        parse_file("f0")
    assert tree(parse_file("f1")) == {"x": "1"}


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/nowhere: no such file or directory\Z"):
        parse_file(str(tmp_path / "nowhere"))


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "windows.conf"
    path.write_bytes(b"\xef\xbb\xbfs {\r\n  a = b c \r\n}\r\n")
    assert tree(parse_file(str(path))) == {"s": {"a": "b c"}}


_PIECES = (
    *("a", "b", "include", "includes", "=", "=", "\n", "\n", " ", "\t", "\r\n", "{", "{", "}", "}", "# c\n", "#\n"),
    *("x y", '"q } # "', '"two\\\nlines"', ":", ",", ".", "k=v", "a = b\n", "c {\n", "}\n", "a : b {", "\\"),
)


@pytest.mark.parametrize("seed", range(400))
def test_the_way_for_plain_statements_leads_where_the_long_way_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choice(_PIECES) for _ in range(chance.randrange(1, 60)))
    short = _outcome(text)
    monkeypatch.setattr("cygnet.config.syntax._Parser._parse_plain", lambda parser, depth: False)
    assert short == _outcome(text)


def _outcome(text: str) -> object:
    try:
        return _with_places(parse_text(text, "/nowhere/x"))
    except ConfigError as exc:
        return str(exc)


def _with_places(section: Section) -> object:
    settings = {
        name: (each.value, each.name_position.offset, each.value_position.offset)
        for name, each in section.settings.items()
    }
    sections = {name: _with_places(each) for name, each in section.sections.items()}
    return (
        section.position.offset,
        settings,
        sections,
        [(each.name, each.position.offset) for each in section.references],
    )
