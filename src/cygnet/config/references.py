"""Inheritance between sections: `conn-a : defaults, other.section { ... }` becomes one section with everything in it.

What stands in a section goes before what it inherits, and of several references the first goes before the next. An
inherited section is merged into the one of the same name, down to the last level.
"""

import difflib
from collections.abc import Iterator

from cygnet.config.defaults import MAX_SECTION_DEPTH, SUGGESTION_CUTOFF
from cygnet.config.errors import Problem, quote
from cygnet.config.syntax import Reference, Section


def resolve_references(root: Section, problems: list[Problem]) -> Section:
    """A copy of the tree without references. Sections that inherit nothing new are shared with the original."""
    return _Resolver(root, problems).resolve(root)


def referenced_names(root: Section) -> frozenset[str]:
    """The outermost sections that others refer to, or into."""
    return frozenset(reference.name.partition(".")[0] for section in _walk(root) for reference in section.references)


def _walk(section: Section) -> Iterator[Section]:
    yield section
    for inner in section.sections.values():
        yield from _walk(inner)


class _Resolver:
    __slots__ = ("_done", "_merged", "_problems", "_root", "_under_way")

    def __init__(self, root: Section, problems: list[Problem]) -> None:
        self._root = root
        self._problems = problems
        self._done: dict[int, Section] = {}
        self._merged: dict[tuple[int, int], tuple[Section, Section, Section]] = {}
        self._under_way: set[int] = set()

    def resolve(self, section: Section) -> Section:
        done = self._done.get(id(section))
        if done is not None:
            return done
        self._under_way.add(id(section))
        merged = _shallow_copy(section)
        merged.sections = {name: self.resolve(inner) for name, inner in section.sections.items()}
        for reference in section.references:
            target = self._target(reference)
            if target is not None:
                self._inherit(merged, target)
        self._under_way.discard(id(section))
        self._done[id(section)] = merged
        return merged

    def _target(self, reference: Reference) -> Section | None:
        section = self._root
        for name in reference.name.split("."):
            inner = section.sections.get(name)
            if inner is None:
                near = difflib.get_close_matches(name, section.sections, 1, SUGGESTION_CUTOFF)
                hint = f" (did you mean {quote(reference.name.replace(name, near[0], 1))}?)" if near else ""
                self._report(reference, f"there is no section {quote(reference.name)} to inherit from{hint}")
                return None
            section = inner
        if id(section) in self._under_way:
            self._report(reference, f"{quote(reference.name)} inherits from itself")
            return None
        if len(self._under_way) > 2 * MAX_SECTION_DEPTH:
            self._report(reference, f"{quote(reference.name)} is at the end of too long a chain of references")
            return None
        return self.resolve(section)

    def _inherit(self, section: Section, ancestor: Section) -> None:
        """Add to `section` what only `ancestor` has. The inner sections of neither are changed: they may be shared."""
        for name, setting in ancestor.settings.items():
            section.settings.setdefault(name, setting)
        for name, inner in ancestor.sections.items():
            own = section.sections.get(name)
            if own is None:
                section.sections[name] = inner
            elif own is not inner:
                section.sections[name] = self._merge(own, inner)

    def _merge(self, own: Section, inherited: Section) -> Section:
        """Remembered, since shared sections meet again and again; the operands are kept for their identity."""
        known = self._merged.get((id(own), id(inherited)))
        if known is None:
            merged = _shallow_copy(own)
            self._inherit(merged, inherited)
            known = self._merged[id(own), id(inherited)] = (merged, own, inherited)
        return known[0]

    def _report(self, reference: Reference, message: str) -> None:
        self._problems.append(reference.position.problem(message))


def _shallow_copy(section: Section) -> Section:
    copy = Section(section.name, section.position)
    copy.settings = dict(section.settings)
    copy.sections = dict(section.sections)
    return copy
