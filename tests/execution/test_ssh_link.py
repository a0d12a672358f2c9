"""The link to a server, against real ones: settings, keys, strangers' keys, silence, shells that speak."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_sql import free_port
from fixtures_ssh import Far

from nlp_skills.errors import Problem
from nlp_skills.execution.ssh import connection
from nlp_skills.execution.ssh.connection import Connection, Unreachable

ME = getpass.getuser()
Serve = Callable[..., Far]


def refused(host: str) -> Problem:
    """How a host is refused; whatever it is, it does not take long."""
    begun = time.monotonic()
    with pytest.raises(Problem) as told, Connection(host) as link:
        link.run(["true"])
    assert time.monotonic() - begun < 10
    assert told.value.exit_code == 3 and told.value.mend, told.value.as_dict()
    return told.value


def in_a_shell(text: str | None, home: Path) -> None:
    """Run the command at the end of a mend, as a user would."""
    assert text is not None
    command = re.split(r"(?:same|anew): ", text)[-1]
    subprocess.run(["sh", "-c", command], check=True, env={**os.environ, "HOME": str(home)}, capture_output=True)


def echo(host: str) -> str:
    with Connection(host) as link:
        return link.run(["echo", "it's me"]).out


@pytest.fixture
def behind(serve: Serve) -> tuple[Far, Far]:
    """A server that only a second one leads to, both named in a file that ~/.ssh/config includes; keys of their own."""
    gpu, jump = serve("gpu"), serve("jump")
    for far, name in ((gpu, "work"), (jump, "door")):
        (gpu.ssh / name).write_bytes(far.server.key.read_bytes())
        (gpu.ssh / name).chmod(0o600)
    (gpu.ssh / "id_ed25519").unlink()
    (gpu.ssh / "conf.d").mkdir()
    (gpu.ssh / "conf.d" / "gpu").write_text(
        f"Host gpu\n  HostName 127.0.0.1\n  Port {gpu.server.port}\n  User {ME}\n  IdentityFile ~/.ssh/work\n"
        f"  ProxyJump door\nHost door\n  HostName 127.0.0.1\n  Port {jump.link.port}\n  User {ME}\n"
        '  IdentityFile "~/.ssh/door"\n'
    )
    (gpu.ssh / "config").write_text("# mine\nInclude conf.d/*\nHost unrelated\n  Port 1\n")
    gpu.known.write_text(gpu.server.known() + jump.server.known(jump.link.port))
    return gpu, jump


def test_a_name_of_the_settings_through_a_jump_host(behind: tuple[Far, Far]) -> None:
    _gpu, jump = behind
    with Connection("gpu") as link:
        assert link.run(["echo", "through"]).out == "through\n"
        passed = jump.link.passed
        assert passed > 0
        # The program ssh is led to the same place, though it looks for settings and keys in another home.
        command = [*link.ssh_command(), str(link.options["name"]), "echo by ssh"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.stdout == "by ssh\n", done.stderr
        assert jump.link.passed > passed
        kept = Path(command[2])
    assert not kept.exists()


def test_a_command_as_the_way_there(behind: tuple[Far, Far]) -> None:
    gpu, jump = behind
    settings = (gpu.ssh / "conf.d" / "gpu").read_text()
    way = f"ProxyCommand ssh -F {gpu.ssh}/plain -o UserKnownHostsFile={gpu.known} -W %h:%p door"
    (gpu.ssh / "plain").write_text(settings.replace("~", str(gpu.home)))
    (gpu.ssh / "conf.d" / "gpu").write_text(settings.replace("ProxyJump door", way))
    assert echo("gpu") == "it's me\n" and jump.link.passed > 0
    (gpu.ssh / "conf.d" / "gpu").write_text(settings.replace("ProxyJump door", "ProxyCommand false"))
    assert isinstance(refused("gpu"), Unreachable)
    (gpu.ssh / "conf.d" / "gpu").write_text(settings.replace("ProxyJump door", "ProxyCommand ls /no/such/way"))
    assert "/no/such/way" in str(refused("gpu").cause)


def test_a_jump_host_that_is_not_known_is_refused_too(behind: tuple[Far, Far]) -> None:
    gpu, jump = behind
    gpu.known.write_text(gpu.server.known())
    told = refused("gpu")
    assert told.message == f"the key of [127.0.0.1]:{jump.link.port} is not known here"
    with Connection("gpu") as link:
        command = [*link.ssh_command(), "gpu", "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 255 and "verification failed" in done.stderr
    in_a_shell(told.mend, gpu.home)
    assert echo("gpu") == "it's me\n"


def test_a_jump_host_that_does_not_lead_on(behind: tuple[Far, Far]) -> None:
    gpu, _jump = behind
    gpu.server.stop()
    told = refused("gpu")
    assert isinstance(told, Unreachable) and "door does not lead there" in str(told.cause)


@pytest.mark.parametrize("before", ["", "# a line without an end", None])
def test_a_host_nobody_has_met_is_refused_until_its_key_is_accepted(far: Far, before: str | None) -> None:
    if before is None:
        far.known.unlink()
    else:
        far.known.write_text(before)
    told = refused(far.host)
    public = subprocess.run(["ssh-keygen", "-lf", far.server.folder / "host_key.pub"], capture_output=True, text=True)
    assert public.stdout.split()[1] in str(told.cause) and told.message.endswith("is not known here")
    in_a_shell(told.mend, far.home)
    assert echo(far.host) == "it's me\n"


def test_a_key_that_has_changed(serve: Serve) -> None:
    own = serve()
    old = own.server.known(own.link.port)
    own.server.stop()
    own.server.new_host_key()
    own.server.start()
    told = refused(own.host)
    assert told.message == f"the key of {own.host} has changed" and str(told.cause).count("SHA256:") == 2
    in_a_shell(told.mend, own.home)
    assert old not in own.known.read_text()
    again = refused(own.host)
    assert again.message.endswith("is not known here")


def test_a_machine_that_was_just_rented_keeps_the_first_key_it_shows(serve: Serve, tmp_path: Path) -> None:
    own, seen = serve(), tmp_path / "cluster" / "known_hosts"
    own.known.unlink()
    for _time in range(2):
        with Connection(own.host, first_seen=seen) as link:
            assert link.run(["true"]).code == 0
            done = subprocess.run([*link.ssh_command(), "127.0.0.1", "true"], capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
    assert seen.read_text() == own.server.known(own.link.port) and not own.known.exists()
    own.server.stop()
    own.server.new_host_key()
    own.server.start()
    with pytest.raises(Problem, match="has changed"), Connection(own.host, first_seen=seen) as link:
        link.run(["true"])


def locked(key: Path) -> None:
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", str(key)]
    subprocess.run(command, check=True, capture_output=True)


def test_a_key_with_a_passphrase_is_for_the_agent(far: Far, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = far.ssh / "id_ed25519"
    open_copy = tmp_path / "open"
    open_copy.write_bytes(key.read_bytes())
    open_copy.chmod(0o600)
    locked(key)
    told = refused(far.host)
    assert f"with a passphrase that no SSH agent has taken off: {key}" in str(told.cause)
    assert told.mend == f"give the agent the key: ssh-add {key}"

    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            while not socket.exists():
                time.sleep(0.01)
            subprocess.run(["ssh-add", str(open_copy)], check=True, capture_output=True)
            assert echo(far.host) == "it's me\n"
            monkeypatch.delenv("SSH_AUTH_SOCK")
            (far.ssh / "config").write_text(f"Host *\n  IdentityAgent {socket}\n")
            assert echo(far.host) == "it's me\n"
            (far.ssh / "config").write_text("")
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        finally:
            agent.terminate()
    # The agent is gone, its address still in the environment.
    assert "ssh-add" in str(refused(far.host).mend)


def test_a_user_whom_nobody_knows_and_no_key_at_all(far: Far) -> None:
    told = refused(far.host.replace(ME, "nobody-of-this-name"))
    assert told.message.endswith("does not let us in") and "user nobody-of-this-name; keys shown: 1" in str(told.cause)
    (far.ssh / "id_ed25519").write_text("not a key\n")
    assert "not readable as a key" in str(refused(far.host).cause)
    (far.ssh / "id_ed25519").unlink()
    told = refused(far.host)
    assert "keys shown: 0" in str(told.cause) and "ssh-keygen -t ed25519" in str(told.mend)
    assert str(told.mend).endswith(f"ssh-copy-id -p {far.link.port} {ME}@127.0.0.1")


def test_a_server_that_takes_passwords_only(serve: Serve) -> None:
    own = serve(PubkeyAuthentication="no", PasswordAuthentication="yes")
    assert "it takes no keys, only: password" in str(refused(own.host).cause)


def test_nothing_there(far: Far) -> None:
    told = refused(f"{ME}@127.0.0.1:{free_port()}")
    assert isinstance(told, Unreachable) and told.cause == "nothing answers at its port"
    told = refused("gpu-server.invalid")
    assert isinstance(told, Unreachable) and told.cause == "no machine of that name"
    far.link.cut()
    assert isinstance(refused(far.host), Unreachable)


def test_settings_nobody_can_read_are_named(far: Far) -> None:
    (far.ssh / "config").write_text("Host gpu\n  Port many\n")
    told = refused("gpu")
    assert told.file == str(far.ssh / "config") and "many" in str(told.cause)


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, far: Far) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1.0)
    far.link.freeze()
    told = refused(far.host)
    assert isinstance(told, Unreachable)


@pytest.mark.parametrize("argv", [["true"], ["sh", "-c", "sleep 30"]])
def test_a_link_that_freezes_is_noticed_however_long_the_command(
    monkeypatch: pytest.MonkeyPatch, far: Far, argv: list[str]
) -> None:
    monkeypatch.setattr(connection, "BEAT_SECONDS", 0.2)
    with Connection(far.host) as link:
        assert link.run(["true"]).code == 0
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 1.0)
        threading.Timer(0.3 if "sleep 30" in argv else 0, far.link.freeze).start()
        time.sleep(0.1)
        begun = time.monotonic()
        with pytest.raises(Unreachable) as told:
            link.run(argv, timeout=600)
        assert time.monotonic() - begun < 8 and told.value.cause == "it does not answer in time"
        far.link.mend()
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 60.0)
        assert link.run(["true"]).code == 0, "the same object makes a new link"


def test_a_session_that_is_killed_between_commands_and_within_one(serve: Serve) -> None:
    own = serve()

    def kill() -> None:
        subprocess.run(["pkill", "-KILL", "-P", str(own.server._process.pid)], check=True)  # type: ignore[union-attr]

    with Connection(own.host) as link:
        link.run(["true"])
        kill()
        time.sleep(0.3)
        assert link.run(["echo", "again"]).out == "again\n"
        threading.Timer(0.3, kill).start()
        with pytest.raises(Unreachable):
            link.run(["sleep", "30"])
        threading.Timer(0.3, own.link.cut).start()
        with pytest.raises(Unreachable):
            link.run(["sleep", "30"])
        with pytest.raises(Unreachable):
            link.run(["true"])
        own.link.mend()
        assert link.run(["true"]).code == 0


def test_a_program_that_is_killed_is_no_broken_link(far: Far) -> None:
    with Connection(far.host) as link:
        assert link.run(["sh", "-c", "kill -9 $$"]).code in (-1, 137)
        assert link.run(["sh", "-c", "exit 7"]).code == 7


def test_much_on_both_streams_and_on_none(far: Far) -> None:
    flood = "import sys; sys.stderr.write('e' * 5_000_000); print('o' * 5_000_000); sys.exit(len(sys.stdin.read()))"
    with Connection(far.host) as link:
        ran = link.run(["python3", "-c", flood], given=b"xyz")
        assert (ran.code, len(ran.out), len(ran.err)) == (3, 5_000_001, 5_000_000)
        # Nobody reads what is given.
        assert link.run(["true"], given=b"x" * 10_000_000).code == 0
        assert link.run(["printf", "%s", "a 'b' \"c\" $d `e` 評論"]).out == "a 'b' \"c\" $d `e` 評論"


def test_a_shell_that_speaks_first_is_not_taken_for_the_program(serve: Serve, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / ".bashrc").write_text('echo "Welcome! {}"; echo careful >&2\n')
    own = serve(SetEnv=f"HOME={there}")
    with Connection(own.host) as link:
        ran = link.run(["sh", "-c", "echo $HOME"])
        if "careful" not in ran.err:
            pytest.skip("the login shell of who runs the tests reads no .bashrc")
        assert ran.out == f"{there}\n"


def test_a_shell_that_runs_nothing(serve: Serve) -> None:
    own = serve(ForceCommand="echo This account is for mail only.")
    told = refused(own.host)
    assert not isinstance(told, Unreachable) and told.cause == "This account is for mail only."


def test_a_server_without_file_transfer(serve: Serve) -> None:
    own = serve(Subsystem=None)
    with Connection(own.host) as link, pytest.raises(Problem, match="does not transfer files") as told:
        link.sftp()
    assert not isinstance(told.value, Unreachable) and "Subsystem sftp" in str(told.value.mend)


def test_a_file_that_cannot_be_written_is_no_broken_link(far: Far) -> None:
    with Connection(far.host) as link:
        session = link.sftp()
        with pytest.raises(Problem) as told, link.named():
            session.put(str(far.known), "/proc/nothing/here")
        assert not isinstance(told.value, Unreachable)
        assert link.run(["true"]).code == 0


def test_nothing_is_said_by_the_libraries(far: Far, capfd: pytest.CaptureFixture[str]) -> None:
    for host in (far.host, f"{ME}@127.0.0.1:{free_port()}"):
        far.known.write_text("")
        refused(host)
    far.link.limit = 300
    refused(far.host)
    time.sleep(0.2)
    assert capfd.readouterr() == ("", "")
