"""The errors that a caller can meet. Each maps to one status of the C library.

Every message says what was expected, what came and what to do.
"""


class GenieError(Exception):
    """Root of all errors that genie-rt raises on purpose."""


class ConfigError(GenieError):
    """A configuration holds a value, or a combination of values, that no model can have."""


class BundleError(GenieError):
    """A bundle, checkpoint or clip store is missing, broken, tampered with, or of another schema."""


class UnsupportedError(GenieError):
    """This device, dtype, back end or missing extra cannot do what was asked."""


class StateError(GenieError):
    """The call is right but came at the wrong time, such as `step` before `reset`."""


class DeviceError(GenieError):
    """The device failed: out of memory, NaN or Inf in the logits."""


class InputError(GenieError, ValueError):
    """An argument from outside (picture, action, video, number) is not what the call accepts."""
