"""The versions of the libraries that a process has imported, and the instructions that it computes tensors with."""

import sys
from typing import Any, Final

IMPORTED: Final = "imported "
"""Prefix of the names of versions among the numerics of a record."""


def versions_as_imported() -> dict[str, str]:
    """`imported NAME` -> the version that each imported library reports, and `vector_unit` if torch is one.

    The version in a library's metadata is that of what was installed; a folder that comes first on the path, or an
    incomplete installation, trains with another one.
    """
    found = {
        f"{IMPORTED}{name}": version
        for name, module in sorted(sys.modules.items())
        if "." not in name and not name.startswith("_") and name not in sys.stdlib_module_names
        if isinstance(version := getattr(module, "__version__", None), str)
    }
    torch: Any = sys.modules.get("torch")
    return found | ({} if torch is None else {"vector_unit": str(torch.backends.cpu.get_cpu_capability())})
