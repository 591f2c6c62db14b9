"""Artifacts: plain datasets with a declared schema, checked, saved atomically, opened safely."""

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from synatlas import netcdf
from synatlas.errors import ArtifactError

#: Schema name -> where it is defined. Names only: opening a file imports nothing else.
SCHEMAS: Final[Mapping[str, str]] = {
    "recording": "synatlas.record.recording:RECORDING",
    "atoms": "synatlas.decompose.atoms:ATOMS",
    "atlas": "synatlas.rank.atlas:ATLAS",
    "divergence": "synatlas.intervene.schema:DIVERGENCE",
    "ablation_tests": "synatlas.intervene.tested:ABLATION_TESTS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """Declaration of one variable or coordinate.

    `dtype` is a NumPy kind and size (``"f8"``, ``"i4"``) or ``"str"``; `units` is ``"nat"``,
    ``"1"`` or empty for text; `flags` names the values of a status variable.
    """

    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    required: bool = True
    flags: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Declaration of an artifact: its variables, coordinates and required attributes."""

    name: str
    version: int
    variables: Mapping[str, Variable]
    coords: Mapping[str, Variable]
    attrs: tuple[str, ...] = ()

    def declared(self) -> dict[str, Variable]:
        """Variables and coordinates together."""
        return {**self.coords, **self.variables}


def finish(dataset: xr.Dataset, schema: Schema, *, fingerprint: str) -> xr.Dataset:
    """Stamp `dataset` with its schema's labels and units and its fingerprint, and check it."""
    out = dataset.copy(deep=False)
    for name, declared in schema.declared().items():
        if name not in out.variables:
            continue
        labels: dict[str, Any] = {"long_name": declared.long_name}
        if declared.units:
            labels["units"] = declared.units
        if declared.flags:
            labels["flag_values"] = np.array(sorted(declared.flags), dtype=declared.dtype)
            labels["flag_meanings"] = " ".join(declared.flags[k] for k in sorted(declared.flags))
        out[name].attrs = labels
    out.attrs = {
        **out.attrs,
        "schema": schema.name,
        "schema_version": schema.version,
        "fingerprint": fingerprint,
    }
    return check(out, schema)


def check(dataset: xr.Dataset, schema: Schema) -> xr.Dataset:
    """Return `dataset` unchanged, or raise :class:`ArtifactError` with the first difference."""
    _check_attr(dataset, schema, "schema", schema.name)
    _check_attr(dataset, schema, "schema_version", schema.version)
    for name in ("fingerprint", *schema.attrs):
        if name not in dataset.attrs:
            raise _difference(schema, f"no attribute {name!r}", f"attribute {name!r}")
    for name, declared in schema.declared().items():
        if name in dataset.variables:
            _check_variable(dataset.variables[name], declared, name, schema)
        elif declared.required:
            raise _difference(schema, f"no variable {name!r}", f"{name}{declared.dims}")
    unknown = sorted(set(map(str, dataset.variables)) - set(schema.declared()))
    if unknown:
        raise _difference(schema, f"variables {unknown}", "only variables that the schema names")
    return dataset


def _check_attr(dataset: xr.Dataset, schema: Schema, name: str, expected: object) -> None:
    found = dataset.attrs.get(name)
    if found != expected:
        raise _difference(schema, f"{name} = {found!r}", f"{name} = {expected!r}")


def _check_variable(array: xr.Variable, declared: Variable, name: str, schema: Schema) -> None:
    if array.dims != declared.dims:
        raise _difference(schema, f"{name} with dims {array.dims}", f"dims {declared.dims}")
    if declared.dtype == "str":
        fits = array.dtype.kind in "UOT"
    else:
        fits = array.dtype == np.dtype(declared.dtype)
    if not fits:
        raise _difference(schema, f"{name} of dtype {array.dtype}", f"dtype {declared.dtype}")


def _difference(schema: Schema, given: str, expected: str) -> ArtifactError:
    return ArtifactError(
        given=f"a dataset with {given}",
        expected=f"the {schema.name} schema, version {schema.version}: {expected}",
        cause="the dataset was edited, or written by another version of synatlas",
        remedy=f"make the {schema.name} again, or pass the dataset that the stage returned",
    )


def require(dataset: object, schema: Schema) -> xr.Dataset:
    """Check that `dataset` is the artifact that a stage needs, naming what was passed instead."""
    if not isinstance(dataset, xr.Dataset):
        raise ArtifactError(
            given=f"a {type(dataset).__name__}",
            expected=f"the xarray.Dataset of a {schema.name}",
            remedy="open the file first with synatlas.open, or pass the previous stage's result",
        )
    return check(dataset, schema)


def fingerprint_of(
    *, stage: str, version: int, config: Mapping[str, object], parents: tuple[str, ...] = ()
) -> str:
    """Fingerprint of a stage's result: what determines its values, and nothing else.

    Device, batch size and folder are not part of `config`: they do not change values.
    """
    identity = {"stage": stage, "version": version, "config": config, "parents": list(parents)}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def save(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write an artifact as NetCDF-4 under a temporary name, then rename it.

    A killed process leaves the old file or none. The values are digested into the attribute
    ``content_digest``, which :func:`open_artifact` compares.

    Parameters
    ----------
    dataset : an artifact returned by a stage (checked against its schema first).
    path : target file; its folder must exist.

    Returns
    -------
    pathlib.Path
        The file written.
    """
    target = Path(path)
    stored = check(dataset, schema_of(dataset, target)).copy(deep=False)
    stored.attrs = {**dataset.attrs, "content_digest": content_digest(dataset)}
    encoding = {str(name): _encoding(array) for name, array in stored.variables.items()}
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        stored.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _encoding(array: xr.Variable) -> dict[str, object]:
    if array.dtype.kind in "UOT":
        # Fixed-width characters: variable-length strings take seconds for a million pairs. Of no
        # text there is no width.
        return {"dtype": "S1"} if array.size else {}
    fill: dict[str, object] = {"_FillValue": None} if array.dtype.kind == "f" else {}
    packed: dict[str, object] = {"zlib": True, "complevel": 1, "shuffle": True}
    return fill | packed if array.size > 4096 else fill


def open_artifact(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read an artifact, checking its schema and that its content is what was written.

    Raises
    ------
    ArtifactError
        The file is missing, truncated, not NetCDF, of another schema, or edited.
    """
    source = Path(path)
    if not source.is_file():
        raise ArtifactError(
            given=f"the file {source}",
            expected="a NetCDF file written by synatlas",
            cause="the file does not exist",
            remedy="check the path, or run the stage that writes it",
        )
    try:
        dataset = netcdf.read(source)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(source, f"it cannot be read ({type(error).__name__})") from error
    for name, array in tuple(dataset.variables.items()):
        if array.dtype.kind in "OS":
            dataset[name] = dataset[name].astype(str)
    dataset = dataset.drop_encoding()
    check(dataset, schema_of(dataset, source))
    digest = dataset.attrs.pop("content_digest", None)
    if digest != content_digest(dataset):
        raise _damaged(source, "its values are not those that were written")
    return dataset


def _damaged(source: Path, cause: str) -> ArtifactError:
    return ArtifactError(
        given=f"the file {source}",
        expected="a NetCDF file as synatlas wrote it",
        cause=f"{cause}: the file was truncated or edited",
        remedy="remove the file and run the stage that writes it again",
    )


def schema_of(dataset: xr.Dataset, where: object) -> Schema:
    """The schema that `dataset` names in its attributes."""
    name = dataset.attrs.get("schema")
    if name not in SCHEMAS:
        raise ArtifactError(
            given=f"{where} with schema {name!r}",
            expected=f"one of the schemas {', '.join(SCHEMAS)}",
            cause="it was not made by synatlas, or by a newer version",
            remedy="pass an artifact that a synatlas stage returned",
        )
    module, attribute = SCHEMAS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def content_digest(dataset: xr.Dataset) -> str:
    """Digest of every value, label and attribute, independent of file layout."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(map(str, dataset.variables)):
        array = dataset.variables[name]
        values = array.values
        if values.dtype.kind in "UOT":
            kind, payload = "str", "\x00".join(map(str, values.ravel().tolist())).encode()
        else:
            kind, payload = values.dtype.str, np.ascontiguousarray(values).tobytes()
        digest.update(f"{name}{array.dims}{array.shape}{kind}".encode())
        digest.update(payload)
    for name in sorted(dataset.attrs):
        if name != "content_digest":
            digest.update(f"{name}={_plain(dataset.attrs[name])}".encode())
    return digest.hexdigest()


def _plain(value: object) -> object:
    """Attribute as JSON text: a file gives back NumPy scalars where Python numbers were stored."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple) and len(value) == 1:
        # A file gives back the one value of a list of one.
        (value,) = value
    return json.dumps(value, sort_keys=True)
