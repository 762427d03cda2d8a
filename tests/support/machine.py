"""A Debian in a directory that boots a real systemd, under systemd-nspawn, as root.

    debian("bookworm")              # by debootstrap, once; kept for the next time
    fresh_machine("bookworm")       # a copy of it, with this checkout inside
    machine = Machine()
    machine.boot()
    machine.says("systemctl is-active buffettsbot-http")

Everything is in .host/ of this checkout. The machine shares this host's network.
"""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".host"
ROOTFS = HOME / "machine"
CHECKOUT = "/root/buffettsbot"  # this checkout, inside
NEEDED = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
}


class Failed(Exception):
    """Something is not as it should be."""


class Cannot(Exception):
    """This place cannot boot a machine."""


def missing() -> list[str]:
    """Return what this place lacks."""
    lacks = [] if os.geteuid() == 0 else ["root"]
    return lacks + [
        f"{tool} (package {name})" for tool, name in NEEDED.items() if not shutil.which(tool)
    ]


VARIABLES = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LOGNAME": "root",
    "USER": "root",
    "LANG": "C.UTF-8",
}


class Machine:
    """A booted Debian: a process here, a whole host inside."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def boot(self) -> None:
        """Start its systemd. Raises Cannot when that does not come up here."""
        self.process = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
                *(f"--directory={ROOTFS}", "--machine=buffettsbot-test", "--console=pipe"),
                *("--resolv-conf=replace-host", "--link-journal=no"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                assert self.process.stdout is not None
                raise Cannot(self.process.stdout.read().decode("utf-8", "replace").strip())
            with contextlib.suppress(OSError, ValueError, IndexError):
                self.leader = int(children.read_text().split()[0])
                state = self("systemctl is-system-running", fine=None).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise Cannot("systemd did not come up within 60 s")

    def off(self) -> None:
        """Shut it down in order, as a host is; by force if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)

    def __call__(
        self,
        command: str,
        *,
        fine: int | None = 0,
        env: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside; it has to exit with `fine` (None: however)."""
        done = subprocess.run(
            self._inside(command),
            env=VARIABLES | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if fine is not None and done.returncode != fine:
            raise Failed(
                f"{command}\nexited with {done.returncode}, not {fine}\n{done.stdout[-3000:]}\n"
                f"{done.stderr[-3000:]}"
            )
        return done

    def _inside(self, command: str) -> list[str]:
        enter = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root")
        return ["nsenter", f"--target={self.leader}", *enter, "sh", "-c", f"cd /root && {command}"]

    def typed(
        self, command: str, answers: Sequence[str], *, env: dict[str, str], timeout: float = 300
    ) -> str:
        """Run a command on a terminal, answer what it asks (`…: `); return what was seen."""
        here, there = pty.openpty()
        process = subprocess.Popen(
            self._inside(command), env=VARIABLES | env, stdin=there, stdout=there, stderr=there
        )
        os.close(there)
        seen, left, begun = "", list(answers), time.monotonic()
        while time.monotonic() - begun < timeout:
            if not select.select([here], [], [], 1)[0]:
                continue
            try:
                seen += os.read(here, 4096).decode("utf-8", "replace")
            except OSError:  # the other side is gone
                break
            if left and seen.endswith(": "):
                os.write(here, left.pop(0).encode() + b"\n")
        os.close(here)  # hangs up, should it still run
        if process.wait(20) or left:
            raise Failed(f"{command} on a terminal exited with {process.returncode}\n{seen}")
        return seen

    def journal(self) -> str:
        """Return what was said last."""
        return self("journalctl --no-pager -o short-monotonic -n 40", fine=None).stdout

    def says(self, command: str, **options: Any) -> str:
        """Return what a command wrote to stdout."""
        return self(command, **options).stdout.strip()

    def active(self, unit: str) -> str:
        """Return a unit's state."""
        return self.says(f"systemctl is-active '{unit}'", fine=None)


def debian(release: str) -> None:
    """Make a minimal Debian, once; it takes a minute or two."""
    base = HOME / release
    if (base / "etc" / "debian_version").exists():
        return
    shutil.rmtree(base, ignore_errors=True)
    partial = HOME / f"{release}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    log = HOME / "debootstrap.log"
    packages = "systemd,systemd-sysv,dbus,ca-certificates,procps,adduser"
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={packages}", release]
    mirror = [_mirror()] if _mirror() else []
    with log.open("wb") as output:
        done = subprocess.run(
            [*bootstrap, str(partial), *mirror],
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=900,
        )
    if done.returncode:
        raise Cannot(f"debootstrap failed: {log.read_text()[-1500:]}")
    shutil.rmtree(partial / "var/cache/apt/archives", ignore_errors=True)
    partial.rename(base)


def _is_bookworm() -> bool:
    about = Path("/etc/os-release").read_text()
    return "VERSION_CODENAME=bookworm" in about and "\nID=debian" in f"\n{about}"


def _mirror() -> str:
    """Return where this Debian itself gets its packages; elsewhere debootstrap knows best."""
    if not _is_bookworm():
        return ""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"^bookworm (\S+)", listed, re.MULTILINE)
    return found[1].rstrip("/") if found else ""


def fresh_machine(release: str) -> None:
    """Lay out the machine anew: Debian, the ways this host gets packages, and this checkout."""
    shutil.rmtree(ROOTFS, ignore_errors=True)
    subprocess.run(["cp", "-a", HOME / release, ROOTFS], check=True)
    if _is_bookworm():
        places = ["apt.conf.d"]
        if release == "bookworm":
            (ROOTFS / "etc/apt/sources.list").unlink(missing_ok=True)
            places += ["sources.list", "sources.list.d"]
        for place in places:
            source = Path("/etc/apt") / place
            if source.exists():
                subprocess.run(["cp", "-a", "-T", source, ROOTFS / "etc/apt" / place], check=True)
    _lend_pip()
    (ROOTFS / "var/log/journal").mkdir(parents=True, exist_ok=True)
    postgresql = ROOTFS / "etc/postgresql-common"
    postgresql.mkdir(parents=True)
    # The port may be taken on this host: the machine's PostgreSQL needs its socket only.
    (postgresql / "createcluster.conf").write_text("listen_addresses = ''\ninitdb_options = ''\n")
    checkout(ROOTFS / CHECKOUT.lstrip("/"))


def _lend_pip() -> None:
    """Let the machine's pip find packages as this host's does."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    options = dict(re.findall(r"^\S*\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    kept = {k: v for k, v in options.items() if k in ("index-url", "cert", "proxy", "trusted-host")}
    lines = [f"{name} = {value}" for name, value in kept.items()]
    bundle = kept.get("cert")
    if bundle and Path(bundle).is_file():
        target = ROOTFS / bundle.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, target)
    (ROOTFS / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def checkout(target: Path) -> None:
    """Copy this checkout, without what git does not keep."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
