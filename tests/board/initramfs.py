"""Builds the guest's initramfs (cpio, newc): busybox, programs with their libraries, kernel modules in the order they need."""

import lzma
import os
import re
import subprocess
from pathlib import Path

from debian import Guest, Missing

FOLDERS = "proc sys dev tmp run root etc lib bin sbin usr/bin modules".split()
APPLETS = (
    "sh mount umount insmod ls cat echo sleep poweroff reboot uname date grep head tail sed mkdir ln cut tr wc printf test ps kill time seq "
    "awk cp mv rm sync env chmod basename dirname dd timeout stty df base64 mkfifo usleep pidof killall true false find"
).split()


class Cpio:
    """A newc archive in memory."""

    def __init__(self):
        self.parts, self.seen = [], set()

    def add(self, name: str, mode: int, data: bytes = b"", device=(0, 0)):
        name = name.strip("/")
        if name in self.seen:
            return
        folder = os.path.dirname(name)
        if folder:
            self.add(folder, 0o40755)
        self.seen.add(name)
        path = name.encode() + b"\0"
        fields = (len(self.seen), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + path
        for part in (head, data):
            self.parts.append(part + b"\0" * (-len(part) % 4))

    def bytes(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self.parts)


def read_module(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def add_modules(archive: Cpio, guest: Guest, wanted: list[str]):
    """Modules and what they depend on, each after its needs; one that is built into the kernel is passed over."""
    known = {p.name.split(".ko")[0].replace("-", "_"): p for p in guest.modules().glob("kernel/**/*.ko*")}
    order: list[str] = []

    def need(name: str):
        name = name.replace("-", "_")
        if name in order or name not in known:
            return
        data = read_module(known[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", b"\0" + data)
        for other in depends.group(1).decode().split(",") if depends else []:
            need(other) if other else None
        order.append(name)
        archive.add(f"modules/{name}.ko", 0o100644, data)

    for name in wanted:
        need(name)
    archive.add("modules/order", 0o100644, "".join(m + "\n" for m in order).encode())


def add_programs(archive: Cpio, guest: Guest, programs: list[Path]):
    """Programs and the shared libraries that they name."""
    libraries = guest.sysroot / "usr/lib/aarch64-linux-gnu"
    seen = set()

    def needed(path: Path) -> list[str]:
        text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
        return re.findall(r"NEEDED.*\[(.*)\]", text)

    def library(name: str):
        if name in seen:
            return
        seen.add(name)
        path = (libraries / name).resolve()
        if not path.exists():
            raise Missing(f"library {name} is in none of the guest's packages")
        archive.add(f"lib/aarch64-linux-gnu/{name}", 0o100755, path.read_bytes())
        for other in needed(path):
            library(other)

    for program in programs:
        archive.add(f"usr/bin/{program.name}", 0o100755, program.read_bytes())
        for name in needed(program):
            library(name)
    archive.add("lib/ld-linux-aarch64.so.1", 0o120777, b"aarch64-linux-gnu/ld-linux-aarch64.so.1")
    library("ld-linux-aarch64.so.1")


def build(guest: Guest, init: Path, modules: list[str], programs: list[Path], files: dict[str, Path]) -> bytes:
    """`files`: paths in the guest and where their contents are here."""
    archive = Cpio()
    for folder in FOLDERS:
        archive.add(folder, 0o40755)
    archive.add("dev/console", 0o20600, device=(5, 1))
    archive.add("dev/null", 0o20666, device=(1, 3))
    archive.add("bin/busybox", 0o100755, guest.busybox.read_bytes())
    for applet in APPLETS:
        archive.add(f"bin/{applet}", 0o120777, b"busybox")
    add_modules(archive, guest, modules)
    guest_programs = [guest.sysroot / "usr/bin" / name for name in ("v4l2-ctl", "gpioset")]
    add_programs(archive, guest, programs + guest_programs)
    archive.add("init", 0o100755, init.read_bytes())
    for name, path in files.items():
        archive.add(name, 0o100755, path.read_bytes())
    return archive.bytes()
