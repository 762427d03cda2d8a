"""The walls between the rooms: each import-linter contract is seen to fail on a wrong import."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import buffettsbot

ROOT = Path(buffettsbot.__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]

# A file, and an import that must not be in it; between them they break every contract.
WRONG = {
    "http/metrics.py": "import buffettsbot.cli.shared.output",
    "core/offers/plans.py": "import buffettsbot.core.ledger.claims",
    "core/chain/judge.py": "import buffettsbot.core.chain.tron.tronscan",
    "core/chain/transaction.py": "import sqlalchemy",
    "core/messages/markup.py": "import buffettsbot.core.messages.words",
    "core/members/users.py": "import buffettsbot.core.members.grants",
    "core/ledger/payments.py": "import buffettsbot.core.ledger.settlement",
    "core/telegram/pacing.py": "import buffettsbot.core.telegram.group",
    "core/outbox/queue.py": "import httpx",
    "http/sandbox/spec.py": "import buffettsbot.core.money",
}


def _verdicts(directory: Path) -> dict[str, str]:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return dict(re.findall(r"^(.+) (KEPT|BROKEN)$", done.stdout, re.MULTILINE))


def test_each_wall_is_seen_to_hold(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "buffettsbot", tmp_path / "buffettsbot", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    names = [contract["name"] for contract in CONTRACTS["contracts"]]
    assert _verdicts(tmp_path) == dict.fromkeys(names, "KEPT")

    unplanned = tmp_path / "buffettsbot" / "core" / "cellar.py"
    unplanned.touch()
    rooms = "the rooms of the core: who may know whom"
    assert _verdicts(tmp_path) == dict.fromkeys(names, "KEPT") | {rooms: "BROKEN"}
    unplanned.unlink()

    for file, line in WRONG.items():
        with (tmp_path / "buffettsbot" / file).open("a") as module:
            module.write(f"\n{line}\n")
    assert _verdicts(tmp_path) == dict.fromkeys(names, "BROKEN")
