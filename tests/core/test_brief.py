"""A brief that is wrong is refused with one line that names the field, what was given and what is allowed."""

import json
import os
from pathlib import Path

import pytest

from components.core.brief import BYTES_MAX, Brief, DataBrief, base_of, parse_brief, read_brief
from components.core.errors import BriefError

MINIMAL = "name: digits\nmodality: image\ndata: {path: data/prepared/digits}\n"


def test_a_minimal_brief_has_every_default() -> None:
    brief = parse_brief(MINIMAL)
    assert (brief.goal, brief.conditioning, brief.compute.device, brief.serving.batch) == ("balanced", "none", "auto", 16)
    assert (brief.data.repo, brief.data.rev) == (".", "HEAD")
    assert brief.pretrained is None
    assert parse_brief(brief.model_dump_json()) == brief  # JSON is YAML


def test_a_record_has_a_repository_by_its_way_and_an_address_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    (tmp_path / "again").symlink_to(tmp_path / "clone")

    def recorded(repo: str) -> str:
        return DataBrief(path="digits", repo=repo).relative_to(tmp_path / "clone").repo

    assert recorded(str(tmp_path / "clone")) == recorded(str(tmp_path / "again")) == "."
    assert recorded(str(tmp_path / "data")) == "../data"
    for same in (".", "../data", "https://example.org/data.git", "git@example.org:data.git", "s3://bucket/data"):
        assert recorded(same) == same


def test_a_whole_path_of_data_becomes_its_way_from_the_repository(tmp_path: Path) -> None:
    """By its name there where a folder is a link to a larger disk, and by its place where the path goes through another name."""
    (tmp_path / "disk" / "digits").mkdir(parents=True)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "data").symlink_to(tmp_path / "disk")
    (tmp_path / "alias").symlink_to(tmp_path / "repo")
    (tmp_path / "repo" / "own").mkdir()

    def path_of(path: str) -> str:
        return DataBrief(path=str(tmp_path / path), repo="repo").relative_to(tmp_path).path

    assert (path_of("repo/data/digits"), path_of("alias/own"), path_of("repo/own/../data/digits")) == (
        "data/digits",
        "own",
        "data/digits",
    )


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("colour: red", "brief: colour: unknown key; allowed: name, modality, goal, conditioning, text, require, accept, data,"),
        ("serving: {latency: 50}", "brief: serving.latency: unknown key; allowed: latency_ms, batch"),
        (
            "compute: {dollars: 1}",
            "brief: compute.dollars: unknown key; allowed: items_seen, usd, gpu_hours, minutes, spend, device, workers, threads",
        ),
        ("override: {famly: gan}", "brief: override.famly: unknown key; allowed: family, variant, mode, delivery, config"),
        (
            "pretrained: {model: x, family: gan, kind: 1}",
            "brief: pretrained.kind: unknown key; allowed: model, family,",
        ),
        (
            "schedule: {crom: x}",
            "brief: schedule.crom: unknown key; allowed: cron, timezone, on_new_data, on_new_base, on_event,",
        ),
        ("gates: 5", "brief: gates: Input should be a mapping of keys (given: 5)"),
        ("goal: best", "brief: goal: Input should be 'balanced', 'quality', "),
        ("serving: {batch: many}", "brief: serving.batch: Input should be a valid integer"),
        ("serving: {batch: 0}", "brief: serving.batch: Input should be greater than or equal to 1 (given: 0)"),
        ("compute: {usd: -5}", "brief: compute.usd: Input should be greater than 0 (given: -5)"),
        ("compute: {usd: .inf}", "brief: compute.usd: Input should be a finite number"),
        ("compute: 5", "brief: compute: Input should be a mapping of keys (given: 5)"),
        ("compute: {usd: true}", "brief: compute.usd: Input should be a valid number (given: True)"),
        ('compute: {usd: "200"}', "brief: compute.usd: Input should be a valid number (given: '200')"),
        ("serving: {batch: 4.0}", "brief: serving.batch: Input should be a valid integer (given: 4.0)"),
        ("seed: true", "brief: seed: Input should be a valid integer (given: True)"),
        ("pretrained: {model: x, family: gan, in_domain: 'yes'}", "brief: pretrained.in_domain: Input should be a valid boolean"),
        ("pretrained: {model: '', family: gan}", "brief: pretrained.model: String should have at least 1 character"),
        ("goal: speed\ngoal: quality", "brief: not YAML at line 5: goal is given twice"),
        ("compute: {items_seen: 0}", "brief: compute.items_seen: Input should be greater than 0 (given: 0)"),
        ("compute: {items_seen: 1.5}", "brief: compute.items_seen: Input should be a valid integer"),
        ("compute: {memory_gb: 0}", "brief: compute.memory_gb: Input should be greater than 0 (given: 0)"),
        ("compute: {threads: 0}", "brief: compute.threads: Input should be greater than or equal to 1 (given: 0)"),
        ("compute: {spend: all}", "brief: compute: spend: all needs usd, gpu_hours or minutes, and no items_seen"),
        ("seed: -1", "brief: seed: Input should be greater than or equal to 0 (given: -1)"),
        ("pretrained: {family: gan}", "brief: pretrained.model: Field required"),
        ("seed: 010", "brief: seed: 010 given; YAML reads it as octal, 8; write 8 or 10"),
        ("compute: {minutes: 1:30}", "brief: compute.minutes: 1:30 given; YAML reads it in base 60; write 90 or 1.5"),
        ("schedule: {cron: 61 * * * *}", "brief: schedule.cron: '61 * * * *': bad minute; allowed: five fields"),
        ("schedule: {timezone: Berlin}", "brief: schedule.timezone: 'Berlin' given; allowed: a name of the IANA database"),
        ("schedule: {poll_minutes: 0}", "brief: schedule.poll_minutes: Input should be greater than or equal to 1 (given: 0)"),
        (
            "schedule: {on_event: a b}",
            "brief: schedule.on_event: 'a b' given; allowed: the name of an event: letters, digits, '.',",
        ),
        ("schedule: {on_event: 'prefect.*'}", "brief: schedule.on_event: 'prefect.*' given; allowed: the name of an event"),
        (f"schedule: {{on_event: {'a' * 101}}}", "brief: schedule.on_event: 'aaa"),
        ("schedule: {on_event: ''}", "brief: schedule.on_event: '' given; allowed: the name of an event"),
        (
            "schedule: {on_event: prefect.flow-run.Completed}",
            "brief: schedule.on_event: 'prefect.flow-run.Completed' given; allowed: of Prefect's own events those of",
        ),
        (
            "schedule: {on_new_base: true}",
            "brief: schedule.on_new_base: true without pretrained; allowed: with pretrained: {model: models:/NAME@ALIAS}",
        ),
        (
            "pretrained: {model: models:/digits/1}\nschedule: {on_new_base: true}",
            "brief: schedule.on_new_base: true with pretrained.model: 'models:/digits/1'; allowed: with pretrained:",
        ),
        (
            "pretrained: {model: hf:org/digits}\nschedule: {on_new_base: true}",
            "brief: schedule.on_new_base: true with pretrained.model: 'hf:org/digits'; allowed: with pretrained: {model:",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(more: str, line: str) -> None:
    with pytest.raises(BriefError) as caught:
        parse_brief(MINIMAL + more)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "more",
    [
        "schedule: {on_event: prefect.asset.materialization.succeeded}",
        f"schedule: {{on_event: {'a' * 100}}}",
        "schedule: {on_event: Data_ready-2.x, cron: '@daily'}",
        "pretrained: {model: models:/digits@champion}\nschedule: {on_new_base: true}",
        "pretrained: {model: models:/digits}\nschedule: {on_new_base: true}",
    ],
)
def test_events_and_bases_that_can_be_waited_for_are_taken(more: str) -> None:
    assert parse_brief(MINIMAL + more).schedule is not None


@pytest.mark.parametrize("name", ["Digits", "a b", "a/b", "", "-a", "é", "a" * 64, "a\n", "..", "models:/x"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(BriefError, match=r"brief: name: .* given; allowed: lower-case letters, digits, '-' and '_', at most 63"):
        parse_brief(MINIMAL.replace("digits", json.dumps(name), 1))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "brief: a mapping of keys is needed, a NoneType given; start from briefs/digits.yaml"),
        ("- a\n- b", "brief: a mapping of keys is needed, a list given; start from briefs/digits.yaml"),
        ("just words", "brief: a mapping of keys is needed, a str given; start from briefs/digits.yaml"),
        ("name: [", "brief: not YAML at line 1: "),
        ("name: a\n\tb: c", "brief: not YAML at line 2: "),
        ("a: \x00", "brief: not YAML"),
        (
            "name: !!python/object/apply:os.system [ls]",
            "brief: at line 1: the tag tag:yaml.org,2002:python/object/apply:os.system; a brief has none",
        ),
        ("modality: image\ndata: {path: x}", "brief: name: Field required"),
    ],
)
def test_what_is_no_brief_is_told_in_one_line(text: str, line: str) -> None:
    with pytest.raises(BriefError) as caught:
        parse_brief(text)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"modality": "text", "conditioning": "text"}, "conditioning: text is for images, audio and video"),
        ({"modality": "text", "goal": "latent"}, "goal: latent needs a VAE or an autoencoder, which do not fit text"),
        ({"goal": "reconstruction", "require": "[invertibility]"}, "only a flow is invertible"),
    ],
)
def test_combinations_that_cannot_be_are_refused(change: dict[str, str], line: str) -> None:
    fields = {"name": "x", "modality": "image", "data": "{path: x}"} | change
    with pytest.raises(BriefError, match=line):
        parse_brief("\n".join(f"{key}: {value}" for key, value in fields.items()))


def test_a_number_where_text_is_needed_goes_in_quotes() -> None:
    for rev in ("1234567", "12e5"):
        with pytest.raises(BriefError, match=r"data.rev: Input should be a valid string .*; for text put it in quotes"):
            parse_brief(MINIMAL.replace("digits}", f"digits, rev: {rev}}}"))
        assert parse_brief(MINIMAL.replace("digits}", f"digits, rev: '{rev}'}}")).data.rev == rev


def test_a_brief_means_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths in a brief are those of the repository that its file stands in, and are no part of its digest."""
    for marker in ("git/.git/HEAD", "worktree/.git", "dvc/.dvc/config", "git/inner/.dvc/config"):
        (tmp_path / marker).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / marker).touch()
    digests = set()
    for folder, base in (
        ("git", "git"), ("git/briefs/deep", "git"), ("worktree/a", "worktree"), ("dvc/a", "dvc"), ("git/inner/a", "git/inner"),
        ("plain/a", "plain/a"),
    ):  # fmt: skip
        brief = tmp_path / folder / "b.yaml"
        brief.parent.mkdir(parents=True, exist_ok=True)
        brief.write_text(MINIMAL)
        assert base_of(brief) == tmp_path / base
        monkeypatch.chdir(tmp_path / folder)
        assert base_of(Path("b.yaml")) == tmp_path / base
        digests.add(read_brief(Path("b.yaml")).digest())
    (tmp_path / "link.yaml").symlink_to(tmp_path / "git" / "briefs" / "deep" / "b.yaml")
    assert base_of(tmp_path / "link.yaml") == tmp_path / "git"
    assert len(digests) == 1


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(BriefError, match=r"nothing.yaml: no such file; name a brief, for example briefs/digits.yaml"):
        read_brief(tmp_path / "nothing.yaml")
    with pytest.raises(BriefError, match=r"cannot be read: .* a directory"):
        read_brief(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(128, 256)))
    with pytest.raises(BriefError, match=r"binary.yaml: cannot be read: .*can't decode byte"):
        read_brief(tmp_path / "binary.yaml")
    (tmp_path / "large.yaml").write_text("#" * (BYTES_MAX + 1))
    with pytest.raises(BriefError, match=r"large.yaml: larger than any brief; allowed: 100,000 bytes"):
        read_brief(tmp_path / "large.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    for place in (tmp_path / "pipe.yaml", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(BriefError, match="cannot be read: not a file"):  # which would never end, or be empty when read again
            read_brief(place)
    with pytest.raises(BriefError, match="cannot be read"):
        read_brief(Path("a\0b"))
    with pytest.raises(BriefError, match="cannot be read"):
        read_brief(Path("a" * 5000))
    for encoding in ("utf-16", "latin-1"):
        (tmp_path / "other.yaml").write_bytes(f"{MINIMAL}# é".encode(encoding))
        with pytest.raises(BriefError, match=r"other.yaml: cannot be read: .*save it as UTF-8"):
            read_brief(tmp_path / "other.yaml")
    (tmp_path / "good.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert isinstance(read_brief(tmp_path / "good.yaml"), Brief)
