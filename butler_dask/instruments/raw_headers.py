"""Raw headers: from a file's cards to the facts of one observation.

Two ways lead from cards to `RawFacts`: a translator class of ``astro_metadata_translator`` (the field's own
package, which knows the history of an observatory's headers), or a header mapping in the camera file, for
instruments it does not know.

Cards an HSC raw needs
----------------------
The camera files ``hsc`` and ``hsc_small`` use the HSC translator. What it reads:

============== ==================================================================================
card           meaning (example of exposure 903344, detector 5)
============== ==================================================================================
INSTRUME       'Hyper Suprime-Cam'
EXP-ID         'HSCA90334400': letter A, six digits of the exposure number, 00 (or 'HSCE00903344')
FRAMEID        'HSCA90334407': any frame of it
DET-ID         5, the detector number
T_CCDSN        serial number of the detector, a string
DATE-OBS       '2013-06-17', UTC date only
UT-STR UT-END  '13:32:51.100', UTC of begin and end
UT, MJD        mid values: '13:33:06.0' and 56460.564653 (MJD is needed, it dates the detector numbering)
EXPTIME        30.0 [s]
FILTER01       'HSC-R' (letter case ignored)
DATA-TYP       'OBJECT' (science), 'BIAS', 'DARK', 'DOMEFLAT', 'SKYFLAT'
OBJECT         target name
PROP-ID        programme
RA2000 DEC2000 '21:22:59.982', '+00:30:00.07': the boresight, ICRS
INST-PA        0.0 [deg]: position angle of the focal plane's +y is 270 - INST-PA
AIRMASS        1.12
ALTITUDE       63.04 [deg]
AZIMUTH        226.69 [deg]
FOC-VAL        3.7
OUT-TMP        272.35 [K]; OUT-PRS 621.7 [hPa]; OUT-HUM 33.1 [%]
T_GAIN1..4     gain of each channel [e-/ADU]; optional, the camera file's hold without them
============== ==================================================================================

Flats are told by DATA-TYP (domeflat, skyflat); `RawFacts.observation_type` calls both "flat".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astropy.time import Time, TimeDelta

from ..errors import UNREADABLE, RawIngestError, did_you_mean
from ..imaging.camera import Camera
from ..imaging.visit_info import VisitInfo

_OBSERVATION_TYPES = {
    "object": "science",
    "domeflat": "flat",
    "skyflat": "flat",
    "dome flat": "flat",
    "zero": "bias",
}
_LONGEST_READOUT_S = 3600.0
"""An end of an exposure later than this after its shutter closed, or before that, is something else."""

_TRANSLATED = (
    "exposure_id",
    "visit_id",
    "detector_num",
    "physical_filter",
    "exposure_time",
    "dark_time",
    "datetime_begin",
    "datetime_end",
    "observation_type",
    "observation_reason",
    "object",
    "science_program",
    "tracking_radec",
    "boresight_rotation_angle",
    "boresight_airmass",
    "altaz_begin",
    "observing_day",
    "observation_counter",
    "observation_id",
    "exposure_group",
)


@dataclass(frozen=True, slots=True)
class RawFacts:
    """Facts of one raw file; NaN, empty strings and None stand for unknown.

    Parameters
    ----------
    instrument : `str`
        Camera name.
    exposure_id, visit_id, detector : `int`
        Numbers that name it.
    physical_filter : `str`
        As the camera file spells it.
    exposure_time_s, dark_time_s : `float`
        Open-shutter and dark time [s].
    begin, end : `astropy.time.Time`
        TAI.
    observation_type : `str`
        science, bias, dark, flat, ...
    observation_reason, object_name, science_program, obs_id, group : `str`
        As in the header.
    ra_deg, dec_deg, rotation_deg : `float`
        Boresight, ICRS, and position angle of the focal plane's +y [deg].
    airmass, azimuth_deg, zenith_angle_deg : `float`
        At the begin.
    day_obs : `int`
        Observing day, YYYYMMDD.
    seq_num : `int`
        Number within the day or the instrument's life.
    """

    instrument: str
    exposure_id: int
    visit_id: int
    detector: int
    physical_filter: str
    exposure_time_s: float
    dark_time_s: float
    begin: Time
    end: Time
    observation_type: str
    observation_reason: str
    object_name: str
    science_program: str
    obs_id: str
    group: str
    ra_deg: float
    dec_deg: float
    rotation_deg: float
    airmass: float
    azimuth_deg: float
    zenith_angle_deg: float
    day_obs: int
    seq_num: int

    @property
    def has_pointing(self) -> bool:
        """Whether the sky position and rotation are known."""
        return all(v == v for v in (self.ra_deg, self.dec_deg, self.rotation_deg))

    def visit_info(self) -> VisitInfo:
        """Return what processing needs, as the component of an exposure."""
        return VisitInfo(
            exposure_id=self.exposure_id,
            exposure_time_s=self.exposure_time_s,
            dark_time_s=self.dark_time_s,
            begin_tai=self.begin.isot,
            end_tai=self.end.isot,
            boresight_ra_deg=self.ra_deg,
            boresight_dec_deg=self.dec_deg,
            rotation_angle_deg=self.rotation_deg,
            airmass=self.airmass,
            observation_type=self.observation_type,
            object_name=self.object_name,
            instrument=self.instrument,
        )


def translate_header(header: Mapping[str, Any], camera: Camera, *, path: str = "") -> RawFacts:
    """Translate a raw file's header.

    Parameters
    ----------
    header : mapping
        The cards; an `astropy.io.fits.Header` will do.
    camera : `Camera`
        Whose ``raw`` says how.
    path : `str`, optional
        File, for messages.

    Raises
    ------
    RawIngestError
        If a card is missing or makes no sense, or the filter or detector is not one of the camera's.
    """
    where = f"raw file {path!r}" if path else "raw header"
    try:
        if "translator" in camera.raw:
            facts = _by_translator(header, camera, path)
        elif "header" in camera.raw:
            facts = _by_mapping(header, camera)
        else:
            raise RawIngestError(
                f"The camera file of {camera.name!r} says neither raw.translator nor raw.header, "
                f"so {where} cannot be understood."
            )
    except KeyError as error:
        raise RawIngestError(f"{where}: {_message_of(error)}") from error
    except (*UNREADABLE, RuntimeError) as error:
        if isinstance(error, RawIngestError):
            raise
        raise RawIngestError(f"{where}: the header cannot be translated: {error}") from error
    if facts.detector not in camera.detectors:
        raise RawIngestError(
            f"{where}: camera {camera.name!r} has no detector {facts.detector}; "
            f"it has {len(camera)} between {min(camera.detectors)} and {max(camera.detectors)}."
        )
    return facts


def recognises(header: Mapping[str, Any], camera: Camera) -> bool:
    """Tell whether a header is from the camera's instrument.

    Parameters
    ----------
    header : mapping
        The cards.
    camera : `Camera`
        Whose ``raw`` says how to tell.
    """
    if "translator" in camera.raw:
        return bool(_translator_class(camera).can_translate(header))
    match = camera.raw.get("header", {}).get("match", {})
    return bool(match) and _header_fits(match, header)


def _message_of(error: KeyError) -> str:
    return str(error.args[0]) if error.args else "a card is missing"


def _translator_class(camera: Camera) -> Any:
    # 0.1 s, which cameras with a header mapping do without.
    import astro_metadata_translator.translators  # noqa: F401 -- registers the translators
    from astro_metadata_translator import MetadataTranslator

    name = camera.raw["translator"]
    known = MetadataTranslator.translators
    if name not in known:
        raise RawIngestError(
            f"The camera file of {camera.name!r} asks for translator {name!r}, which "
            f"astro_metadata_translator does not have.{did_you_mean(str(name), known)}"
        )
    return known[name]


def _by_translator(header: Mapping[str, Any], camera: Camera, path: str) -> RawFacts:
    from astro_metadata_translator import ObservationInfo  # here for the same reason as in _translator_class

    info = ObservationInfo(
        dict(header),  # a copy, since the translator writes its fixes into what it is given
        filename=path or None,
        translator_class=_translator_class(camera),
        pedantic=False,
        subset=set(_TRANSLATED),
        required={"exposure_id", "detector_num", "datetime_begin", "exposure_time", "observation_type"},
    )
    sky = info.tracking_radec
    rotation = info.boresight_rotation_angle
    altaz = info.altaz_begin
    exposure_time = float(info.exposure_time.to_value("s"))
    begin = info.datetime_begin.tai
    begin.format = "isot"
    end = info.datetime_end.tai if info.datetime_end is not None else begin + info.exposure_time
    if not 0.0 <= (end - begin).sec - exposure_time < _LONGEST_READOUT_S:
        # The time a file reached the archive, say, hours later (DTUTC of some DECam headers).
        end = begin + info.exposure_time
    end.format = "isot"
    return RawFacts(
        instrument=camera.name,
        exposure_id=int(info.exposure_id),
        visit_id=int(info.visit_id if info.visit_id is not None else info.exposure_id),
        detector=int(info.detector_num),
        physical_filter=_filter_name(camera, info.physical_filter),
        exposure_time_s=exposure_time,
        dark_time_s=float(info.dark_time.to_value("s")) if info.dark_time is not None else exposure_time,
        begin=begin,
        end=end,
        observation_type=_OBSERVATION_TYPES.get(info.observation_type, info.observation_type),
        observation_reason=info.observation_reason or "unknown",
        object_name=info.object or "",
        science_program=info.science_program or "",
        obs_id=info.observation_id or str(info.exposure_id),
        group=info.exposure_group or str(info.exposure_id),
        ra_deg=_known_or_nan(None if sky is None else sky.icrs.ra.deg),
        dec_deg=_known_or_nan(None if sky is None else sky.icrs.dec.deg),
        rotation_deg=_known_or_nan(None if rotation is None else rotation.deg),
        airmass=_known_or_nan(info.boresight_airmass),
        azimuth_deg=_known_or_nan(None if altaz is None else altaz.az.deg),
        zenith_angle_deg=_known_or_nan(None if altaz is None else 90.0 - altaz.alt.deg),
        day_obs=int(info.observing_day if info.observing_day is not None else begin.strftime("%Y%m%d")),
        seq_num=int(info.observation_counter or 0),
    )


def _by_mapping(header: Mapping[str, Any], camera: Camera) -> RawFacts:
    rules: Mapping[str, Any] = camera.raw["header"]

    def value(name: str, default: Any = None) -> Any:
        rule = rules.get(name)
        return default if rule is None else _value_of_rule(name, rule, header)

    time_rule = rules["begin"]
    begin = Time(str(_value_of_rule("begin", time_rule, header)), scale=time_rule.get("scale", "utc")).tai
    begin.format = "isot"
    exposure_time = float(value("exposure_time_s", float("nan")))
    duration = exposure_time if exposure_time == exposure_time else 0.0
    id_rule = rules["exposure_id"]
    if id_rule.get("rule") == "seconds_since":
        exposure_id = int((begin - Time(id_rule["epoch"], scale="tai")).sec)
    else:
        exposure_id = int(_value_of_rule("exposure_id", id_rule, header))
    day = begin.utc + TimeDelta(float(rules.get("day_offset_hours", 0.0)) * 3600.0, format="sec")
    altitude = float(value("altitude_deg", float("nan")))
    return RawFacts(
        instrument=camera.name,
        exposure_id=exposure_id,
        visit_id=int(value("visit_id", exposure_id)),
        detector=int(value("detector", 0)),
        physical_filter=_filter_name(camera, value("physical_filter")),
        exposure_time_s=exposure_time,
        dark_time_s=float(value("dark_time_s", exposure_time)),
        begin=begin,
        end=begin + TimeDelta(duration, format="sec"),
        observation_type=_type_by_rules(rules.get("observation_type", ()), header),
        observation_reason=str(value("observation_reason", "unknown")).lower(),
        object_name=str(value("object", "")),
        science_program=str(value("science_program", "")),
        obs_id=str(value("obs_id", "")) or str(exposure_id),
        group=str(value("group", exposure_id)),
        ra_deg=float(value("ra_deg", float("nan"))),
        dec_deg=float(value("dec_deg", float("nan"))),
        rotation_deg=float(value("rotation_deg", float("nan"))),
        airmass=float(value("airmass", float("nan"))),
        azimuth_deg=float(value("azimuth_deg", float("nan"))) % 360.0,
        zenith_angle_deg=90.0 - altitude,
        day_obs=int(day.strftime("%Y%m%d")),
        seq_num=int(value("seq_num", 0)),
    )


def _value_of_rule(name: str, rule: Any, header: Mapping[str, Any]) -> Any:
    """Evaluate one rule of a header mapping.

    A rule is ``{keyword, default, pattern, unit, scale_factor, offset}`` or ``{constant}``: the card's value,
    the first group of ``pattern`` where given, sexagesimal hours or degrees turned into degrees with ``unit``
    (``hourangle`` or ``deg``), then ``value * scale_factor + offset``.
    """
    if not isinstance(rule, Mapping):
        return rule
    if "constant" in rule:
        return rule["constant"]
    keyword = rule["keyword"]
    result = header.get(keyword, rule.get("default"))
    if result is None or result == "":
        if "default" in rule:
            return rule["default"]
        raise KeyError(f"card {keyword!r}, needed for {name}, is missing")
    if "pattern" in rule:
        found = re.search(rule["pattern"], str(result))
        if found is None:
            raise ValueError(f"card {keyword} = {result!r}, needed for {name}, is not {rule['pattern']!r}")
        result = found.group(1)
    if rule.get("unit"):
        from astropy.coordinates import Angle  # 0.1 s, which headers in degrees do without

        result = float(Angle(result, unit=rule["unit"]).deg)
    if "scale_factor" in rule or "offset" in rule:
        result = float(result) * float(rule.get("scale_factor", 1.0)) + float(rule.get("offset", 0.0))
    return result.strip() if isinstance(result, str) else result


def _header_fits(conditions: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    for keyword, wanted in conditions.items():
        found = header.get(keyword)
        if found is None:
            return False
        if isinstance(wanted, str):
            if not fnmatch.fnmatchcase(str(found).strip(), wanted):
                return False
        elif float(found) != float(wanted):
            return False
    return True


def _type_by_rules(rules: Any, header: Mapping[str, Any]) -> str:
    for rule in rules:
        if _header_fits(rule.get("when", {}), header):
            return str(rule["is"])
    return "unknown"


def _filter_name(camera: Camera, name: str | None) -> str:
    """Return the camera's spelling of a filter; frames without light may carry none."""
    try:
        return camera.filter(name or "empty").physical_filter
    except KeyError as error:
        raise KeyError(f"{error.args[0]} Add it to the filters of the camera file.") from None


def _known_or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)
