"""Carries out a Dockerfile without Docker, in clean roots, and tries the image: it answers, brightens, and stops.

What is done is what the file says, step by step: each stage begins with a copy of a bare Debian with Python in place of
the `python:*-slim-bookworm` image, `RUN` runs in a chroot with the stage's user and environment only, `COPY` takes what
`.dockerignore` leaves of the files that git knows. Then the ENTRYPOINT is started as its user in a root that cannot be
written, with an empty `/tmp` and no network but its own loopback; the HEALTHCHECK must succeed, a dark picture must
come back brighter from `/enhance`, and SIGTERM must end it with status 0.

What this does not show: that the very image named by FROM has what the stand-in has, and Docker's own layers.

Needs root and, for the stand-in, debootstrap:

    python tools/replay_dockerfile.py --work /var/tmp/replay
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
# What a build takes from its machine: how to reach a package index. A container that runs gets none of it.
SETTINGS = ("PIP_", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
KNOWN = {"FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "LABEL"}
TRIAL = """
import io, json, sys, urllib.request
from PIL import Image
dark = Image.linear_gradient("L").resize((90, 60)).point(lambda level: level // 6).convert("RGB")
file = io.BytesIO()
dark.save(file, "PNG")
head = b'--x\\r\\nContent-Disposition: form-data; name="image"; filename="a.png"\\r\\n\\r\\n'
body = head + file.getvalue() + b"\\r\\n--x--\\r\\n"
kind = {"Content-Type": "multipart/form-data; boundary=x"}
request = urllib.request.Request("http://127.0.0.1:5000/enhance", body, kind)
with urllib.request.urlopen(request, timeout=120) as answer:
    bright = Image.open(io.BytesIO(answer.read())).convert("RGB")
    level = lambda image: sum(image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))) / 3
    assert bright.size == dark.size and level(bright) > 1.5 * level(dark), (level(dark), level(bright))
    page = urllib.request.urlopen("http://127.0.0.1:5000/", timeout=9).read()
    assert b"static/page.js" in page
    print(json.dumps({"model": answer.headers["X-Model"], "level": [round(level(dark)), round(level(bright))]}))
"""


@dataclasses.dataclass
class Stage:
    """What a stage has come to: its root and the settings of its image."""

    root: pathlib.Path
    env: dict[str, str] = dataclasses.field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    user: str = "0:0"
    workdir: str = "/"
    entrypoint: list[str] = dataclasses.field(default_factory=list)
    cmd: list[str] = dataclasses.field(default_factory=list)
    healthcheck: list[str] = dataclasses.field(default_factory=list)


def parse(text: str) -> list[tuple[str, str]]:
    """Returns the (instruction, value) pairs of a Dockerfile.

    Raises:
      ValueError: if there is an instruction that is not carried out here.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    steps = []
    for line in "\n".join(lines).replace("\\\n", " ").split("\n"):
        if not line.strip():
            continue
        name, _, value = line.strip().partition(" ")
        if name not in KNOWN:
            raise ValueError(f"`{name}` must be one of {', '.join(sorted(KNOWN))}. Received: '{line.strip()[:60]}'.")
        steps.append((name, " ".join(value.split()) if name != "RUN" else value.strip()))
    return steps


def context_files(names: Iterable[str], ignore: str) -> list[str]:
    """Returns those of `names` that a `.dockerignore` leaves; the last rule that fits a file or its folder decides."""
    rules = [line.strip() for line in ignore.splitlines() if line.strip() and not line.startswith("#")]
    kept = []
    for name in names:
        parts = name.split("/")
        places = [parts[:end] for end in range(1, len(parts) + 1)]
        ignored = False
        for rule in rules:
            pattern = rule.removeprefix("!").strip("/").split("/")
            if any(_fits(place, pattern) for place in places):
                ignored = not rule.startswith("!")
        if not ignored:
            kept.append(name)
    return kept


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a pattern, part by part; `**` at its head stands for any folders."""
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts)))
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def copy(sources: Sequence[str], target: str, base: pathlib.Path, files: Sequence[str], stage: Stage) -> None:
    """Carries out COPY: `files` are those of `base` that may be taken."""
    place = pathlib.PurePosixPath(stage.workdir) / target
    goal = stage.root / str(place).lstrip("/")
    for source in sources:
        inside = source.strip("/").removeprefix("./")
        one = base / inside
        if one.is_dir():
            for name in files:
                if name.startswith(f"{inside}/"):
                    copied = goal / name.removeprefix(f"{inside}/")
                    copied.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(base / name, copied, follow_symlinks=False)
        elif inside in files:
            into = goal / one.name if target.endswith("/") or len(sources) > 1 else goal
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(one, into)
        else:
            raise ValueError(f"`COPY {source}` must name a file of the build's context. Received: none such.")


def enter(stage: Stage, command: str, *, build: bool = True) -> list[str]:
    """Returns the command line that runs a shell command in a stage: in namespaces of its own, as its user."""
    root, bind = str(stage.root), "mount --bind"
    lines = [f"mount -t proc proc {root}/proc", f"{bind} /dev {root}/dev"]
    if build:
        for path in settings_files():
            spot = root + path
            make = f"mkdir -p {spot}" if os.path.isdir(path) else f"mkdir -p $(dirname {spot}); touch {spot}"
            lines.append(f"{make}; {bind} {path} {spot}")
    else:
        lines += [f"{bind} {root} {root}", f"mount -o remount,ro,bind {root}", f"mount -t tmpfs tmpfs {root}/tmp"]
        lines += [f"mount -t proc proc {root}/proc", f"{bind} /dev {root}/dev", "ip link set lo up"]
    env = {**stage.env, **({k: v for k, v in os.environ.items() if k.startswith(SETTINGS)} if build else {})}
    user, _, group = stage.user.partition(":")
    words = ["chroot", f"--userspec={user}:{group or user}", root, "/usr/bin/env", "-i", "-C", stage.workdir]
    words += [f"{key}={value}" for key, value in env.items()]
    lines.append(f"exec {shlex.join(words)} {command}")
    return ["unshare", "--mount", "--pid", "--fork", *([] if build else ["--net"]), "sh", "-ec", "\n".join(lines)]


def settings_files() -> list[str]:
    """Files and folders of this machine by which pip finds its index."""
    found = ["/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs", "/usr/share/ca-certificates"]
    found += [value for key, value in os.environ.items() if key.startswith(SETTINGS) and value.startswith("/")]
    return [path for path in dict.fromkeys(found) if os.path.exists(path)]


def build(text: str, work: pathlib.Path, base: pathlib.Path) -> Stage:
    """Carries out a Dockerfile; returns its last stage."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = context_files(listed.stdout.splitlines(), (ROOT / ".dockerignore").read_text(encoding="utf-8"))
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for number, (name, value) in enumerate(parse(text)):
        print(f"[{number}] {name} {value[:100]}", flush=True)
        if name == "FROM":
            image, _, alias = value.partition(" AS ")
            stage = Stage(work / f"stage{len(stages)}")
            shutil.rmtree(stage.root, ignore_errors=True)
            subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(stage.root)], check=True)
            stages[alias or image] = stage
        elif name == "RUN":
            subprocess.run(enter(stage, shlex.join(["/bin/sh", "-c", value])), check=True)
        elif name == "COPY":
            words = value.split()
            if words[0].startswith("--from="):
                other = stages[words.pop(0).removeprefix("--from=")].root
                subprocess.run(["cp", "-a", f"{other}{words[0]}", f"{stage.root}{words[1]}"], check=True)
            else:
                copy(words[:-1], words[-1], ROOT, files, stage)
        else:
            configure(stage, name, value)
    return stage


def configure(stage: Stage, name: str, value: str) -> None:
    """Carries out an instruction that changes an image's settings."""
    if name == "ENV":
        for word in shlex.split(value):
            key, _, setting = word.partition("=")
            stage.env[key] = re.sub(r"\$(\w+)", lambda match: stage.env.get(match[1], ""), setting)
    elif name == "WORKDIR":
        stage.workdir = str(pathlib.PurePosixPath(stage.workdir) / value)
        (stage.root / stage.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif name == "USER":
        stage.user = value
    elif name in ("ENTRYPOINT", "CMD"):
        setattr(stage, name.lower(), json.loads(value))
    elif name == "HEALTHCHECK":
        stage.healthcheck = json.loads(value.partition("CMD ")[2])


def try_image(stage: Stage, *arguments: str) -> dict[str, object]:
    """Starts an image as `docker run IMAGE ARGUMENTS` does, read-only and without a network; returns its answer."""
    command = shlex.join([*stage.entrypoint, *(arguments or stage.cmd)])
    start = time.monotonic()
    with subprocess.Popen(enter(stage, command, build=False), stdout=subprocess.DEVNULL) as outer:
        try:
            inner = wait_for_child(outer)
            inside = [
                "nsenter",
                "-t",
                str(inner),
                "-m",
                "-n",
                "-p",
                "chroot",
                "--userspec",
                stage.user,
                str(stage.root),
            ]
            inside += ["/usr/bin/env", "-i", *(f"{key}={value}" for key, value in stage.env.items())]
            while subprocess.run([*inside, *stage.healthcheck], capture_output=True).returncode:
                if outer.poll() is not None or time.monotonic() - start > 120:
                    raise RuntimeError(f"The image did not become healthy; status {outer.poll()}.")
                time.sleep(0.5)
            healthy = time.monotonic() - start
            ready = [*inside, "python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/readyz')"]
            while subprocess.run(ready, capture_output=True).returncode and time.monotonic() - start < 180:
                time.sleep(0.5)
            answer = subprocess.run([*inside, "python", "-c", TRIAL], capture_output=True, text=True)
            if answer.returncode:
                raise RuntimeError(f"The image did not enhance: {answer.stderr[-2000:]}")
            who = pathlib.Path(f"/proc/{inner}/status").read_text()
            os.kill(inner, 15)
            status = outer.wait(60)
        finally:
            outer.kill()
    user = re.search(r"^Uid:\s+(\d+)", who, re.MULTILINE)
    facts = json.loads(answer.stdout)
    return {"healthy_after_s": round(healthy, 1), "user": int(user[1]) if user else None, "status": status, **facts}


def wait_for_child(outer: subprocess.Popen[bytes]) -> int:
    """The process id of what runs in the namespaces: the child of `unshare`."""
    for _ in range(100):
        children = pathlib.Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children and pathlib.Path("/proc", children[0], "root").resolve() != pathlib.Path("/"):
            return int(children[0])
        time.sleep(0.1)
    raise RuntimeError("The image's process did not start.")


def make_base(target: pathlib.Path) -> None:
    """Makes the stand-in: Debian bookworm with its Python, called `python` and `pip` as in the official image."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=True
    )
    mirror = next(line for line in targets.stdout.splitlines() if "security" not in line)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(target), mirror]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name, original in (("python", "python3"), ("pip", "pip3")):
        (target / "usr/local/bin" / name).symlink_to(f"/usr/bin/{original}")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if everything went as the file says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dockerfile", type=pathlib.Path, default=ROOT / "Dockerfile")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the roots (3 GB)")
    parser.add_argument("--base", type=pathlib.Path, help="a root to begin with (default: WORK/base, made if absent)")
    parser.add_argument("--keep", action="store_true", help="leave the stages in WORK")
    parser.add_argument("arguments", nargs="*", help="of `docker run IMAGE ...` (default: --method sgz --method clahe)")
    args = parser.parse_args(argv)
    if os.geteuid():
        parser.error("root is needed, for chroot and mounts.")
    args.work.mkdir(parents=True, exist_ok=True)
    work = args.work.resolve()
    base = (args.base or work / "base").resolve()
    if not (base / "usr").is_dir():
        make_base(base)
    start = time.monotonic()
    stage = build(args.dockerfile.read_text(encoding="utf-8"), work, base)
    built = time.monotonic() - start
    result = try_image(stage, *(args.arguments or ["--method", "sgz", "--method", "clahe"]))
    added = subprocess.run(["du", "-sm", str(stage.root / "opt")], capture_output=True, text=True).stdout.split()[0]
    print(json.dumps({"built_s": round(built), "added_mb": int(added), **result}))
    if not args.keep:
        for folder in work.glob("stage*"):
            shutil.rmtree(folder)
    return 0 if result["status"] == 0 and result["user"] else 1


if __name__ == "__main__":
    sys.exit(main())
