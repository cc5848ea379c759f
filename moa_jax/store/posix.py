"""What POSIX has and Windows has not: locks of files, a signal before the end, memory used."""

from moa_jax.errors import UnsupportedSystem

try:
    import fcntl
    import resource
    from signal import SIGUSR1
except ImportError:
    raise UnsupportedSystem(
        "expected Linux or macOS, whose file locks and signals runs need, found neither; on "
        "Windows use WSL, see BUILD.md"
    ) from None

__all__ = ["SIGUSR1", "fcntl", "resource"]
