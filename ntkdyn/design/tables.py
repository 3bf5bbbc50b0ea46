"""Tables of a sweep or a design: one row per setting, for spreadsheets and papers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import xarray as xr

from ntkdyn.disk import whole_file
from ntkdyn.errors import InputError
from ntkdyn.records import Record

MEASURES = ("train_loss", "global_loss", "test_loss", "train_accuracy", "test_accuracy")


def rows(record: Record) -> pd.DataFrame:
    """A row for each setting that could be run: what it takes, and what is known of it.

    Of losses and accuracies the mean and the worst of agents, in the last round it was followed to.
    A design's cheapest come first.
    """
    axes = [name for name in str(record.attrs.get("axes", "")).split("; ") if name in record.dims]
    if not axes:
        raise InputError("table: the record must be one of `ntkdyn sweep` or `ntkdyn design`")
    known = {n: each for n, each in record.data_vars.items() if {*each.dims} == {*axes}}
    for before in ("", "observed_"):
        for name in MEASURES:
            if f"{before}{name}" in record:
                known |= _ends(f"{before}{name}", record[f"{before}{name}"])
    table = xr.Dataset(known).to_dataframe(dim_order=axes)
    if "refusal" in table:
        table = table[table["refusal"] == ""].drop(columns="refusal")
    return table.sort_values("cost") if "cost" in table else table


def _ends(name: str, values: xr.DataArray) -> dict[str, xr.DataArray]:
    """The mean and the worst agent in the last round that there is."""
    last = values.notnull().any("agent").cumsum("round").argmax("round")
    end = values.isel(round=last).drop_vars("round")
    worst = end.min("agent") if name.endswith("accuracy") else end.max("agent")
    return {name: end.mean("agent"), f"{name}_worst": worst}


def write(table: pd.DataFrame, path: Path) -> Path:
    """As .csv, or as .tex with booktabs rules."""
    makers = {
        ".csv": lambda: table.reset_index().to_csv(index=False),
        ".tex": lambda: _tex(table.reset_index()),
    }
    if path.suffix not in makers:
        raise InputError(f"table: the file must end in .csv or .tex, got {path.name}")
    with whole_file(path) as unfinished:
        unfinished.write_text(makers[path.suffix](), encoding="utf-8")
    return path


def _tex(table: pd.DataFrame) -> str:
    spoken = table.rename(columns=lambda name: str(name).replace("_", " "))
    return spoken.to_latex(index=False, float_format="%.4g", escape=True)
