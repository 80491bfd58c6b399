"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .exposure import Exposure as Exposure
from .picture import draw_exposure as draw_exposure, write_picture as write_picture
from .skymap import SkyMap as SkyMap
