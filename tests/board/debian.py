"""Packages from Debian's other suites and architectures, by the mirror that this machine already has; no source of the machine is
touched. `fetch` has the emulated board's kernel and programs, once, in a cache; `.ci/setup-arm` takes Rust's source so.
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


class Apt:
    """apt on the machine's Debian mirror for any suite and architecture, with its own state below a folder."""

    def __init__(self, root: Path, suite: str, arch: str):
        state = root / "apt"
        for folder in ("lists/partial", "cache/archives/partial", "etc"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (state / "sources.list").write_text(f"deb [signed-by={keyring} arch={arch}] {mirror()} {suite} main\n")
        (state / "apt.conf").write_text(
            f'Dir::State "{state}"; Dir::State::Lists "{state}/lists"; Dir::State::status "{state}/status";\n'
            f'Dir::Cache "{state}/cache"; Dir::Etc::SourceList "{state}/sources.list"; Dir::Etc::SourceParts "-";\n'
            'APT::Update::Error-Mode "any";\n'  # a mirror that does not answer is not one that lacks a package
            f'APT::Architecture "{arch}"; APT::Architectures {{ "{arch}"; }}; Acquire::Languages "none"; APT::Sandbox::User "root";\n'
        )
        self.env = dict(os.environ, APT_CONFIG=str(state / "apt.conf"))
        self.root = root
        self.run("apt-get", "update", "-qq")

    def run(self, *args: str, cwd: Path | None = None) -> str:
        """What a command of apt prints."""
        done = subprocess.run(args, env=self.env, cwd=cwd or self.root, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"{' '.join(args)}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def download(self, *packages: str) -> list[Path]:
        """The packages' files, below the folder; the caller unpacks and removes them."""
        debs = self.root / "debs"
        debs.mkdir(exist_ok=True)
        self.run("apt-get", "download", "-qq", *packages, cwd=debs)
        return list(debs.glob("*.deb"))


def fetch(cache: Path) -> Guest:
    """The guest's parts, from the cache or from the mirror."""
    root = cache / SUITE
    done = root / "complete"
    if done.exists():
        return Guest(root)
    apt = Apt(root, SUITE, "arm64")
    # The kernel that the suite names today, so that nothing here grows old.
    depends = apt.run("apt-cache", "depends", "linux-image-arm64")
    image = re.search(r"Depends: (linux-image-\S+)", depends)
    if not image:
        raise Missing(f"{SUITE} names no linux-image-arm64")
    for deb in apt.download(image.group(1), *PACKAGES):
        place = "kernel" if deb.name.startswith("linux-image") else "busybox" if deb.name.startswith("busybox") else "sysroot"
        subprocess.run(["dpkg-deb", "-x", deb, root / place], check=True)
        deb.unlink()
    done.write_text(image.group(1) + "\n")
    return Guest(root)
