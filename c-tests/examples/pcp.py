# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the tests of examples/pcp.c share."""

import os
import shutil
import tempfile
from pathlib import Path

from cases import Skip

FOLDERS = {"disk": Path.cwd(), "tmpfs": Path("/dev/shm")}
SLOW = ["-q", "1", "-b", "4K"]  # about a second for a file of SLOW_SIZE
SLOW_SIZE = 64 << 20


class Folder(tempfile.TemporaryDirectory):
    """An empty folder to work in, on disk or on tmpfs."""

    def __init__(self, place="disk", direct=False, room=64 << 20):
        parent = FOLDERS[place]
        if not parent.is_dir():
            raise Skip(f"there is no {parent}")
        if shutil.disk_usage(parent).free < room:
            raise Skip(f"less than {room >> 20} MiB are free in {parent}")
        super().__init__(prefix="pcp-", dir=parent)
        if direct:
            try:
                os.close(os.open(f"{self.name}/probe", os.O_CREAT | os.O_DIRECT, 0o600))
            except OSError as error:
                self.cleanup()
                raise Skip(f"no O_DIRECT in {parent}: {error.strerror}")
            os.unlink(f"{self.name}/probe")

    def __enter__(self):
        os.chmod(self.name, 0o755)
        return Path(self.name)
