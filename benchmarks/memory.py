"""Resident memory of processes, and of a bare interpreter with the imports that a model's runtime cannot do without.

Linux: VmRSS of /proc/<pid>/status, what `ps` shows. footprint.py calls it.
"""

import subprocess
import sys
from pathlib import Path

BYTES_PER_MB = 1_000_000

# What a runtime with a scikit-learn linear model has imported of other people's code. The unpickled model pulls in
# sklearn.linear_model by itself (12 MB more than `import sklearn` alone), so the comparison imports it too.
RUNTIME_IMPORTS = "sklearn.linear_model, zmq, numpy"
BARE_IMPORTS = "sklearn, zmq, numpy"


def resident_bytes(pid: int) -> int:
    """Return the resident memory of `pid`.

    Raises: FileNotFoundError: there is no such process.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def interpreter_bytes(imports: str) -> int:
    """Return the resident memory of a Python that has imported `imports` and done nothing else."""
    program = f"import {imports}; print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS:')))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout
    return int(printed.split()[1]) * 1024
