"""Genotypes of DARTS cells as other programs write them: read as syntax, of which nothing is ever run.

* DARTS: ``Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)``, an
  operation and the state it takes; others have a list for each node, ``normal=[[('sep_conv_3x3', 1), ...], ...]``.
* aw_nas: ``CNNGenotype(normal_0=[('sep_conv_3x3', 1, 2), ...], reduce_1=..., normal_0_concat=..., ...)``, with the node
  that an operation leads to as third, in any order.
* NASLib: ``[[(1,3),(0,3),...],[...]]``, pairs of a state and an index into :data:`NASLIB_OPERATIONS`.
"""

from __future__ import annotations

import ast
import re
from typing import Any

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
LONG_NAMES = {short: name for name, short in SHORT_NAMES.items()}
NASLIB_OPERATIONS = ("max3", "avg3", "skip", "sep3", "sep5", "dil3", "dil5")
NODES = range(2, 6)
#: Fields of the two cells as DARTS and aw_nas call them.
DARTS_FIELDS, AWNAS_FIELDS = ("normal", "reduce"), ("normal_0", "reduce_1")

#: What leads into a node: an operation and the state it takes.
Term = tuple[str, int]
#: Two terms for each node in order.
Cell = tuple[Term, ...]

# Neither operators nor backslashes: what remains has no depth that a parser could fall over.
_CHARACTERS = re.compile(r"[\w\s\[\]()'\",=]*", re.ASCII)


def read_spelling(text: str) -> tuple[Cell, Cell] | None:
    """Return the normal and the reduction cell of a text; ``None`` if it is in no spelling of another program.

    Raises:
        StructureError: If it is in one, and no genotype of DARTS cells.
    """
    if _CHARACTERS.fullmatch(text) is None:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Call):
            return _of_call(tree)
        if isinstance(tree, ast.List):
            normal, reduce = (_indexed_cell(cell) for cell in ast.literal_eval(tree))
            return normal, reduce
    except StructureError:
        raise
    except (SyntaxError, TypeError, ValueError, IndexError, RecursionError, MemoryError):
        # Not the syntax of Python, or not of these shapes.
        return None
    return None


def darts_text(cells: tuple[Cell, Cell]) -> str:
    """Return the spelling of the release of DARTS."""
    parts = [
        f"{name}={[(LONG_NAMES[operation], state) for operation, state in cell]}, {name}_concat=range(2, 6)"
        for name, cell in zip(DARTS_FIELDS, cells, strict=True)
    ]
    return f"Genotype({', '.join(parts)})"


def awnas_text(cells: tuple[Cell, Cell]) -> str:
    """Return the spelling of aw_nas."""
    parts = [
        f"{name}={[(LONG_NAMES[operation], state, NODES[index // 2]) for index, (operation, state) in enumerate(cell)]}"
        for name, cell in zip(AWNAS_FIELDS, cells, strict=True)
    ]
    parts += [f"{name}_concat={list(NODES)}" for name in AWNAS_FIELDS]
    return f"CNNGenotype({', '.join(parts)})"


def naslib_text(cells: tuple[Cell, Cell]) -> str | None:
    """Return the spelling of NASLib; ``None`` for cells with ``none``, for which it has no index."""
    if any(operation == "none" for cell in cells for operation, _ in cell):
        return None
    pairs = [
        ",".join(f"({state},{NASLIB_OPERATIONS.index(operation)})" for operation, state in cell)
        for cell in cells
    ]
    return f"[[{pairs[0]}],[{pairs[1]}]]"


def _of_call(tree: ast.Call) -> tuple[Cell, Cell] | None:
    fields = {keyword.arg or "": keyword.value for keyword in tree.keywords}
    name = tree.func.id if isinstance(tree.func, ast.Name) else ""
    if name not in ("Genotype", "CNNGenotype") or tree.args:
        return None
    own = next((found for found in (DARTS_FIELDS, AWNAS_FIELDS) if set(found) <= set(fields)), None)
    if own is None or set(fields) - {*own, *(f"{field}_concat" for field in own)}:
        return None
    for field in own:
        if f"{field}_concat" in fields and _states(fields[f"{field}_concat"]) != list(NODES):
            raise StructureError(
                f"{field}_concat of a DARTS genotype must be range(2, 6): all nodes leave a cell."
            )
    normal, reduce = (_named_cell(field, ast.literal_eval(fields[field])) for field in own)
    return normal, reduce


def _states(tree: ast.expr) -> list[Any]:
    """Return the numbers of ``[2, 3, 4, 5]``, ``range(2, 6)`` or ``list(range(2, 6))``."""
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords:
        if tree.func.id == "list" and len(tree.args) == 1:
            return _states(tree.args[0])
        if tree.func.id == "range" and len(tree.args) == 2:
            return [*range(*(min(ast.literal_eval(bound), 9) for bound in tree.args))]
    return list(ast.literal_eval(tree))


def _named_cell(field: str, items: Any) -> Cell:
    """Return a cell of operations by name."""
    if all(isinstance(item, list) for item in items):
        items = [term for node in items for term in node]
    terms = [(SHORT_NAMES.get(str(item[0]), str(item[0])), int(item[1])) for item in items]
    if all(len(item) == 2 for item in items):
        return tuple(terms)
    targets = [int(item[2]) for item in items]
    if sorted(targets) != sorted([*NODES, *NODES]):
        raise StructureError(
            f"{field} of a DARTS genotype has two operations for each of nodes 2 to 5, got nodes {targets}."
        )
    # Sorting is stable.
    return tuple(term for _, term in sorted(zip(targets, terms, strict=True), key=lambda pair: pair[0]))


def _indexed_cell(items: Any) -> Cell:
    found = []
    for state, index in items:
        if not 0 <= index < len(NASLIB_OPERATIONS):
            raise StructureError(
                f"NASLib's operations of DARTS cells are 0 to {len(NASLIB_OPERATIONS) - 1}, got {index}."
            )
        found.append((NASLIB_OPERATIONS[index], int(state)))
    return tuple(found)
