"""Exposure records: what the headers of raws say of exposures, days and groups, as dimension records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astropy.time import Time, TimeDelta

from ..imaging.camera import Camera
from ..vocabulary.timespan import Timespan
from .raw_headers import RawFacts

if TYPE_CHECKING:
    from ..butler.butler import Butler


def insert_exposures(butler: Butler, camera: Camera, facts: Sequence[RawFacts], *, replace: bool) -> None:
    """Insert the records of exposures, and of the days and groups they belong to, unless they are there.

    Parameters
    ----------
    butler : `Butler`
        Opened for writing.
    camera : `Camera`
        Whose exposures.
    facts : sequence of `RawFacts`
        Of the raws, several an exposure; the last of each counts.
    replace : `bool`
        Whether exposure records that exist are replaced.
    """
    exposures = {f.exposure_id: f for f in facts}
    days = {f.day_obs for f in exposures.values()}
    groups = {f.group for f in exposures.values()}
    offset_hours = float(camera.raw.get("header", {}).get("day_offset_hours", 0.0))
    registry = butler.registry
    registry.insertDimensionData(
        "day_obs",
        *(
            {"instrument": camera.name, "id": day, "timespan": _day_timespan(day, offset_hours)}
            for day in sorted(days)
        ),
        skip_existing=True,
    )
    registry.insertDimensionData(
        "group", *({"instrument": camera.name, "name": g} for g in sorted(groups)), skip_existing=True
    )
    registry.insertDimensionData(
        "exposure",
        *(_exposure_record(f) for f in exposures.values()),
        replace=replace,
        skip_existing=not replace,
    )


def _exposure_record(facts: RawFacts) -> dict[str, Any]:
    on_sky = facts.observation_type not in ("bias", "dark")

    def known(value: float) -> float | None:
        return value if value == value else None

    return {
        "instrument": facts.instrument,
        "id": facts.exposure_id,
        "obs_id": facts.obs_id,
        "day_obs": facts.day_obs,
        "group": facts.group,
        "physical_filter": facts.physical_filter,
        "exposure_time": known(facts.exposure_time_s),
        "dark_time": known(facts.dark_time_s),
        "observation_type": facts.observation_type,
        "observation_reason": facts.observation_reason,
        "seq_num": facts.seq_num,
        "seq_start": facts.seq_num,
        "seq_end": facts.seq_num,
        "target_name": facts.object_name,
        "science_program": facts.science_program,
        "tracking_ra": known(facts.ra_deg) if on_sky else None,
        "tracking_dec": known(facts.dec_deg) if on_sky else None,
        "sky_angle": known(facts.rotation_deg) if on_sky else None,
        "azimuth": known(facts.azimuth_deg),
        "zenith_angle": known(facts.zenith_angle_deg),
        "has_simulated": False,
        "can_see_sky": on_sky,
        "timespan": _timespan(facts),
    }


def _timespan(facts: RawFacts) -> Timespan:
    """Return when the exposure was taken; a bias takes no time, but must lie in a calibration's validity."""
    timespan = Timespan(facts.begin, facts.end)
    if timespan.isEmpty():
        begin = Timespan(facts.begin).begin_ns
        timespan = Timespan(begin, begin + 1)
    return timespan


def _day_timespan(day_obs: int, offset_hours: float) -> Timespan:
    """Return the 24 hours of an observing day, which begins ``-offset_hours`` after midnight UTC."""
    text = str(day_obs)
    begin = Time(f"{text[:4]}-{text[4:6]}-{text[6:]}T00:00:00", scale="utc") - TimeDelta(
        offset_hours * 3600.0, format="sec"
    )
    return Timespan(begin.tai, (begin + TimeDelta(86400.0, format="sec")).tai)
