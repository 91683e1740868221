"""Configurations and identities, whatever is in them."""

from collections.abc import Iterator
from itertools import chain, combinations, count, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cygnet.auth.credentials import SharedSecrets
from cygnet.auth.distinguished_name import decode_name, encode_name, format_name
from cygnet.auth.identity import EXACT, IPV4_RANGE, IPV6_RANGE, Identity, matches, parse_identity
from cygnet.config.errors import ConfigError, Problem
from cygnet.config.ipsec.convert import convert
from cygnet.config.ipsec.keywords import CONN_KEYWORDS
from cygnet.config.keys import TABLES
from cygnet.config.load import Configuration, load_text
from cygnet.config.references import resolve_references
from cygnet.config.store import Store
from cygnet.config.syntax import Section, parse_file, parse_text
from cygnet.config.writer import render as write
from cygnet.ike.settings import PoolSettings, Settings, SharedSecret

NAMES = st.text(
    st.characters(exclude_characters='#{}:.,="\r\n\t \x85\u2028\u2029', exclude_categories=["Cs"]), min_size=1
).filter(lambda name: name != "include")
TEXTS = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=30)
Tree = dict[str, "Tree | str"]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(NAMES, TEXTS, max_size=3),
    lambda inner: st.dictionaries(NAMES, inner | TEXTS, max_size=3),
    max_leaves=12,
)

KEYWORDS = sorted(
    {name for table in TABLES.values() for name in table.names}
    | {"connections", "pools", "secrets", "gateway", "ike-1", "children"}
)
FRAGMENTS = st.sampled_from(KEYWORDS) | st.sampled_from(
    ["{", "}", "{ ", " }\n", "=", " = ", "\n", "#", '"', "\\", ":", ".", ",", "psk", "10.0.0.0/8", "4h", "*@x"]
) | st.text(max_size=3)  # fmt: skip

VALID = """\
base { local { auth = psk }
  remote { auth = psk } }
connections { c : base { pools = p
    proposals = aes128gcm16-prfsha256-x25519
    children { n { local_ts = 10.1.0.0/16 } } } }
pools { p { addrs = 10.3.0.0/24 } }
secrets { ike-1 { id = *@example.org
    secret = "open sesame" } }
gateway { workers = 2
  dataplane = null }
"""


def render(tree: Tree) -> str:
    lines = []
    for name, value in tree.items():
        if isinstance(value, dict):
            lines.append(f"{name} {{\n{render(value)}\n}}")
        else:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{name} = "{escaped}"')
    return "\n".join(lines)


def tree_of(section: Section) -> Tree:
    inner: Tree = {name: tree_of(sub) for name, sub in section.sections.items()}
    return {name: setting.value or "" for name, setting in section.settings.items()} | inner


def render_into(tree: Tree, folder: Path, cuts: Iterator[int], numbers: Iterator[int]) -> str:
    """Like `render`, with some of the statements in files that are included in their place: by name, by a pattern, from
    a folder of their own."""
    lines = []
    for name, value in tree.items():
        if isinstance(value, dict):
            line = f"{name} {{ # {name}\n{render_into(value, folder, cuts, numbers)}\n}}"
        else:
            line = render({name: value})
        cut = next(cuts)
        if cut:
            number = next(numbers)
            place = folder / f"d{number}" if cut == 3 and not isinstance(value, dict) else folder
            place.mkdir(exist_ok=True)
            (place / f"f{number}.conf").write_text(line, newline="")
            inside = "" if place is folder else f"{place.name}/"
            line = f"include f{number}.conf" if cut == 1 else f'include "{inside}f{number}.*"'
        lines.append(line)
    return "\n".join(lines)


def check_load(text: str) -> None:
    try:
        configuration = load_text(text)
    except ConfigError as exc:
        assert exc.problems
        assert all(str(problem).isprintable() for problem in exc.problems)
        assert any(not problem.is_warning for problem in exc.problems)
    else:
        assert isinstance(configuration, Configuration)
        assert all(warning.is_warning for warning in configuration.warnings)


@given(TREES)
def test_what_is_written_is_read(tree: Tree) -> None:
    assert tree_of(parse_text(render(tree))) == tree


@given(TREES)
def test_what_the_writer_writes_is_read(tree: Tree) -> None:
    root = parse_text(render(tree))
    assert tree_of(parse_text(write(root))) == tree


@given(TREES, st.lists(st.integers(0, 3), max_size=30))
def test_what_is_included_is_read_in_its_place(tree: Tree, cuts: list[int]) -> None:
    with TemporaryDirectory() as name:
        text = render_into(tree, Path(name), chain(cuts, repeat(0)), count())
        path = Path(name) / "main.conf"
        path.write_text(text, newline="")
        assert tree_of(parse_file(str(path))) == tree


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("klm"), st.sampled_from(["1", "2", ""]), max_size=3),
            st.dictionaries(st.sampled_from("klm"), st.sampled_from(["1", "2"]), max_size=2),
            st.lists(st.integers(0, 7), max_size=3),
        ),
        max_size=8,
    )
)
def test_what_is_inherited_is_what_the_rule_says(
    sections: list[tuple[dict[str, str], dict[str, str], list[int]]],
) -> None:
    """Sections refer to sections before them only; what stands in a section goes first, then the first reference."""
    lines = []
    expected: list[tuple[dict[str, str], dict[str, str]]] = []
    for number, (settings, inner, references) in enumerate(sections):
        usable = [reference for reference in references if reference < number]
        mark = f" : {', '.join(f's{reference}' for reference in usable)}" if usable else ""
        body = "\n".join(f"{key} = {value}" for key, value in settings.items())
        inside = "\n".join(f"{key} = {value}" for key, value in inner.items())
        lines.append(f"s{number}{mark} {{\n{body}\nx {{\n{inside}\n}}\n}}")
        merged, merged_inner = dict(settings), dict(inner)
        for reference in usable:
            merged = expected[reference][0] | merged
            merged_inner = expected[reference][1] | merged_inner
        expected.append((merged, merged_inner))
    problems: list[Problem] = []
    resolved = resolve_references(parse_text("\n".join(lines)), problems)
    assert not problems
    for number, (merged, merged_inner) in enumerate(expected):
        assert tree_of(resolved.sections[f"s{number}"]) == merged | {"x": merged_inner}


@given(st.text() | st.lists(FRAGMENTS, max_size=40).map("".join))
def test_any_text_loads_or_is_refused(text: str) -> None:
    check_load(text.replace("include", "included"))


@given(st.integers(0, len(VALID)), st.integers(0, 12), FRAGMENTS)
def test_a_file_with_one_change_loads_or_is_refused(start: int, size: int, inserted: str) -> None:
    check_load(VALID[:start] + inserted + VALID[start + size :])


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from(["a", "b", "c", "d", "a.x", "b.x.y"]), max_size=3))
    )
)
def test_any_references_end(sections: list[tuple[str, list[str]]]) -> None:
    parts = [
        f"{name} {': ' if refs else ''}{', '.join(refs)} {{ k{i} = 1\nx {{ y {{ }} }} }}"
        for i, (name, refs) in enumerate(sections)
    ]
    problems: list[object] = []
    root = parse_text("\n".join(parts))
    resolved = resolve_references(root, problems)  # type: ignore[arg-type]
    for name, section in root.sections.items():
        assert set(section.settings) <= set(resolved.sections[name].settings)
        if not problems:
            for reference in section.references:
                target = resolved
                for part in reference.name.split("."):
                    target = target.sections[part]
                assert set(target.settings) <= set(resolved.sections[name].settings)


@given(
    st.integers(1, 255).filter(lambda n: n not in (IPV4_RANGE, IPV6_RANGE)),
    st.binary(min_size=1, max_size=40) | TEXTS.map(str.encode),
)
def test_any_identity_is_printed_on_one_line_and_read_back(id_type: int, data: bytes) -> None:
    if not data:
        return
    identity = Identity(id_type, data)
    assert str(identity).isprintable()
    read_back = parse_identity(str(identity))
    if identity.is_pattern:
        assert read_back == identity
    else:
        assert matches(read_back, identity) == EXACT
        assert read_back.match_key == identity.match_key


@given(st.lists(st.tuples(st.sampled_from(["C", "O", "CN", "E", "1.2.3"]), TEXTS), min_size=1, max_size=4))
def test_any_name_is_printed_and_read_back(attributes: list[tuple[str, str]]) -> None:
    values = [(oid, "".join(char for char in value if char.isprintable()).strip()) for oid, value in attributes]
    escaped = [(oid, value.replace("\\", "\\\\").replace(",", "\\,")) for oid, value in values]
    der = encode_name(", ".join(f"{oid}={value}" for oid, value in escaped))
    assert [value for _, value in decode_name(der)] == [value for _, value in values]
    assert encode_name(format_name(der)) == der


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda n, at, b: n[:at] + b + n[at + 1 :],
        st.just(encode_name("C=CH, CN=y")),
        st.integers(0, 30),
        st.binary(max_size=2),
    )
)
def test_any_octets_are_a_name_or_refused(octets: bytes) -> None:
    try:
        attributes = decode_name(octets)
    except ValueError:
        return
    assert isinstance(attributes, tuple)


OWNERS = st.sampled_from(["a", "b", "c.x", "d.x", "*.x", "m@y", "*@y", "%any"]).map(parse_identity)
ENDS = st.sampled_from(["a", "b", "c.x", "d.x", "m@y", "n@y", "z"]).map(parse_identity)


@given(st.lists(st.lists(OWNERS, max_size=3), max_size=6), ENDS, ENDS)
def test_the_secret_found_is_the_one_that_a_plain_search_finds(
    owners: list[list[Identity]], local: Identity, remote: Identity
) -> None:
    secrets = [SharedSecret(b"%d" % number, tuple(them)) for number, them in enumerate(owners)]

    def rank(secret: SharedSecret) -> tuple[int, int]:
        them = secret.owners or (parse_identity("%any"),)
        return (
            max(matches(owner, remote) or 0 for owner in them),
            max(matches(owner, local) or 0 for owner in them),
        )

    best = max(secrets, key=rank, default=None)
    expected = best.secret if best is not None and rank(best) != (0, 0) else None
    assert SharedSecrets(secrets).find(local, remote) == expected


@given(st.sampled_from(["0x", "0s"]), st.text("ghijk!?%", min_size=4, max_size=20))
def test_a_malformed_secret_is_not_repeated(prefix: str, secret: str) -> None:
    try:
        load_text(f"secrets {{ ike {{ secret = {prefix}{secret}\n }} }}")
    except ConfigError as exc:
        assert secret not in str(exc)


def test_the_sample_is_valid() -> None:
    with pytest.raises(ConfigError):
        load_text(VALID.replace("psk", "psj"))
    assert load_text(VALID).settings.connections


IPSEC_FRAGMENTS = st.sampled_from(
    [
        *CONN_KEYWORDS,
        *(
            "conn a\n",
            "conn b\n",
            "conn %default\n",
            "ca r\n",
            "config setup\n",
            "\n",
            " ",
            "\n ",
            "\n\t",
            "=",
            '"',
            "#",
        ),
        *("\\", ",", "%any", "10.0.0.0/8", "add", "auto=add\n ", "also=a", "also=b", "1h", "100%", "yes", "!"),
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
SECRET_FRAGMENTS = st.sampled_from(
    [" : ", ": ", "PSK ", "RSA ", "EAP ", "P12 ", "PIN ", '"', "'", "\n", "# ", "a@b ", "%smartcard", ":1 ", "0x", "0s"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)  # fmt: skip


@given(st.lists(IPSEC_FRAGMENTS, max_size=60).map("".join), st.lists(SECRET_FRAGMENTS, max_size=20).map("".join))
def test_any_ipsec_conf_is_converted_to_what_is_read(conf: str, secrets: str) -> None:
    with TemporaryDirectory() as name:
        paths = [Path(name) / "ipsec.conf", Path(name) / "ipsec.secrets"]
        for path, text in zip(paths, (conf, secrets), strict=True):
            path.write_text(text.replace("include", "included"), newline="")
        conversion = convert(str(paths[0]), str(paths[1]))
        assert tree_of(parse_text(conversion.text)) == tree_of(conversion.root)
        said = (*conversion.left_out, *conversion.notes, *conversion.errors, *conversion.warnings)
        assert all(str(problem).isprintable() for problem in said)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8))
def test_pools_that_overlap_are_found(ranges: list[tuple[int, int]]) -> None:
    pools = [f"p{n} {{ addrs = 10.0.0.{low}-10.0.0.{low + size}\n }}" for n, (low, size) in enumerate(ranges)]
    do_overlap = any(
        low <= other + more and other <= low + size for (low, size), (other, more) in combinations(ranges, 2)
    )
    try:
        load_text(f"pools {{ {' '.join(pools)} }}")
    except ConfigError as exc:
        assert do_overlap
        assert all("overlap with those of" in str(problem) for problem in exc.problems)
    else:
        assert not do_overlap


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(0, 9)), max_size=20))
def test_of_pools_that_are_loaded_one_by_one_no_two_overlap(loaded: list[tuple[int, int, int]]) -> None:
    """Each is taken if no other one has addresses of it, whichever of its name stood before, or is taken away."""
    store = Store(Settings())
    there: dict[str, range] = {}
    for number, first, size in loaded:
        name, octets = f"p{number}", range(first, first + size + 1)
        if size == 9:
            assert store.remove_pool(name) == (there.pop(name, None) is not None)
            continue
        is_free = not any(set(octets) & set(other) for other_name, other in there.items() if other_name != name)
        pool = PoolSettings(name=name, first=bytes((10, 0, 0, octets[0])), last=bytes((10, 0, 0, octets[-1])))
        try:
            store.put_pool(pool)
        except ConfigError:
            assert not is_free
        else:
            assert is_free
            there[name] = octets
    assert set(store.pools) == set(there)
