"""Find where a language model integrates information, and what of that survives its controls.

Names are imported when they are first used: torch and transformers take seconds, and
decomposing an array needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synatlas.artifact import open_artifact as open  # noqa: F401
    from synatlas.artifact import save as save
    from synatlas.config import MapConfig as MapConfig
    from synatlas.decompose.local import local_phiid as local_phiid
    from synatlas.decompose.local_units import local_units as local_units
    from synatlas.decompose.pipeline import decompose as decompose
    from synatlas.decompose.series import phiid as phiid
    from synatlas.decompose.target import pid as pid
    from synatlas.decompose.triplets import o_information as o_information
    from synatlas.intervene.ablate import ablate as ablate
    from synatlas.intervene.statistics import ablation_tests as ablation_tests
    from synatlas.intervene.weights import weight_noise as weight_noise
    from synatlas.models.adopt import adopt as adopt
    from synatlas.models.load import load as load
    from synatlas.planning import detectable_excess as detectable_excess
    from synatlas.rank.rank import rank as rank
    from synatlas.rank.score import rank_units as rank_units
    from synatlas.rank.select import select as select
    from synatlas.rank.topology import topology as topology
    from synatlas.record.record import record as record
    from synatlas.record.record import replay as replay
    from synatlas.report.page import report as report
    from synatlas.run import map as map

#: Public name -> where it is defined, in the order of the journey.
_PUBLIC = {
    "detectable_excess": "synatlas.planning:detectable_excess",
    "load": "synatlas.models.load:load",
    "adopt": "synatlas.models.adopt:adopt",
    "record": "synatlas.record.record:record",
    "replay": "synatlas.record.record:replay",
    "phiid": "synatlas.decompose.series:phiid",
    "local_phiid": "synatlas.decompose.local:local_phiid",
    "local_units": "synatlas.decompose.local_units:local_units",
    "o_information": "synatlas.decompose.triplets:o_information",
    "pid": "synatlas.decompose.target:pid",
    "decompose": "synatlas.decompose.pipeline:decompose",
    "rank_units": "synatlas.rank.score:rank_units",
    "rank": "synatlas.rank.rank:rank",
    "select": "synatlas.rank.select:select",
    "topology": "synatlas.rank.topology:topology",
    "ablate": "synatlas.intervene.ablate:ablate",
    "ablation_tests": "synatlas.intervene.statistics:ablation_tests",
    "weight_noise": "synatlas.intervene.weights:weight_noise",
    "report": "synatlas.report.page:report",
    "save": "synatlas.artifact:save",
    "open": "synatlas.artifact:open_artifact",
    "MapConfig": "synatlas.config:MapConfig",
    "map": "synatlas.run:map",
}

__all__ = list(_PUBLIC)


# A room and the verb that enters it share a name (record, decompose, rank, report). Importing a
# room binds its module here; importing all of them now, while that is cheap, and dropping the
# bindings leaves the names to the verbs below.
for _room in ("models", "tasks", "record", "decompose", "rank", "report"):
    import_module(f"synatlas.{_room}")
    globals().pop(_room, None)
del _room


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        msg = f"module 'synatlas' has no attribute {name!r}"
        raise AttributeError(msg)
    module, attribute = _PUBLIC[name].split(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
