"""A PostgreSQL of one's own: its programs, its folder, its databases. A password is asked for, from this machine too."""

import os
import pwd
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

from components.core.errors import RunError, SettingsError, disk_error
from components.core.files import write_whole
from components.operations.stack.stack import USER, Stack

INSTALL = "apt-get install postgresql, or brew install postgresql"


def program(name: str) -> str:
    """Debian and others put its programs on the path, or each version's into a folder of its own. Raises SettingsError."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)]))
    if found is None:
        raise SettingsError(f"up --team: no PostgreSQL on this machine (`{name}`)", do=INSTALL)
    return found


def check(stack: Stack) -> None:
    """Raises SettingsError where it cannot be started here."""
    for name in ("initdb", "postgres"):
        program(name)
    try:
        import psycopg2  # noqa: F401
    except ImportError as error:
        raise SettingsError("up --team: no driver for PostgreSQL", do="pip install 'genwright[postgres]'") from error
    if (user := owner()) is not None:
        stack.data("postgres").mkdir(parents=True, exist_ok=True)
        name = pwd.getpwuid(user).pw_name
        if _as_owner(["/bin/sh", "-c", 'cd "$0"', str(stack.data("postgres"))], cwd=Path("/")).returncode:
            what = f"up --team: PostgreSQL does not run as root, and the user {name} cannot enter {stack.data('postgres')}"
            raise SettingsError(what, do="set GENWRIGHT_HOME to a folder that all may enter, or run it as another user")


def owner() -> int | None:
    """Whose it is: PostgreSQL refuses to run as root. None: of whoever starts it."""
    if os.getuid() != 0:
        return None
    known = {each.pw_name: each.pw_uid for each in pwd.getpwall()}
    return known.get("postgres", known.get("nobody"))


def initialise(stack: Stack) -> None:
    """Make its folder, where there is none. Killed half-way, it is made anew."""
    folder = stack.data("postgres")
    data, new, told = folder / "data", folder / "new", folder / "password"
    if data.exists():
        return
    shutil.rmtree(new, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(told, stack.password.encode(), private=True)
        if (user := owner()) is not None:
            for path in (folder, told):
                os.chown(path, user, -1)
        asked = ("-U", USER, f"--pwfile={told}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
        made = _as_owner([program("initdb"), "-D", str(new), *asked], cwd=folder)
        if made.returncode:
            raise RunError(f"{folder}: PostgreSQL's initdb failed: {made.stderr.strip().splitlines()[-1]}")
        new.rename(data)
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        told.unlink(missing_ok=True)


def answers(stack: Stack) -> bool:
    import psycopg2

    try:
        psycopg2.connect(stack.database("postgres"), connect_timeout=5).close()
    except psycopg2.OperationalError:
        return False
    return True


def make_database(stack: Stack, name: str) -> None:
    """Where there is none."""
    import psycopg2

    with closing(psycopg2.connect(stack.database("postgres"), connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {name}")


def _as_owner(command: list[str], *, cwd: Path) -> "subprocess.CompletedProcess[str]":
    user = owner()
    rights = {} if user is None else {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(cwd), "LC_ALL": "C"}
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, **rights)  # type: ignore[call-overload, no-any-return]
