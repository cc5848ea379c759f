"""Report: the plan of a run as Markdown, and by which method each figure of it was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from moa_jax.config import ParallelConfig, RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.engine import activation_types, participation
from moa_jax.plan import outlines
from moa_jax.plan.stage_plan import GroupPlan, StagePlan, plan_stage
from moa_jax.plan.step import Step
from moa_jax.plan.topology import Topology, topology
from moa_jax.recipes.system import BuiltStage
from moa_jax.store import memory
from moa_jax.store.workdir import Workdir
from moa_jax.training import footprint, shapes
from moa_jax.training.layout import shares_rows
from moa_jax.training.stage import Stage

COLUMNS = (
    "stage", "inputs", "members", "groups x slots", "epochs x steps", "parameters",
    "GiB per device", "GB per step", "kernels", "PFLOP", "time by FLOPs", "time by bytes",
    "compilation", "expected", "longest", "figures",
)  # fmt: skip


def text(config: RunConfig, dataset: Dataset, workdir: Workdir) -> str:
    """Returns the plan of a run as Markdown."""
    target = topology(config.plan.topology, config.parallel.strategy)
    config = activation_types.of(config, target.card.multiplies_bfloat16)
    config, left_out = participation.of(config, workdir, dataset)
    stages = outlines.outline(config, dataset, workdir, target)
    networks = [built for built in stages if isinstance(built.stage, Stage)]
    rows = [plan_stage(b, target, config.parallel, config.plan) for b in networks]
    lines = [*heading(config, dataset, target), *outlines.nesting(config, stages)]
    lines += outlines.on_host(stages)
    lines += [f"`{name}` is left out: {reason}." for name, reason in left_out.items()]
    if not rows:
        return "\n".join(lines)
    lines += _host_memory(networks, target, config.parallel)
    lines += _shared_tables(networks, target, config.parallel)
    return "\n".join([*lines, "", *table(rows, target)])


def heading(config: RunConfig, dataset: Dataset, target: Topology) -> Iterator[str]:
    """Yields what is planned for, what of, and how."""
    card, efficiency = target.card, config.plan.efficiency
    treated = int((~dataset.is_control).sum())
    peaks = ", ".join(f"{peak / 1e12:.3g} TFLOP/s in {kind}" for kind, peak in card.peaks.items())
    yield (
        f"`{target.text}`: {target.num_devices} x {card.name}, each with "
        f"{card.memory_bytes / 2**30:.1f} GiB, {peaks} and {card.bandwidth / 1e9:.4g} GB/s at "
        f"peak, of which {efficiency:.0%} is assumed to be reached."
    )
    yield (
        f"Data: {len(dataset)} rows, {treated} of them treated, {len(dataset.genes)} genes, "
        f"{len(dataset.cells)} cells."
    )
    yield (
        "Time: of every step the products or the memory, whichever takes longer, and compilation "
        "as long as it took here. Longest: if no member stops early; expected: if members stop "
        "where the original's did, or at `plan.epochs`."
    )
    if target.is_estimate:
        yield (
            "Estimated: bytes and memory are of the program that XLA compiles for a CPU, which "
            "fuses less than a GPU's: expect less memory and less time. The GPUs' own compiler "
            "needs none of them: pip install 'moa-jax[cuda-plan]'"
        )


def _host_memory(
    networks: Sequence[BuiltStage], target: Topology, parallel: ParallelConfig
) -> Iterator[str]:
    """Yields what tables and predictions take beside the devices, of which all have a copy.

    Of large tables whose rows they share one device's part is made at a time.
    """

    def num_bytes(built: BuiltStage) -> int:
        assert isinstance(built.stage, Stage)
        in_parts = built.makes_rows and _spread(built, target, parallel)
        parts = target.num_devices if in_parts else 1
        found = footprint.of_stage(built.stage, target.compile_for, 1, 1, built.by_seed, parts)
        return found.tables + found.predictions

    largest = max(networks, key=num_bytes)
    yield (
        f"Host memory, at least: {memory.size(num_bytes(largest))} for the tables and predictions "
        f"of `{largest.stage.name}`."
    )


def _shared_tables(
    networks: Sequence[BuiltStage], target: Topology, parallel: ParallelConfig
) -> Iterator[str]:
    """Yields what each device has of the tables whose rows all of them share."""
    count = target.num_devices
    for built in networks:
        if _spread(built, target, parallel):
            assert isinstance(built.stage, Stage)
            num_bytes = shapes.num_bytes(shapes.shared(built.stage))
            yield (
                f"`{built.stage.name}`: {count} devices share the rows of its tables, "
                f"{memory.size(num_bytes)}: {memory.size(num_bytes / count)} on each."
            )


def _spread(built: BuiltStage, target: Topology, parallel: ParallelConfig) -> bool:
    assert isinstance(built.stage, Stage)
    memory_bytes = target.num_devices * target.card.memory_bytes
    return shares_rows(built.stage, target.num_devices, memory_bytes, parallel)


def table(rows: Sequence[StagePlan], target: Topology) -> list[str]:
    """Returns the lines of the table, the last one for all stages together."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_cells(row, target)) for row in rows]
    if all(row.fits for row in rows):
        every = {
            "stage": "together",
            "members": str(sum(row.members for row in rows)),
            "PFLOP": _peta(sum(row.flops or 0.0 for row in rows)),
            **_times([_seconds(row) for row in rows]),
        }
        lines.append(_line([every.get(column, "") for column in COLUMNS]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: StagePlan, target: Topology) -> list[str]:
    most = "at most " * row.at_most
    cells = {
        "stage": f"`{row.name}`",
        "inputs": f"{most}{row.inputs:,}",
        "members": str(row.members),
        "groups x slots": _each(map(_slots, row.groups)),
        "epochs x steps": f"{_epochs(row)} x {row.steps}",
        "parameters": f"{most}{row.parameters:,}",
        "GiB per device": _each(_memory(group.step, target) for group in row.groups),
    }
    if row.fits:
        steps = [group.step for group in row.groups if group.step]
        cells |= {
            "GB per step": _each(f"{step.work.num_bytes / 1e9:.3g}" for step in steps),
            "kernels": _each(f"{step.work.kernels:,.0f}" for step in steps),
            "PFLOP": _peta(row.flops or 0.0),
            "figures": _each(dict.fromkeys(step.method for step in steps)),
            **_times([_seconds(row)]),
        }
    return [cells.get(column, "") for column in COLUMNS]


def _each(texts: Iterable[str]) -> str:
    """Returns what is said of each kind of group."""
    return "; ".join(texts)


def _seconds(row: StagePlan) -> dict[str, float]:
    return {
        "time by FLOPs": row.flops_seconds or 0.0,
        "time by bytes": row.bytes_seconds or 0.0,
        "compilation": row.compile_seconds,
        "expected": row.expected or 0.0,
        "longest": row.longest or 0.0,
    }


def _times(every: Sequence[dict[str, float]]) -> dict[str, str]:
    return {name: _duration(sum(seconds[name] for seconds in every)) for name in every[0]}


def _slots(group: GroupPlan) -> str:
    each = f", {group.per_member} devices each" if group.per_member > 1 else ""
    return f"{group.groups} x {group.slots}{each}"


def _epochs(row: StagePlan) -> str:
    if row.expected_epochs == row.epochs:
        return str(row.epochs)
    return f"{row.expected_epochs:g} of {row.epochs}"


def _memory(step: Step | None, target: Topology) -> str:
    if step is None:
        return "does not fit"
    exceeds = step.memory_bytes > target.card.memory_bytes
    return f"{step.memory_bytes / 2**30:.2f}" + (", does not fit" if exceeds else "")


def _peta(flops: float) -> str:
    return f"{float(f'{flops / 1e15:.3g}'):,g}"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
