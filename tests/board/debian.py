"""Fetches Debian's arm64 kernel and the few programs that the guest needs, once, into a cache.

Uses the Debian mirror that this machine already has, with an apt state of its own; no source of the machine is touched.
"""

import glob
import os
import re
import subprocess
from pathlib import Path

SUITE = os.environ.get("TAGPIN_BOARD_SUITE", "trixie")
PACKAGES = [
    "busybox-static", "libc6", "libgcc-s1", "libstdc++6",
    "v4l-utils", "libv4l-0t64", "libv4lconvert0t64", "libjpeg62-turbo", "gpiod", "libgpiod3",
]


class Missing(Exception):
    """Something that the board cannot do without, and why it is not there."""


class Guest:
    """What the guest is made of: kernel, modules, busybox, programs and their libraries."""

    def __init__(self, root: Path):
        self.kernel_root = root / "kernel"
        self.sysroot = root / "sysroot"
        self.busybox = root / "busybox/usr/bin/busybox"

    def kernel(self) -> Path:
        return Path(glob.glob(str(self.kernel_root / "boot/vmlinuz-*"))[0])

    def modules(self) -> Path:
        return Path(glob.glob(str(self.kernel_root / "usr/lib/modules/*"))[0])

    def device_tree(self, name: str) -> Path:
        return Path(glob.glob(str(self.kernel_root / "usr/lib/linux-image-*/broadcom"))[0]) / name


def mirror() -> str:
    texts = [open(f).read() for f in glob.glob("/etc/apt/sources.list.d/*.sources") + glob.glob("/etc/apt/sources.list")]
    for text in texts:
        found = re.search(r"^URIs:\s*(\S+/debian)/?\s*$", text, re.M) or re.search(r"^deb .*?(https?://\S+/debian)/? ", text, re.M)
        if found:
            return found.group(1)
    raise Missing("no Debian mirror among this machine's apt sources")


def fetch(cache: Path) -> Guest:
    """The guest's parts, from the cache or from the mirror."""
    root = cache / SUITE
    done = root / "complete"
    if done.exists():
        return Guest(root)
    state = root / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "etc"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (state / "sources.list").write_text(f"deb [signed-by={keyring} arch=arm64] {mirror()} {SUITE} main\n")
    (state / "apt.conf").write_text(
        f'Dir::State "{state}"; Dir::State::Lists "{state}/lists"; Dir::State::status "{state}/status";\n'
        f'Dir::Cache "{state}/cache"; Dir::Etc::SourceList "{state}/sources.list"; Dir::Etc::SourceParts "-";\n'
        'APT::Architecture "arm64"; APT::Architectures { "arm64"; }; Acquire::Languages "none"; APT::Sandbox::User "root";\n'
    )
    env = dict(os.environ, APT_CONFIG=str(state / "apt.conf"))

    def apt(*args: str, cwd: Path = root) -> str:
        done = subprocess.run(args, env=env, cwd=cwd, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"{' '.join(args)}: {done.stderr.strip()[-300:]}")
        return done.stdout

    apt("apt-get", "update", "-qq")
    # The kernel that the suite names today, so that nothing here grows old.
    depends = apt("apt-cache", "depends", "linux-image-arm64")
    image = re.search(r"Depends: (linux-image-\S+)", depends)
    if not image:
        raise Missing(f"{SUITE} names no linux-image-arm64")
    debs = root / "debs"
    debs.mkdir(exist_ok=True)
    apt("apt-get", "download", "-qq", image.group(1), *PACKAGES, cwd=debs)
    for deb in debs.glob("*.deb"):
        place = "kernel" if deb.name.startswith("linux-image") else "busybox" if deb.name.startswith("busybox") else "sysroot"
        subprocess.run(["dpkg-deb", "-x", deb, root / place], check=True)
        deb.unlink()
    done.write_text(image.group(1) + "\n")
    return Guest(root)
