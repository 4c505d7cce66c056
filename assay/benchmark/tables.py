"""The tables of results: their columns, and writing, joining and summing them up as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.benchmark.migrations import completed
from assay.benchmark.records import Records
from assay.conversation import Cost

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = tuple(table.name for table in fields(Records))


def table_schema(name: str) -> pa.Schema:
    """The columns of one of the tables."""
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int64()
    columns: dict[str, dict[str, pa.DataType]] = {
        "examples": {
            "example": text,
            "label": count,
            "predicted": count,
            "target": count,
            "features": pa.list_(text),
            "segments": pa.list_(count),
            "positions": pa.list_(count),
            "rationale": pa.list_(pa.bool_()),
            "highlights": pa.list_(pa.list_(number)),
            "logits": pa.list_(pa.float32()),
            "truncated": count,
            "forward_rows": number,
            "forward_tokens": number,
            "backward_rows": number,
            "backward_tokens": number,
            "seconds": number,
        },
        "attributions": {
            "example": text,
            "draw": count,
            "metric": text,
            "perturbation": text,
            "scores": pa.list_(number),
            "signed": pa.bool_(),
            "reason": text,
            "report": text,
        },
        "scores": {
            "example": text,
            "perturbation": text,
            "metric": text,
            "value": number,
            "reason": text,
            "draws": pa.list_(number),
        },
        "curves": {
            "example": text,
            "perturbation": text,
            "metric": text,
            "x": pa.list_(number),
            "y": pa.list_(number),
        },
        "answers": {
            "example": text,
            "perturbation": text,
            "n": count,
            "keep": pa.binary(),
            "logits": pa.list_(pa.float32()),
        },
    }
    return pa.schema(list(columns[name].items()))


def typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table whose columns have the types of a schema; a dictionary stands for the texts in it."""
    import pyarrow as pa

    for place, field in enumerate(schema):
        own = table.schema.field(place).type
        if own != field.type and not (pa.types.is_dictionary(own) and own.value_type == field.type):
            table = table.set_column(place, field, table.column(place).cast(field.type))
    return table


def write_tables(folder: Path, records: Records) -> None:
    """Write all tables into a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in TABLES:
        table = pa.Table.from_pylist(getattr(records, name), schema=table_schema(name))
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def join_tables(shards: Sequence[Path], folder: Path, name: str) -> None:
    """One table of many, a shard at a time, so that memory does not grow with their number."""
    import pyarrow.parquet as pq

    schema = table_schema(name)
    with pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd") as writer:
        for shard in shards:
            writer.write_table(typed(completed(pq.ParquetFile(shard).read(), schema), schema))


def described(folder: Path) -> dict[str, Any]:
    """Counts and mean cost of an example, from the tables of a cell."""
    import pyarrow.parquet as pq

    costs = list(vars(Cost()))
    examples = pq.read_table(folder / "examples.parquet", columns=["truncated", *costs]).to_pandas()
    scores = pq.read_table(folder / "scores.parquet", columns=["metric", "reason"]).to_pandas()
    undefined = scores.loc[scores["reason"].notna(), "metric"].value_counts()
    return {
        "counts": {
            "examples": len(examples),
            "truncated_examples": int((examples["truncated"] > 0).sum()),
            "truncated_tokens": int(examples["truncated"].sum()),
            "undefined": {str(metric): int(count) for metric, count in undefined.items()},
        },
        "cost": {name: float(examples[name].mean()) for name in costs},
    }
