"""Genotypes of DARTS cells: data, the canonical text, and the spellings of other programs.

A cell has states 0 and 1, its inputs, and nodes 2 to 5, each the sum of two operations on earlier states; the nodes
together leave the cell. Which of a node's two operations is named first makes no difference: the canonical order is by
state. The canonical text is ``sep3~0+sep3~1,skip~0+sep3~1,...-max3~0+max3~1,...``, nodes joined by ``,`` and cells by
``-``; :mod:`~zenopt.spaces.darts.spelling` has the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zenopt.core.errors import StructureError
from zenopt.core.text import quoted
from zenopt.spaces.darts.spelling import (
    NODES,
    SHORT_NAMES,
    Cell,
    Term,
    awnas_text,
    darts_text,
    naslib_text,
    read_spelling,
)

OPERATIONS = tuple(SHORT_NAMES.values())
INPUTS = 2
#: Longest text that is read.
_MAX_TEXT = 4000

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
        """Read the canonical text, or the spelling of DARTS, of aw_nas or of NASLib.

        Raises:
            StructureError: If the text is none of them.
        """
        if len(text) > _MAX_TEXT:
            raise StructureError(f"A DARTS genotype has at most {_MAX_TEXT} characters, got {len(text)}.")
        cells = text.split("-")
        if len(cells) == 2 and "[" not in text:
            return cls(
                *(tuple(_short_term(term.strip()) for term in re.split("[+,]", cell)) for cell in cells)
            )
        found = read_spelling(text)
        if found is None:
            raise StructureError(
                "Expected a DARTS genotype, Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), "
                "...), CNNGenotype(normal_0=[('sep_conv_3x3', 0, 2), ...], ...), [[(0,3),(1,3),...],[...]] or "
                f"sep3~0+sep3~1,...-max3~0+...; got {quoted(text.strip(), 60)}."
            )
        return cls(*found)

    def __str__(self) -> str:
        return "-".join(map(_cell_text, (self.normal, self.reduce)))

    def spellings(self) -> dict[str, str]:
        """Return the texts that other people's programs read, by the program's name."""
        cells = (self.normal, self.reduce)
        found = {"DARTS": darts_text(cells), "aw_nas": awnas_text(cells), "NASLib": naslib_text(cells)}
        return {name: text for name, text in found.items() if text is not None}


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
