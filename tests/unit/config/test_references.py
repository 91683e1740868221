"""Inheritance between sections."""

from tests.unit.config.test_syntax import Tree, tree

from cygnet.config.references import referenced_names, resolve_references
from cygnet.config.syntax import Section, parse_text


def resolved(text: str) -> Tree:
    problems: list[object] = []
    root = resolve_references(parse_text(text), problems)  # type: ignore[arg-type]
    assert problems == []
    return tree(root)


def complaints(text: str) -> list[str]:
    problems: list[object] = []
    resolve_references(parse_text(text, "x"), problems)  # type: ignore[arg-type]
    return [str(problem) for problem in problems]


def test_own_values_go_before_inherited_ones() -> None:
    assert resolved("a { x = 1\ny = 1 }\nb : a { y = 2 }")["b"] == {"x": "1", "y": "2"}


def test_the_first_of_several_goes_before_the_next() -> None:
    assert resolved("a { x = 1 }\nb { x = 2\ny = 2 }\nc : a, b { }\nd : b, a { }") | {"a": 0, "b": 0} == {
        "a": 0,
        "b": 0,
        "c": {"x": "1", "y": "2"},
        "d": {"x": "2", "y": "2"},
    }


def test_inner_sections_are_merged_to_the_last_level() -> None:
    text = "a { s { t { x = 1\ny = 1 } } }\nb : a { s { t { y = 2 } u { } } }"
    assert resolved(text)["b"] == {"s": {"t": {"x": "1", "y": "2"}, "u": {}}}
    assert resolved(text)["a"] == {"s": {"t": {"x": "1", "y": "1"}}}


def test_a_cleared_value_is_not_inherited() -> None:
    assert resolved("a { x = 1 }\nb : a { x = \n }")["b"] == {"x": None}


def test_references_reach_forward_and_across_levels() -> None:
    text = "c { n : c.m { } m : base { y = 2 } }\nbase { x = 1 }"
    assert resolved(text)["c"] == {"n": {"x": "1", "y": "2"}, "m": {"x": "1", "y": "2"}}


def test_inherited_sections_keep_what_they_inherit() -> None:
    text = "leaf { x = 1 }\na { s : leaf { } }\nb : a { s { y = 2 } }\nc : b { }"
    assert resolved(text)["c"] == {"s": {"x": "1", "y": "2"}}


def test_own_come_first_in_order() -> None:
    root = resolve_references(parse_text("a { one { } two { } }\nb : a { three { } }"), [])
    assert list(root.sections["b"].sections) == ["three", "one", "two"]


def test_what_does_not_exist_is_an_error() -> None:
    assert complaints("base { s { } }\na : bse { }\nb : base.t { }\nc : base.s.t { }") == [
        'x:2:5: there is no section "bse" to inherit from (did you mean "base"?)',
        'x:3:5: there is no section "base.t" to inherit from',
        'x:4:5: there is no section "base.s.t" to inherit from',
    ]


def test_circles_are_an_error() -> None:
    assert complaints("a : a { }") == ['x:1:5: "a" inherits from itself']
    assert complaints("a : b { }\nb : c { }\nc : a { }") == ['x:3:5: "a" inherits from itself']
    assert complaints("a { b : a { } }") == ['x:1:9: "a" inherits from itself']


def test_long_chains_are_an_error_and_not_a_crash() -> None:
    text = "".join(f"s{n} : s{n + 1} {{ }}\n" for n in range(5000)) + "s5000 { }"
    assert any("too long a chain" in complaint for complaint in complaints(text))


def test_shared_sections_do_not_multiply() -> None:
    doubling = "".join(f"{t}{n} {{ l : {t}{n - 1} {{ }} r : {t}{n - 1} {{ }} }}\n" for t in "ab" for n in range(1, 30))
    root = resolve_references(parse_text(f"a0 {{ x = 1 }}\nb0 {{ y = 2 }}\n{doubling}c : a29, b29 {{ }}"), [])
    leaf: Section = root.sections["c"]
    for side in "lr" * 14 + "l":
        leaf = leaf.sections[side]
    assert tree(leaf) == {"x": "1", "y": "2"}


def test_the_names_of_templates_are_known() -> None:
    root = parse_text("s { t : a.b, c { u : d { } } }\na { b { } }\nc { }\nd { }")
    assert referenced_names(root) == {"a", "c", "d"}
