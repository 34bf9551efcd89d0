"""The exceptions that stablemd raises on purpose.

Every message says what was given, what was expected, and what to do.
"""


class StablemdError(Exception):
    """Base of every error that stablemd raises on purpose."""


class ConfigError(StablemdError, ValueError):
    """A configuration key is unknown, of the wrong type, or out of range."""


class DataError(StablemdError, ValueError):
    """Reference data are missing, inconsistent, or not finite."""


class SystemDefinitionError(StablemdError, ValueError):
    """A system (atoms, bonds, molecules, cell) is not consistent."""


class PotentialError(StablemdError, ValueError):
    """A potential can't do what was asked, or its weights do not fit."""


class SimulationError(StablemdError, RuntimeError):
    """A simulation can't start or can't continue."""


class CheckpointError(StablemdError, RuntimeError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class MissingDependencyError(StablemdError, ImportError):
    """An optional package is needed; the message names the extra to install."""
