"""What a NAS-Bench-101 cell looks like to a regression: operations, edges, and the paths from input to output."""

from __future__ import annotations

from zenopt.spaces.nasbench101.cell import OPERATIONS, Cell


def cell_features(cell: Cell) -> dict[str, float]:
    """Return the features of a cell; nothing is drawn, built or trained."""
    paths = _paths(cell)
    convs = [sum(name.startswith("conv") for name in path) for path in paths]
    found = {name: float(cell.operations.count(name)) for name in OPERATIONS}
    for name in OPERATIONS:
        found[f"{name} at the output"] = float(
            sum(vertex > 0 and cell.operations[vertex - 1] == name for vertex in cell.into(cell.output))
        )
        found[f"most {name} on a path"] = float(max(path.count(name) for path in paths))
    return {
        **found,
        "vertices": float(cell.output + 1),
        "edges": float(len(cell.edges)),
        "paths": float(len(paths)),
        "longest path": float(max(map(len, paths))),
        "mean path": sum(map(len, paths)) / len(paths),
        "shortest path": float(min(map(len, paths))),
        "most convolutions on a path": float(max(convs)),
        "fewest convolutions on a path": float(min(convs)),
        "vertices at the output": float(sum(vertex > 0 for vertex in cell.into(cell.output))),
        "projections": float(sum(start == 0 for start, _ in cell.edges)),
        "input leads to output": float((0, cell.output) in cell.edges),
    }


def _paths(cell: Cell) -> list[tuple[str, ...]]:
    """Return the operations along every path from input to output."""
    leading: list[list[tuple[str, ...]]] = [[()]]
    for vertex in range(1, cell.output + 1):
        own = cell.operations[vertex - 1 : vertex]
        leading.append([(*path, *own) for source in cell.into(vertex) for path in leading[source]])
    return leading[-1]
