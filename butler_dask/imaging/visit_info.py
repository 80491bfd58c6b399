"""VisitInfo: the facts of one observation that processing needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VisitInfo:
    """Facts of one observation; NaN and empty strings stand for unknown.

    Parameters
    ----------
    exposure_id : `int`
        Exposure (visit) number.
    exposure_time_s, dark_time_s : `float`
        Open-shutter time and time since the last clear [s].
    begin_tai, end_tai : `str`
        ISO times, TAI scale.
    boresight_ra_deg, boresight_dec_deg, rotation_angle_deg : `float`
        Pointing, ICRS [deg], and the sky's position angle of the focal plane's +y [deg].
    airmass : `float`
        Airmass at mid-exposure.
    observation_type, object_name, instrument : `str`
        As translated from the header.
    """

    exposure_id: int = 0
    exposure_time_s: float = float("nan")
    dark_time_s: float = float("nan")
    begin_tai: str = ""
    end_tai: str = ""
    boresight_ra_deg: float = float("nan")
    boresight_dec_deg: float = float("nan")
    rotation_angle_deg: float = float("nan")
    airmass: float = float("nan")
    observation_type: str = ""
    object_name: str = ""
    instrument: str = ""
