"""Genotypes of DARTS cells: data and three spellings, read without running any of them.

A cell has states 0 and 1, its inputs, and nodes 2 to 5, each the sum of two operations on earlier states; the nodes
together leave the cell. Which of a node's two operations is named first makes no difference: the canonical order is by
state.

* The release's: ``Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)``.
* NASLib's: ``[[(1,3),(0,3),...],[...]]``, pairs of a state and an index into :data:`NASLIB_OPERATIONS`.
* The canonical one: ``sep3~0+sep3~1,skip~0+sep3~1,...-max3~0+max3~1,...``, nodes joined by ``,`` and cells by ``-``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zenopt.core.errors import StructureError

#: Names of the release -> ours, from the cheapest to the most expensive.
SHORT_NAMES = {
    "none": "none",
    "max_pool_3x3": "max3",
    "avg_pool_3x3": "avg3",
    "skip_connect": "skip",
    "dil_conv_3x3": "dil3",
    "dil_conv_5x5": "dil5",
    "sep_conv_3x3": "sep3",
    "sep_conv_5x5": "sep5",
}
OPERATIONS = tuple(SHORT_NAMES.values())
NASLIB_OPERATIONS = ("max3", "avg3", "skip", "sep3", "sep5", "dil3", "dil5")
INPUTS = 2
NODES = range(2, 6)
#: Longest text that is read.
_MAX_TEXT = 4000

#: What leads into a node: an operation and the state it takes.
Term = tuple[str, int]
#: Two terms for each node in order.
Cell = tuple[Term, ...]

# White space is taken out, and quotes are single ones, before these are matched.
_PAIR = r"\('\w+',\d\)"
_CELL = rf"\[((?:{_PAIR},?)*)\]"
_CONCAT = r"(?:list\()?(?:range\(2,6\)|\[2,3,4,5\])\)?"
_RELEASE = re.compile(
    rf"Genotype\(normal={_CELL},normal_concat={_CONCAT},reduce={_CELL},reduce_concat={_CONCAT},?\)", re.ASCII
)
_NASLIB_CELL = r"\[((?:\(\d,\d\),){7}\(\d,\d\)),?\]"
_NASLIB = re.compile(rf"\[{_NASLIB_CELL},{_NASLIB_CELL},?\]", re.ASCII)
_TERM = re.compile(r"([a-z0-9]+)~([0-9])", re.ASCII)


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell.

    Args:
        normal, reduce:
            Two terms for each node; they are put into the canonical order.

    Raises:
        StructureError: If there are not eight terms, or an operation or a state is unknown.
    """

    normal: Cell
    reduce: Cell

    def __post_init__(self) -> None:
        for name in ("normal", "reduce"):
            object.__setattr__(self, name, _ordered(name, getattr(self, name)))

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Read any of the three spellings.

        Raises:
            StructureError: If the text is none of them.
        """
        if len(text) > _MAX_TEXT:
            raise StructureError(f"A DARTS genotype has at most {_MAX_TEXT} characters, got {len(text)}.")
        compact = re.sub(r"\s", "", text).replace('"', "'")
        if (match := _RELEASE.fullmatch(compact)) is not None:
            return cls(*(tuple(map(_long_term, re.findall(_PAIR, cell))) for cell in match.groups()))
        if (match := _NASLIB.fullmatch(compact)) is not None:
            return cls(*(tuple(map(_indexed_term, re.findall(r"\d,\d", cell))) for cell in match.groups()))
        cells = compact.split("-")
        if len(cells) == 2 and "[" not in compact:
            return cls(*(tuple(_short_term(term) for term in re.split("[+,]", cell)) for cell in cells))
        raise StructureError(
            "Expected a DARTS genotype, Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...), "
            f"[[(0,3),(1,3),...],[...]] or sep3~0+sep3~1,...-max3~0+...; got {text[:60]!r}."
        )

    def __str__(self) -> str:
        return "-".join(map(_cell_text, (self.normal, self.reduce)))

    def release_text(self) -> str:
        """Return the spelling of the release, which other people's programs read."""
        long = {short: name for name, short in SHORT_NAMES.items()}
        parts = [
            f"{name}={[(long[operation], state) for operation, state in cell]}, {name}_concat=range(2, 6)"
            for name, cell in (("normal", self.normal), ("reduce", self.reduce))
        ]
        return f"Genotype({', '.join(parts)})"


def node_terms(cell: Cell, node: int) -> tuple[Term, Term]:
    """Return what leads into a node."""
    start = 2 * (node - NODES[0])
    return cell[start], cell[start + 1]


def _ordered(name: str, cell: Cell) -> Cell:
    if len(cell) != 2 * len(NODES):
        raise StructureError(
            f"The {name} cell of a DARTS genotype has {2 * len(NODES)} terms, got {len(cell)}."
        )
    ordered: list[Term] = []
    for node in NODES:
        terms = node_terms(cell, node)
        for operation, state in terms:
            if operation not in OPERATIONS:
                known = ", ".join(SHORT_NAMES)
                raise StructureError(f"Unknown DARTS operation {operation[:30]!r}; allowed: {known}.")
            if not 0 <= state < node:
                raise StructureError(
                    f"Node {node} of the {name} cell takes states 0 to {node - 1}, got {state}."
                )
        ordered += sorted(terms, key=lambda term: (term[1], OPERATIONS.index(term[0])))
    return tuple(ordered)


def _long_term(pair: str) -> Term:
    name, state = pair[1:-1].split(",")
    return SHORT_NAMES.get(name.strip("'"), name.strip("'")), int(state)


def _indexed_term(pair: str) -> Term:
    state, index = map(int, pair.split(","))
    if index >= len(NASLIB_OPERATIONS):
        raise StructureError(
            f"NASLib's operations of DARTS cells are 0 to {len(NASLIB_OPERATIONS) - 1}, got {index}."
        )
    return NASLIB_OPERATIONS[index], state


def _short_term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise StructureError(f"Expected a term such as sep3~0 in a DARTS genotype, got {text[:30]!r}.")
    return match[1], int(match[2])


def _cell_text(cell: Cell) -> str:
    nodes = (
        "+".join(f"{operation}~{state}" for operation, state in node_terms(cell, node)) for node in NODES
    )
    return ",".join(nodes)
