"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .migration import migrate as migrate, plan_migration as plan_migration
from .registry import Registry as Registry

# The reference's names come from the package above; a stub that is read at run time cannot name it.
def __getattr__(name: str) -> object: ...
