"""`generate`: everything in a task folder that is not the user's own to write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.scaffold import project, wheel
from nlp_skills.scaffold.ledger import Ledger, State
from nlp_skills.schema import export, yaml
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.workspace import digest, lineage, lock, naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

FOLDERS = ("data/raw", "scripts", "configs", "models", "benchmarks", "docs")
TEMPLATES = Path(__file__).parent / "templates"
SCHEMAS = ".nlp-skills/schemas"


@dataclass(frozen=True)
class Generated:
    """What became of each file, by its path in the task folder; `kept` ones have a NAME.new beside them."""

    version: str
    files: dict[str, State]

    @property
    def kept(self) -> list[str]:
        """Files a user changed, whose new text stands in NAME.new."""
        return [name for name, state in self.files.items() if state == "kept"]


def generate(folder: TaskFolder) -> Generated:
    """Make or refresh the task's folders, scripts, project file and wheel, and its current version.

    Raises:
        Invalid: task.yaml says nothing about training, or names versions by another strategy than those there are.
        Unavailable: a file cannot be written, or this nlp-skills is not installed and cannot be packed.
    """
    with lock.writing(folder):
        _name_first_version(folder)
        task, version = folder.task(), folder.version()
        config, packed = _config(task, version), wheel.build()
        _make_folders(folder, version)
        ledger = Ledger(folder.root)
        try:
            states = _put_version(ledger, version, config)
            states |= {
                name: ledger.put(name, content)
                for name, content in _files(task, _sources(folder), version.config(), packed)
            }
            states |= _remove_old_wheels(ledger, packed.name)
        finally:
            # What was written before an interruption is known to be ours the next time.
            ledger.save()
        digest.write(folder)
    return Generated(version.name, states)


def _name_first_version(folder: TaskFolder) -> None:
    """Until there is a version, task.yaml's `version` may be of another strategy than the one a person chose since."""
    task, names = folder.task(), folder.version_names()
    if names:
        naming.refuse_mixing(task.versioning, [*names, task.version], file=folder.task_path)
    elif not naming.fits(task.versioning, task.version):
        yaml.change(folder.task_path, {("version",): naming.first_name(task.versioning)})


def _config(task: Task, version: VersionFolder) -> Config:
    """The current version's configuration: its own file once there is one, task.yaml's until then."""
    if task.training is not None:
        return Config.model_validate(task.training.model_dump())
    if version.config_path.is_file():
        return version.config()
    raise Invalid(
        _("task.yaml does not say how to train"),
        file=version.task_root / "task.yaml",
        cause=_("the key {name} is missing", name="training"),
        mend=_("add it, with at least a base model: training: {{base_model: {model}}}", model="Qwen/Qwen3-4B"),
    )


def _make_folders(folder: TaskFolder, version: VersionFolder) -> None:
    for name in (*FOLDERS, f"versions/{version.name}"):
        path = files.inside(folder.root, name)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.storage_problem(error, path) from error


def _sources(folder: TaskFolder) -> DataSource:
    """data_source.yaml, which may not be there yet."""
    return folder.sources() if folder.sources_path.exists() else DataSource()


def _files(task: Task, sources: DataSource, config: Config, packed: wheel.Wheel) -> Iterator[tuple[str, bytes]]:
    for path in sorted((TEMPLATES / "scripts").glob("*.py")):
        yield f"scripts/{path.name}", path.read_bytes()
    yield ".gitignore", (TEMPLATES / "gitignore").read_bytes()
    yield "docs/README.md", _readme(task).encode()
    for name in export.DOCUMENTS:
        yield f"{SCHEMAS}/{name}.schema.json", export.text(name).encode()
    yield f"vendor/{packed.name}", packed.content
    extras = project.extras_of(config.base_model, sources.sources)
    extras |= {"remote"} if task.execution.type != "local" else set()
    yield "pyproject.toml", project.text(task.task_name, extras, packed.name).encode()


def _readme(task: Task) -> str:
    from jinja2 import Environment, FileSystemLoader

    # Markdown, not HTML: escaping would show in the text.
    engine = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=False, keep_trailing_newline=True)  # noqa: S701
    return engine.get_template("README.md.j2").render(task=task, _=_)


def _remove_old_wheels(ledger: Ledger, current: str) -> dict[str, State]:
    old = [name for name in ledger.hashes if name.startswith("vendor/") and name != f"vendor/{current}"]
    return {name: "removed" for name in old if ledger.remove(name)}


def _put_version(ledger: Ledger, version: VersionFolder, config: Config) -> dict[str, State]:
    """config.yaml and lineage.yaml of the current version.

    A configuration follows task.yaml until a person changes it or a run has used it; then it is the record.
    """
    name = version.config_path.relative_to(version.task_root).as_posix()
    used = version.status_path.exists() or version.model_info_path.exists()
    states: dict[str, State] = {name: "unchanged"}
    if not version.config_path.exists() or (ledger.is_ours(name) and not used):
        states[name] = ledger.put(name, yaml.dumps(config.dump(), header=_schema_line("config")).encode())
    if not version.lineage_path.exists():
        lineage.ensure(version, changes=[_("initial version")])
        text = version.lineage_path.read_text(encoding="utf-8")
        files.write_text(version.lineage_path, _schema_line("lineage") + text)
        states[version.lineage_path.relative_to(version.task_root).as_posix()] = "written"
    return states


def _schema_line(document: str) -> str:
    return f"# yaml-language-server: $schema=../../{SCHEMAS}/{document}.schema.json\n"
